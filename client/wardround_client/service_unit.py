"""The hospital daemon as a systemd service that may do what it needs, and little else.

It calls out, reads the data, writes into its directory. Memory that is written and run is not
forbidden (MemoryDenyWriteExecute): the numerical libraries compile kernels while they run.
(systemd.exec(5), "Sandboxing"; shown by `systemd-analyze security`)
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from wardround.errors import BadInput, why

UNITS = Path("/etc/systemd/system")
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_USER = re.compile(r"[a-z_][a-z0-9_.-]{0,30}\$?")
# What a unit file would take for more than a path: white space, quotes, \, $, ; and signs of lists.
_PLAIN = re.compile(r"/[^\s\"'\\$;]*")

_UNIT = """\
[Unit]
Description=Wardround hospital daemon of {hospital}
Wants=network-online.target
After=network-online.target

[Service]
User={user}
ExecStart={command} hospital serve {directory}
Restart=on-failure
RestartSec=30
UMask=0077
ReadWritePaths={directory}
{reads}Environment=FLWR_TELEMETRY_ENABLED=0
# where there is one: Environment=HTTPS_PROXY=http://proxy.example:3128
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome={home}
PrivateTmp=yes
PrivateDevices=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceUnit:
    """What a unit says: whose daemon, its directory, who runs it, the program, where the data lie.

    Paths are absolute. `command` is one program, or an interpreter with its arguments.
    """

    hospital: str
    directory: Path
    user: str
    command: tuple[str, ...]
    data: Path | None = None

    def text(self) -> str:
        """The unit file. Raises BadInput for user root, and for paths that a unit cannot name."""
        if self.user == "root" or not _USER.fullmatch(self.user):
            raise BadInput(
                f"service: user {self.user[:40]!r} came; the daemon needs no root: name a user of "
                "its own who owns the directory (--user)"
            )
        program, *arguments = self.command
        return _UNIT.format(
            hospital=self.hospital,
            user=self.user,
            command=" ".join([_word(Path(program)), *arguments]),
            directory=_word(self.directory),
            reads="" if self.data is None else f"ReadOnlyPaths={_word(self.data)}\n",
            home="read-only" if self._is_in_a_home() else "yes",
        )

    @property
    def name(self) -> str:
        """The unit's file name."""
        return f"wardround-{self.hospital}.service"

    def _is_in_a_home(self) -> bool:
        used = [self.directory, Path(self.command[0]), *([self.data] if self.data else [])]
        return any(path.is_relative_to(home) for path in used for home in _HOMES)


def own_command() -> tuple[str, ...]:
    """How this installation's `wardround` is called: the script beside the interpreter."""
    script = Path(sys.executable).with_name("wardround")
    return (str(script),) if script.exists() else (sys.executable, "-m", "wardround.cli.main")


def owner_of(directory: Path) -> str:
    """Who owns the directory, by name. Raises BadInput for an owner without one."""
    try:
        return directory.owner()
    except KeyError as error:
        raise BadInput(
            f"service: the owner of {directory.name} has no name here: name a user (--user)"
        ) from error


def install(unit: ServiceUnit, folder: Path) -> Path:
    """Write the unit into systemd's folder; the same one again changes nothing.

    Raises BadInput when another one is there, and where this user may not write.
    """
    path, content = folder / unit.name, unit.text()
    try:
        if path.exists():
            if path.read_text(encoding="utf-8") != content:
                raise BadInput(f"{path.name}: another one is there; remove it first")
            return path
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"{path.name}: cannot be written ({why(error)}): run this as root, or give "
            "--print and hand the unit to who administers the machine"
        ) from error
    path.chmod(0o644)
    return path


def _word(path: Path) -> str:
    text = str(path)
    if not _PLAIN.fullmatch(text):
        raise BadInput(
            f"service: the path of {path.name[:40]!r}: absolute, without spaces and quotes is due"
        )
    return text.replace("%", "%%")
