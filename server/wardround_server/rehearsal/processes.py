"""Child processes of a rehearsal: started with one thread each, ended with it, whatever happens."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from wardround.errors import WardroundError

_PR_SET_PDEATHSIG = 1
_GRACE_S = 5.0
_LAST_LINES = 12


def command(*words: str) -> list[str]:
    """The command line of `wardround WORDS` in this installation."""
    return [sys.executable, "-m", "wardround.cli.main", *words]


def environment() -> dict[str, str]:
    """One thread per process: several hospitals share a machine's few cores."""
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(threads, "1"), "PYTHONUNBUFFERED": "1"}


@dataclass(slots=True)
class Party:
    """One long-running process, its log file, and its name."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def last_lines(self) -> str:
        """The end of its log, for an error message."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-_LAST_LINES:])


@dataclass(slots=True)
class Processes:
    """All children; leaving the `with` block ends every one of them."""

    logs: Path
    parties: dict[str, Party] = field(default_factory=dict)

    def start(self, name: str, *words: str) -> Party:
        """Start `wardround WORDS` in the background."""
        path = self.logs / f"{name}.log"
        with path.open("ab") as log:
            process = subprocess.Popen(
                command(*words),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(),
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  # the parent has no other thread yet
            )
        self.parties[name] = Party(name, process, path)
        return self.parties[name]

    def run_all(self, commands: Mapping[str, Sequence[str]]) -> dict[str, bytes]:
        """Run several short commands at the same time; return what each printed.

        The first that fails ends the rehearsal with its own message and exit code.
        """
        children = {
            name: subprocess.Popen(
                command(*words),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(),
                preexec_fn=_end_with_parent,  # noqa: PLW1509  # the parent has no other thread yet
            )
            for name, words in commands.items()
        }
        printed = {}
        failures = []
        for name, child in children.items():
            out, err = child.communicate()
            printed[name] = out
            if child.returncode:
                failures.append(CommandFailed(name, commands[name], child.returncode, err))
        if failures:
            raise failures[0]
        return printed

    def alive(self, name: str) -> bool:
        """Whether this process still runs."""
        return self.parties[name].process.poll() is None

    def stop(self) -> None:
        """End every child: politely, then for good."""
        running = [p.process for p in self.parties.values() if p.process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        end = time.monotonic() + _GRACE_S
        for process in running:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class CommandFailed(WardroundError):
    """A step of the rehearsal failed; carries the step's own message and exit code."""

    def __init__(self, party: str, words: Sequence[str], code: int, stderr: bytes) -> None:
        text = stderr.decode(errors="replace").strip().removeprefix("wardround: ")
        super().__init__(f"{party}: wardround {words[0]} {words[1]}: {text or f'exit {code}'}")
        self.exit_code = code if code > 0 else 1


def _end_with_parent() -> None:
    """Linux: when the rehearsal is killed, its children get SIGTERM, so that none is left."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
