"""`wardround doctor`: look whether everything is here that a hospital or a coordinator needs."""

import importlib.util
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_LEAST_DISK_BYTES = 2 << 30
_LEAST_MEMORY_BYTES = 2 << 30


class Role(StrEnum):
    """Which part is looked at."""

    HOSPITAL = "hospital"
    COORDINATOR = "coordinator"


class Finding(NamedTuple):
    """One check: what, whether it is well, and how to mend it when not."""

    what: str
    ok: bool
    found: str
    mend: str


@app.command()
def doctor(
    role: Annotated[Role | None, typer.Option(help="Look at one part only.")] = None,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", help="A hospital's or coordinator's directory: its certificate."),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check this installation: each line is ok, or a problem and how to fix it."""
    findings = [check() for check in _CHECKS] + _modules(role)
    if directory is not None:
        findings.append(_certificate_in(directory))
    if as_json:
        rows = [finding._asdict() for finding in findings]
        typer.echo(json.dumps({"ok": all(f.ok for f in findings), "checks": rows}))
    else:
        for finding in findings:
            mark = "ok     " if finding.ok else "PROBLEM"
            typer.echo(f"{mark}  {finding.what}: {finding.found}")
            if not finding.ok:
                typer.echo(f"         {finding.mend}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def _python() -> Finding:
    found = platform.python_version()
    return Finding("Python", sys.version_info[:2] == (3, 11), found, "install Python 3.11")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free >> 30} GB free here"
    return Finding("disk", free >= _LEAST_DISK_BYTES, text, "free 2 GB or use another disk")


def _memory() -> Finding:
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Finding("memory", size >= _LEAST_MEMORY_BYTES, f"{size >> 30} GB", "2 GB are due")


def _locks() -> Finding:
    """The ledger needs a file system that locks and syncs."""
    import fcntl

    with tempfile.TemporaryFile(dir=Path.cwd()) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fsync(file.fileno())
        except OSError as error:
            return Finding("file locks", False, type(error).__name__, "use a local file system")
    return Finding("file locks", True, "this folder locks and syncs", "")


def _keystream() -> Finding:
    """Both ways to make the masks' keystream against the known answer, and which one is used."""
    from wardround.errors import WardroundError
    from wardround.masking.keystream import ENGINES, fastest_engine, self_test

    what, found = "AES keystream", []
    for engine in ENGINES:
        try:
            self_test(engine.open)
        except WardroundError as error:
            return Finding(what, False, f"{engine.name}: {error}", "use another build of OpenSSL")
        found.append(f"{engine.name} gives the known answer")
    found.append(f"{fastest_engine().name} is the fastest here and makes the masks")
    return Finding(what, True, "; ".join(found), "")


def _certificate_in(directory: Path) -> Finding:
    from wardround.renewal import COORDINATOR_AUTHORITY

    is_coordinator = (directory / COORDINATOR_AUTHORITY).is_dir()
    return _own_certificate(directory) if is_coordinator else _certificate(directory)


def _own_certificate(directory: Path) -> Finding:
    """The coordinator's certificate, and the end of the authority that nothing outlives."""
    from wardround.errors import BadInput
    from wardround.renewal import (
        AUTHORITY_FILE,
        COORDINATOR_AUTHORITY,
        SERVER_FILE,
        certificate_of,
        days_left,
        is_due,
    )
    from wardround.ticket import format_time

    what, now, folder = "certificate", datetime.now(UTC), directory / COORDINATOR_AUTHORITY
    mend = (
        f"start the coordinator: wardround coordinator serve {directory.name}; it renews by "
        "itself, and its log says where it cannot"
    )
    try:
        authority = certificate_of((folder / AUTHORITY_FILE).read_bytes())
        last = f"its authority ends on {format_time(authority.not_valid_after_utc)}"
        if not (folder / SERVER_FILE).exists():
            return Finding(what, True, f"is made when the coordinator starts; {last}", "")
        held = certificate_of((folder / SERVER_FILE).read_bytes())
    except (OSError, BadInput) as error:
        return Finding(what, False, f"{type(error).__name__}: {error}", "restore a backup")
    ends = format_time(held.not_valid_after_utc)
    found = f"ends on {ends}, in {days_left(held, now)} days; {last}"
    if held.not_valid_after_utc == authority.not_valid_after_utc:
        mend = "the authority ends: make a new coordinator, and let the hospitals join it"
    return Finding(what, not is_due(held, now), found, mend)


def _certificate(directory: Path) -> Finding:
    """The hospital's certificate, before the daemon stops for the lack of one."""
    from wardround.errors import BadInput, why
    from wardround.renewal import CERTIFICATE_FILE, certificate_of, days_left, is_due
    from wardround.ticket import format_time

    what, now = "certificate", datetime.now(UTC)
    mend = f"wardround hospital renew {directory.name}; a running daemon does it by itself"
    try:
        held = certificate_of((directory / CERTIFICATE_FILE).read_bytes())
    except (OSError, BadInput) as error:
        join = f"wardround hospital join @TICKET --dir {directory.name}; or --dir is another folder"
        return Finding(what, False, f"{CERTIFICATE_FILE} in {directory.name}: {why(error)}", join)
    left = days_left(held, now)
    if left < 0:
        mend = "ask the coordinator for a renewal ticket: wardround invite NAME --renewal"
    found = f"ends on {format_time(held.not_valid_after_utc)}, in {left} days"
    return Finding(what, not is_due(held, now), found, mend)


_CHECKS: tuple[Callable[[], Finding], ...] = (_python, _disk, _memory, _locks, _keystream)

_PARTS = {
    Role.HOSPITAL: ("wardround_client", "torch", "opacus", "pandas", "pandera", "flwr"),
    Role.COORDINATOR: ("wardround_server", "torch", "flwr", "uvicorn", "httptools", "safetensors"),
}


def _modules(role: Role | None) -> list[Finding]:
    parts = _PARTS if role is None else {role: _PARTS[role]}
    extra = {Role.HOSPITAL: "client", Role.COORDINATOR: "server"}
    return [
        Finding(
            f"{part} needs {name}",
            importlib.util.find_spec(name) is not None,
            "there" if importlib.util.find_spec(name) else "missing",
            f"pip install 'wardround[{extra[part]}]'",
        )
        for part, names in parts.items()
        for name in names
    ]
