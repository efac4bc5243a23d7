"""What this machine's kernel says about ports and processes (proc(5)); nobody is asked."""

import os
import socket
from contextlib import suppress
from pathlib import Path


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether somebody listens on this port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_connected(pid: int) -> bool:
    """Whether the process has an established TCP connection (proc(5))."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = {row[9] for row in rows if row[3] == "01"}
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            target = str(descriptor.readlink())
            if target.startswith("socket:[") and target[8:-1] in established:
                return True
    return False


def living_with(marker: str) -> list[int]:
    """Processes, zombies aside, whose command line holds `marker`."""
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdigit() or int(path.name) == os.getpid():
            continue
        with suppress(OSError):
            zombie = path.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "Z"
            if not zombie and marker in path.joinpath("cmdline").read_text():
                found.append(int(path.name))
    return found
