"""A hospital's database, opened for reading alone: one snapshot, a time limit, silent errors.

SQLAlchemy speaks to SQLite and to PostgreSQL (by psycopg). A database's own error may quote a
record, and a driver's may quote the URL: neither leaves this file.
"""

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from wardround.errors import BadInput
from wardround_client.data.sources import file_inside
from wardround_client.data.sql_source import SqlSource

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

BATCH_ROWS = 1000
_CONNECT_S = 30
_FIELD_LIMIT_BYTES = 64 << 20
_SQLITE_STEPS = 100_000  # of its virtual machine, between two looks at the clock
_LOCAL = {None, "", "localhost", "127.0.0.1", "::1"}

_NO_CONNECTION = (
    "no connection: the server does not answer, its certificate does not hold, or it refuses user, "
    "password or database"
)
# What PostgreSQL's codes mean for who reads this (PostgreSQL, appendix A), by code or by class.
_CODES = {
    "25006": "the query would change something, and may only read",
    "28": "the user or the password is refused",
    "3D000": "there is no such database",
    "42501": "the user may not read what the query reads",
    "42601": "the query is no SQL that the database knows",
    "42703": "there is no such column",
    "42P01": "there is no such table",
    "57014": "it took longer than `timeout_s`",
    "08": _NO_CONNECTION,
    "22": "a value in it is not what the query takes it for",
}
_SQLITE_CODES = {
    "SQLITE_INTERRUPT": "it took longer than `timeout_s`",
    "SQLITE_READONLY": "the query would change something, and may only read",
    "SQLITE_NOTADB": "the file is no SQLite database",
    "SQLITE_CORRUPT": "the file is damaged",
    "SQLITE_BUSY": "another program is writing to it",
    "SQLITE_CANTOPEN": "the file cannot be opened",
    "SQLITE_TOOBIG": "a field is too large",
}
# Names of the query's own, which hold no record; everything else that an error says is left out.
_NAMES = re.compile(
    r"^(?:relation|column) \"?[\w.]+\"? does not exist$|^no such (?:table|column): [\w.]+$"
    r"|^permission denied for (?:table|view|schema) \w+$"
)


@contextmanager
def opened(source: SqlSource, folder: Path) -> Iterator["Connection"]:
    """A connection in a transaction that reads one snapshot and can change nothing.

    All queries in it see the database as it was at the first one. Rows stream in batches. Raises
    BadInput when the database cannot be reached or refuses, saying why without quoting it.
    """
    try:
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415  # an extra, and slow to load
    except ImportError:
        raise BadInput(f"{source.place()}: databases are read by the extra `sql`") from None
    # The errors of a driver come as SQLAlchemy's, but not from everywhere: SQLite's own from a
    # connection's settings, UnicodeDecodeError from a text that is none.
    try:
        engine = _engine(source, folder)
        try:
            with engine.connect() as connection:
                yield _limited(connection, source)
        finally:
            engine.dispose()
    except UnicodeDecodeError:
        raise BadInput(f"{source.place()}: a text in it is not UTF-8") from None
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise BadInput(f"{source.place()}: {_why(error)}") from None


def _engine(source: SqlSource, folder: Path) -> "Engine":
    from sqlalchemy import NullPool, create_engine  # noqa: PLC0415  # as above

    text = source.url(folder)
    if text is None:
        connect = _sqlite(folder, source)
        return create_engine("sqlite://", creator=connect, hide_parameters=True, poolclass=NullPool)
    url = _checked_url(text, source)
    try:
        return create_engine(
            url,
            hide_parameters=True,
            poolclass=NullPool,
            connect_args={"connect_timeout": _CONNECT_S, **tls(url)},
            isolation_level="REPEATABLE READ",
        )
    except ImportError:
        raise BadInput(f"{source.place()}: PostgreSQL is read by the extra `sql`") from None


def _checked_url(text: str, source: SqlSource) -> "URL":
    from sqlalchemy import make_url  # noqa: PLC0415  # as above
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415  # as above

    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = None
    if url is None or url.drivername not in {"postgresql", "postgresql+psycopg"}:
        raise BadInput(
            f"{source.place()} is none that is known: postgresql://user:password@server/database "
            "is due, or `database` for a file of SQLite"
        )
    return url.set(drivername="postgresql+psycopg")


def tls(url: "URL") -> dict[str, str]:
    """What is asked of a server elsewhere when the URL does not say: a certificate that holds."""
    hosts = [url.host, *_listed(url.query.get("host"))]
    near = all(host in _LOCAL or str(host).startswith("/") for host in hosts)
    if near or "sslmode" in url.query:
        return {}
    root = {} if "sslrootcert" in url.query else {"sslrootcert": "system"}
    return {"sslmode": "verify-full", **root}


def _listed(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


def _sqlite(folder: Path, source: SqlSource) -> Callable[[], sqlite3.Connection]:
    path = file_inside(folder, source.database or "")
    limit = time.monotonic() + source.timeout_s

    def connect() -> sqlite3.Connection:
        found = sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None, timeout=_CONNECT_S
        )
        found.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _FIELD_LIMIT_BYTES)
        found.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        found.set_progress_handler(lambda: time.monotonic() > limit, _SQLITE_STEPS)
        # sqlite3's own error about a text that is no UTF-8 quotes it.
        found.text_factory = bytes.decode
        return found

    return connect


def _limited(connection: "Connection", source: SqlSource) -> "Connection":
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA query_only = ON")
        connection.exec_driver_sql("PRAGMA trusted_schema = OFF")
        connection.exec_driver_sql("BEGIN")
    else:
        # Before anything else in this connection: the transaction begins with it.
        connection = connection.execution_options(postgresql_readonly=True)
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {1000 * source.timeout_s}")
        connection.exec_driver_sql("SET LOCAL standard_conforming_strings = on")
        connection.exec_driver_sql("SET LOCAL timezone = 'UTC'")
    # By a cursor at the server; the caller takes BATCH_ROWS at a time.
    return connection.execution_options(stream_results=True, max_row_buffer=BATCH_ROWS)


def _why(error: Exception) -> str:
    """What a hospital can act on: a code's meaning, and names that the query itself has."""
    from sqlalchemy.exc import OperationalError  # noqa: PLC0415  # as above

    own: Any = getattr(error, "orig", None) or error
    if isinstance(own, sqlite3.Error):
        text, code = str(own), own.sqlite_errorname if hasattr(own, "sqlite_errorname") else ""
        meant = _SQLITE_CODES.get(code) or _SQLITE_CODES.get("_".join(code.split("_")[:2]), "")
    else:
        code = getattr(own, "sqlstate", None) or ""
        text = getattr(getattr(own, "diag", None), "message_primary", None) or ""
        lost = not code and isinstance(error, OperationalError)
        meant = _CODES.get(code) or _CODES.get(code[:2], "") or (_NO_CONNECTION if lost else "")
    named = text if _NAMES.match(text) else ""
    said = meant or f"the database refused ({type(own).__name__}{f', {code}' if code else ''})"
    return f"{said} ({named})" if named else said
