"""Files about patients: new ones only, readable by their owner alone."""

import os
from pathlib import Path

from wardround.durable import gone_unless_whole
from wardround.errors import BadInput, why


def write_new(path: Path, content: bytes) -> None:
    """Write a file that is not there yet. Raises BadInput when it is, or cannot be written."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise BadInput(f"{path.name}: it exists already, and nothing is overwritten") from None
    except OSError as error:
        raise BadInput(f"{path.name}: cannot be written ({why(error)})") from error
    with gone_unless_whole(path), os.fdopen(handle, "wb") as file:
        file.write(content)


def refuse_existing(path: Path | None) -> None:
    """Raise BadInput when something is there: before the work, and once more when writing."""
    if path is not None and path.exists():
        raise BadInput(f"{path.name}: it exists already, and nothing is overwritten")


def new_folder(path: Path) -> None:
    """Make a folder that is not there yet. Raises BadInput when it is, or cannot be made."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        raise BadInput(f"{path.name}: it exists already, and nothing is overwritten") from None
    except OSError as error:
        raise BadInput(f"{path.name}: cannot be made ({why(error)})") from error
