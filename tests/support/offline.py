"""Run a command where loopback is the whole network, and count what wanted to leave it.

`unshare -n python -m tests.support.offline COUNT_FILE COMMAND...` in a fresh network namespace:
brings loopback up, runs the command, then writes how many packets or connections had no route
(OutNoRoutes of IPv4 and IPv6, proc(5)). The kernel counts for every process and every library.
"""

import fcntl
import socket
import struct
import subprocess
import sys
from pathlib import Path

_SIOCSIFFLAGS = 0x8914
_UP_AND_RUNNING = 0x41


def loopback_up() -> None:
    """What `ip link set lo up` does."""
    with socket.socket() as any_socket:
        request = struct.pack("16sH14s", b"lo", _UP_AND_RUNNING, b"")
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


def without_route() -> int:
    """How often something had no way out of this network so far."""
    names, values = (
        line.split()
        for line in Path("/proc/net/snmp").read_text().splitlines()
        if line.startswith("Ip:")
    )
    total = int(values[names.index("OutNoRoutes")])
    for line in Path("/proc/net/snmp6").read_text().splitlines():
        name, value = line.split()
        total += int(value) if name == "Ip6OutNoRoutes" else 0
    return total


def main() -> int:
    """Run the command of the command line; its exit code is ours."""
    loopback_up()
    done = subprocess.run(sys.argv[2:], check=False)
    Path(sys.argv[1]).write_text(str(without_route()))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
