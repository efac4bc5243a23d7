"""Files that a crash leaves whole: the old content or the new, never a mix."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def gone_unless_whole(path: Path) -> Iterator[None]:
    """While `path` is written: a disk that is full, or an interrupt, leaves no half file."""
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def write_durably(path: Path, content: bytes) -> None:
    """Replace `path`; the new content is on disk when this returns."""
    beside = path.with_name(path.name + ".new")
    with gone_unless_whole(beside), beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """What was made, renamed or removed in a folder is on disk when this returns."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def replace_file(path: Path, content: bytes) -> None:
    """Replace `path` in one step, for readers' sake; not synced, so only for what may be lost."""
    beside = path.with_name(path.name + ".new")
    with gone_unless_whole(beside):
        beside.write_bytes(content)
    beside.replace(path)
