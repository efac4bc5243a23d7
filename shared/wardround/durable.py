"""Files that a crash leaves whole: the old content or the new, never a mix."""

import os
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """Replace `path`; the new content is on disk when this returns."""
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as file:
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
    beside.write_bytes(content)
    beside.replace(path)
