"""A PostgreSQL of the test's own, in a folder of its own, on a socket; ended by its process."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

READER, OWNER = "reader", "owner"
PASSWORD = "Wachtel-4711-geheim"  # of the test's own database


def programs() -> Path:
    """Where initdb and postgres are; the test is skipped where they are not installed."""
    found = shutil.which("initdb")
    places = (
        [Path(found).resolve().parent]
        if found
        else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    )
    if not places or not (places[-1] / "postgres").exists():
        pytest.skip("PostgreSQL is not installed")
    return places[-1]


@contextlib.contextmanager
def cluster() -> Iterator[Path]:
    """The folder of its socket, while it runs. Who is root runs it as another user: it insists."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        with _running(programs(), folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def url(folder: Path, user: str = READER, database: str = "postgres", **more: str) -> str:
    """The URL, with a password in it as a hospital's has."""
    query = "&".join(f"{key}={value}" for key, value in {"host": str(folder), **more}.items())
    return f"postgresql://{user}:{PASSWORD}@/{database}?{query}"


@contextlib.contextmanager
def _running(binaries: Path, folder: Path) -> Iterator[None]:
    own: dict[str, str] = {"user": _other_user()} if os.geteuid() == 0 else {}
    if own:
        shutil.chown(folder, own["user"])
    password = folder / "password"
    password.write_text(PASSWORD)
    password.chmod(0o644)
    data = folder / "data"
    initdb = [binaries / "initdb", "-D", data, "-U", OWNER, "-A", "scram-sha-256", "--no-sync"]
    subprocess.run(
        [*initdb, f"--pwfile={password}", "--encoding=UTF8", "--locale=C"],
        check=True, capture_output=True, cwd=folder, **own,
    )  # fmt: skip
    settings = ("listen_addresses=", "fsync=off", f"unix_socket_directories={folder}")
    options = [part for setting in settings for part in ("-c", setting)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, *options], stdout=log, stderr=log, cwd=folder, **own
        )
    try:
        ready = [binaries / "pg_isready", "-h", folder, "-t", "1", "-q"]
        while subprocess.run(ready, check=False).returncode:
            assert server.poll() is None, (folder / "log").read_text()
        yield
    finally:
        server.send_signal(signal.SIGINT)  # fast: it ends sessions and itself
        server.wait(timeout=30)


def _other_user() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
