"""A party's own evidence log on disk: append-only, durable when `append` returns.

SQLite with a write-ahead log and full synchronisation; triggers refuse every change but the next
entry. The file is checked from its first entry on each time it is opened.
"""

import os
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from wardround.canonical import Json
from wardround.errors import BadInput, why
from wardround.evidence import merkle
from wardround.evidence.checkpoint import Checkpoint, origin_of, sign_checkpoint
from wardround.evidence.entry import FIRST_PREVIOUS, Entry, entry_digest
from wardround.evidence.export import check_lines
from wardround.evidence.faults import LogFault, LogReason
from wardround.identity import Identity

_SCHEMA_VERSION = 1
_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE entry (seq INTEGER PRIMARY KEY, line BLOB NOT NULL) STRICT;
CREATE TRIGGER entry_is_never_changed BEFORE UPDATE ON entry
  BEGIN SELECT RAISE(ABORT, 'the evidence log is append-only'); END;
CREATE TRIGGER entry_is_never_deleted BEFORE DELETE ON entry
  BEGIN SELECT RAISE(ABORT, 'the evidence log is append-only'); END;
CREATE TRIGGER entry_is_the_next BEFORE INSERT ON entry
  WHEN NEW.seq <> (SELECT COALESCE(MAX(seq) + 1, 0) FROM entry)
  BEGIN SELECT RAISE(ABORT, 'not the next entry'); END;
PRAGMA user_version = 1;
COMMIT;
"""
_BUSY_S = 10.0


class EvidenceLog:
    """The log of one party; use `open`. Safe to share between threads of one process.

    A second process that writes the same file is noticed at the next append (second-writer).
    """

    def __init__(
        self, database: sqlite3.Connection, *, actor: str, identity: Identity, lines: list[bytes]
    ) -> None:
        self._database = database
        self._identity = identity
        self._lock = threading.Lock()
        self._tree = merkle.CompactRange(lines)
        self._head = entry_digest(lines[-1]) if lines else FIRST_PREVIOUS
        self.actor = actor

    @classmethod
    def open(cls, path: Path, actor: str, identity: Identity) -> Self:
        """Open or create the log of `actor`; a new file is readable by its owner only.

        Every entry is checked. Raises LogFault when the file is damaged or another party's.
        """
        origin_of(actor)
        _create_private(path)
        database = _connect(path)
        try:
            lines = _lines(database)
            _check_actor(check_lines(lines), actor)
        except BaseException:
            database.close()
            raise
        return cls(database, actor=actor, identity=identity, lines=lines)

    def append(self, type: str, body: Json, *, time: datetime) -> Entry:  # noqa: A002 (the field's name)
        """Write one entry; it is on disk when this returns."""
        return self.append_many([(type, body)], time=time)[0]

    def append_many(self, items: Sequence[tuple[str, Json]], *, time: datetime) -> list[Entry]:
        """Write several (type, body) in one transaction: all or none, one wait for the disk.

        `time` may lie before the last entry's. Raises BadInput when a body has no canonical JSON,
        LogFault (second-writer) when another process has written to the file.
        """
        with self._lock:
            head, lines = self._head, []
            for seq, (kind, body) in enumerate(items, start=self._tree.size):
                entry = Entry(
                    seq=seq, time=time, type=kind, actor=self.actor, body=body, previous=head
                )
                lines.append(entry.to_bytes())
                head = entry_digest(lines[-1])
            # Read back before writing: what is returned and stored is what a verifier will read.
            entries = [Entry.from_bytes(line) for line in lines]
            self._store(lines)
            for line in lines:
                self._tree.append(line)
            self._head = head
        return entries

    @property
    def size(self) -> int:
        """How many entries it has."""
        return self._tree.size

    @property
    def head(self) -> str:
        """SHA-256 of the last entry; 64 zeros when empty."""
        return self._head

    def checkpoint(self, *, lasting: bool = False) -> str:
        """The signed note over size, head and root as they are now; `lasting`: by both keys."""
        with self._lock:
            state = Checkpoint(
                origin=origin_of(self.actor),
                size=self._tree.size,
                head=self._head,
                root=self._tree.root(),
            )
        return sign_checkpoint(self._identity, state, lasting=lasting)

    def consistency_proof(self, old_size: int) -> list[bytes]:
        """Proof that the log of `old_size` entries is a prefix of today's."""
        with self._lock:
            lines = _lines(self._database)
        return merkle.consistency_proof(lines, old_size, len(lines))

    def entries(self) -> list[Entry]:
        """All entries, read from the file and checked again."""
        with self._lock:
            lines = _lines(self._database)
        return check_lines(lines)

    def export(self) -> bytes:
        """The JSON lines that `read_export` accepts."""
        with self._lock:
            lines = _lines(self._database)
        check_lines(lines)
        return b"".join(line + b"\n" for line in lines)

    def close(self) -> None:
        """Close the file; nothing is lost without it."""
        with self._lock:
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def _store(self, lines: Sequence[bytes]) -> None:
        rows = list(enumerate(lines, start=self._tree.size))
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("INSERT INTO entry (seq, line) VALUES (?, ?)", rows)
            self._database.execute("COMMIT")
        except sqlite3.IntegrityError as error:
            self._database.execute("ROLLBACK")
            message = f"entry {self._tree.size} is not the next one of the file any more"
            raise LogFault(LogReason.SECOND_WRITER, message) from error
        except sqlite3.Error as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise LogFault(LogReason.UNREADABLE, f"nothing was written ({error})") from error


def _check_actor(entries: Sequence[Entry], actor: str) -> None:
    if entries and entries[0].actor != actor:
        message = f"the log of {entries[0].actor} was opened as that of {actor}"
        raise LogFault(LogReason.ACTORS_MIXED, message, seq=0)


def _create_private(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError as error:
        raise BadInput(f"evidence log {path.name}: {why(error)}") from error


def _connect(path: Path) -> sqlite3.Connection:
    try:
        database = sqlite3.connect(
            path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise BadInput(f"evidence log {path.name}: cannot be opened ({error})") from error
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        _create_or_check_schema(database, path)
    except sqlite3.Error as error:
        database.close()
        raise LogFault(LogReason.UNREADABLE, f"{path.name}: {error}") from error
    except BaseException:
        database.close()
        raise
    return database


def _create_or_check_schema(database: sqlite3.Connection, path: Path) -> None:
    with closing(database.execute("PRAGMA user_version")) as cursor:
        version = cursor.fetchone()[0]
    with closing(database.execute("SELECT COUNT(*) FROM sqlite_master")) as cursor:
        empty = cursor.fetchone()[0] == 0
    if version == 0 and empty:
        database.executescript(_SCHEMA)
    elif version != _SCHEMA_VERSION:
        message = f"{path.name}: schema version {_SCHEMA_VERSION} was due, {version} came"
        raise LogFault(LogReason.UNREADABLE, message)


def _lines(database: sqlite3.Connection) -> list[bytes]:
    try:
        with closing(database.execute("SELECT line FROM entry ORDER BY seq")) as cursor:
            return [row[0] for row in cursor]
    except sqlite3.Error as error:
        raise LogFault(LogReason.UNREADABLE, str(error)) from error
