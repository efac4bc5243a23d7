"""Where a database is, as a description says it: never with a password in it."""

import stat
from os import environ
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from wardround.errors import BadInput, why
from wardround.study.contract import Frozen
from wardround_client.data.sources import DataPath, file_inside

_URL_LIMIT = 10_000

Variable = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,99}$")]


class SqlSource(Frozen):
    """How the database is reached, and how much is read of it at most.

    One of three: `url_variable` is an environment variable of the daemon that holds a URL like
    postgresql://reader:password@server/warehouse; `url_file` is a file in the data folder that
    holds it and that nobody but its owner can read; `database` is a file of SQLite in the data
    folder. Reading ends after `timeout_s` seconds, or with more than `most_rows` rows.
    """

    url_variable: Variable | None = None
    url_file: DataPath | None = None
    database: DataPath | None = None
    timeout_s: Annotated[int, Field(ge=1, le=86_400)] = 600
    most_rows: Annotated[int, Field(ge=1, le=50_000_000)] = 1_000_000

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        places = (self.url_variable, self.url_file, self.database)
        if sum(place is not None for place in places) != 1:
            raise ValueError(
                "sql: one of `url_variable`, `url_file` and `database` is due; a URL itself, which "
                "may have a password in it, does not belong here"
            )
        return self

    def place(self) -> str:
        """Where the database is named, in words that hold no secret."""
        if self.url_variable is not None:
            return f"sql: the URL in the variable {self.url_variable}"
        if self.url_file is not None:
            return f"sql: the URL in {self.url_file}"
        return f"sql: {self.database}"

    def url(self, folder: Path) -> str | None:
        """The URL, which is a secret; None when the database is a file. Raises BadInput."""
        if self.url_variable is not None:
            text = environ.get(self.url_variable, "")
            if not text:
                raise BadInput(f"sql: the variable {self.url_variable} is not set")
            return text.strip()
        return None if self.url_file is None else _read_secret(folder, self.url_file)


def _read_secret(folder: Path, path: str) -> str:
    found = file_inside(folder, path)
    status = found.stat()
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise BadInput(f"sql: {path}: others than its owner can use it: `chmod 600` is due")
    if status.st_size > _URL_LIMIT:
        raise BadInput(f"sql: {path}: over {_URL_LIMIT} bytes, one line with a URL is due")
    try:
        return found.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"sql: {path}: cannot be read ({why(error)})") from None
