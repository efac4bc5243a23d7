"""Writers that are killed in the middle of a write, by themselves or by the kernel.

Each runs in a forked child: what it says through its pipe before it dies was done, for its caller.
"""

import os
import resource
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

Say = Callable[[str], None]
Step = Callable[[str], None]
Work = Callable[[Path, Say], None]


class Statements(sqlite3.Connection):
    """Every statement is a step, before and after."""

    step: Step = staticmethod(lambda _: None)

    def execute(self, sql, *arguments):
        type(self).step(f"before {sql[:20]}")
        done = super().execute(sql, *arguments)
        type(self).step(f"after {sql[:20]}")
        return done

    def executemany(self, sql, *arguments):
        type(self).step("before many")
        done = super().executemany(sql, *arguments)
        type(self).step("after many")
        return done

    def executescript(self, sql):
        type(self).step("before script")
        done = super().executescript(sql)
        type(self).step("after script")
        return done


@contextmanager
def stepping(step: Step) -> Iterator[None]:
    """Call `step` before and after every statement, fsync, rename, open and chmod of Python's."""

    def both(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def stepped(*arguments: object, **named: object) -> object:
            step(f"before {name}")
            done = real(*arguments, **named)
            step(f"after {name}")
            return done

        return stepped

    connect = sqlite3.connect

    def connected(*arguments: object, **named: object) -> object:
        return connect(*arguments, **{**named, "factory": Statements})

    with (
        mock.patch.object(Statements, "step", staticmethod(step)),
        mock.patch("sqlite3.connect", connected),
        mock.patch("os.fsync", both("fsync", os.fsync)),
        mock.patch.object(Path, "replace", both("rename", Path.replace)),
        mock.patch.object(Path, "open", both("open", Path.open)),
        mock.patch.object(Path, "chmod", both("chmod", Path.chmod)),
    ):
        yield


def steps_of(work: Work, path: Path) -> int:
    """How many steps `work` takes where nothing goes wrong."""
    taken: list[str] = []
    with stepping(taken.append):
        work(path, lambda _: None)
    return len(taken)


def killed_at(step: int, work: Work, path: Path) -> list[str]:
    """What a child said before SIGKILL hit it at a step; kill -9 runs no handler and no finally."""

    def doomed(path: Path, say: Say) -> None:
        left = step

        def count(_: str) -> None:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

        with stepping(count):
            work(path, say)

    return _in_a_child(doomed, path, due=signal.SIGKILL)


def torn_at(limit_bytes: int, work: Work, path: Path) -> list[str]:
    """What a child said before the kernel killed it in the write that crossed a file's limit.

    The write is cut at the limit: the part before it is in the file.
    """

    def doomed(path: Path, say: Say) -> None:
        # The interpreter ignores the signal; its default action is to kill.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))
        work(path, say)

    return _in_a_child(doomed, path, due=signal.SIGXFSZ)


def with_files_up_to(limit_bytes: int, work: Work, path: Path) -> list[str]:
    """What a child said when every write beyond the limit failed with EFBIG, as on a full disk."""

    def limited(path: Path, say: Say) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))
        work(path, say)

    return _in_a_child(limited, path, due=None)


def _in_a_child(work: Work, path: Path, *, due: int | None) -> list[str]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work(path, lambda word: os.write(writing, f"{word}\n".encode()) and None)
        except BaseException as error:  # noqa: BLE001 - a fork may not go on as a test
            os.write(writing, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read().splitlines()
    _, status = os.waitpid(child, 0)
    ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    assert ended in (due, None), f"ended by signal {ended}, {due} was due"
    return said
