"""Append-only entries in one SQLite file: durable, hash-chained, with a high-water mark beside.

An entry is on disk (WAL, synchronous=FULL) before `append` returns. Triggers refuse every change
of the past. The mark `FILE.head` holds the number and hash of the newest entry: a file that is
older than its mark was rolled back and is refused. Whoever restores file AND mark together is
found by the hospital's evidence log, not here.
"""

import fcntl
import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from wardround.canonical import Json, canonical_bytes, parse_canonical, parse_json
from wardround.durable import write_durably
from wardround.errors import BadInput, VerificationFailed, WardroundError, why

_SCHEMA = """
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    content BLOB NOT NULL,
    hash TEXT NOT NULL
) STRICT;
CREATE TRIGGER entries_are_never_changed BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER entries_are_never_deleted BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER entries_are_never_replaced BEFORE INSERT ON entries
WHEN EXISTS (SELECT 1 FROM entries WHERE seq = NEW.seq OR key = NEW.key)
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""
_FIRST_PREVIOUS = "0" * 64
_ENTRY_LIMIT_BYTES = 64 * 1024
_MARK_LIMIT_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its place, its unique key, when it was written, and its body."""

    seq: int
    key: str
    time: str
    body: Json
    hash: str


class EntryStore:
    """The entries of one ledger file. A writer holds it alone; a reader takes no lock."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: BinaryIO | None) -> None:
        self._path = path
        self._connection = connection
        self._lock = lock
        self._writing = threading.Lock()
        self._entries: list[Entry] = []

    @classmethod
    def open(cls, path: Path) -> "EntryStore":
        """Open for writing, creating what is not there. Checks the whole chain and the mark.

        Raises WardroundError when another process has it, VerificationFailed when entries are
        missing or changed, BadInput when it is no ledger.
        """
        lock = _lock(path)
        try:
            mark = _read_mark(path)
            _refuse_a_lost_file(path, mark)
            connection = _connect(path)
            store = cls(path, connection, lock)
            try:
                store._entries = _read(connection, path.name)
                _check_mark(path.name, store._entries, mark)
                if store._entries:
                    store._write_mark()
            except BaseException:
                connection.close()
                raise
        except BaseException:
            lock.close()
            raise
        return store

    @classmethod
    def read(cls, path: Path) -> "EntryStore":
        """Open what is there for reading only, beside a process that writes it."""
        # The mark is read first: it is always behind the entries, never ahead.
        mark = _read_mark(path)
        if not path.exists():
            raise BadInput(f"ledger {path.name}: there is no such file")
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        with closing(connection):
            store = cls(path, connection, None)
            store._entries = _read(connection, path.name)
        _check_mark(path.name, store._entries, mark)
        return store

    @property
    def entries(self) -> Sequence[Entry]:
        """All entries, oldest first."""
        return tuple(self._entries)

    def append(self, key: str, body: Json, *, time: datetime) -> Entry:
        """Write one entry durably. Raises BadInput when `key` was written before.

        `time` is only shown: the order is that of the entries, so a clock may jump. Raises
        WardroundError when the disk is full or fails; what was written by then is kept, and
        counts.
        """
        if self._lock is None:
            raise WardroundError(f"ledger {self._path.name}: it is open for reading only")
        with self._writing:
            previous = self._entries[-1].hash if self._entries else _FIRST_PREVIOUS
            seq = len(self._entries)
            content = canonical_bytes(
                {
                    "seq": seq,
                    "key": key,
                    "time": time.astimezone(UTC).isoformat(timespec="milliseconds"),
                    "previous": previous,
                    "body": body,
                }
            )
            entry = _parse(content, self._path.name)
            self._insert(entry, content)
            self._entries.append(entry)
            self._write_mark()
            return entry

    def _insert(self, entry: Entry, content: bytes) -> None:
        name = self._path.name
        try:
            self._connection.execute(
                "INSERT INTO entries VALUES (?, ?, ?, ?)",
                (entry.seq, entry.key, content, entry.hash),
            )
        except sqlite3.IntegrityError as error:
            raise BadInput(f"ledger {name}: {entry.key} is written already") from error
        except sqlite3.Error as error:
            raise WardroundError(
                f"ledger {name}: entry {entry.seq} could not be written ({error})"
            ) from error

    def close(self) -> None:
        """Give the file back. Nothing is lost without it: every entry is on disk already."""
        self._connection.close()
        if self._lock is not None:
            self._lock.close()

    def _write_mark(self) -> None:
        mark = {"entries": len(self._entries), "head": self._entries[-1].hash}
        try:
            write_durably(_beside(self._path, ".head"), canonical_bytes(mark))
        except OSError as error:
            raise WardroundError(
                f"ledger {self._path.name}: entry {len(self._entries) - 1} is written, the mark "
                f"beside it could not be ({_reason(error)})"
            ) from error


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _lock(path: Path) -> BinaryIO:
    try:
        file = _beside(path, ".lock").open("ab")
    except OSError as error:
        raise BadInput(f"ledger {path.name}: {why(error)} in its directory") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise WardroundError(
            f"ledger {path.name}: another process has it open; one at a time may write it"
        ) from error
    return file


def _connect(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise WardroundError(f"ledger {path.name}: it could not be opened ({error})") from error
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'entries'").fetchone():
            connection.executescript("BEGIN;" + _SCHEMA + "COMMIT;")
            path.chmod(0o600)
            _sync_directory(path.parent)
    except (sqlite3.OperationalError, OSError) as error:
        connection.close()
        raise WardroundError(f"ledger {path.name}: it could not be opened ({error})") from error
    except sqlite3.DatabaseError as error:
        connection.close()
        raise BadInput(f"ledger {path.name}: not a ledger file ({error})") from error
    return connection


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(connection: sqlite3.Connection, name: str) -> list[Entry]:
    try:
        rows = connection.execute(
            "SELECT seq, key, content, hash FROM entries ORDER BY seq"
        ).fetchall()
    except sqlite3.DatabaseError as error:
        raise VerificationFailed(f"ledger {name}: it cannot be read ({error})") from error
    entries: list[Entry] = []
    previous = _FIRST_PREVIOUS
    for place, (seq, key, content, digest) in enumerate(rows):
        entry = _parse(content, name)
        chained = json.loads(content)["previous"] == previous
        if (seq, entry.seq, entry.key, entry.hash) != (place, place, key, digest) or not chained:
            raise VerificationFailed(f"ledger {name}: entry {place} does not follow from the last")
        previous = entry.hash
        entries.append(entry)
    return entries


def _parse(content: bytes, name: str) -> Entry:
    value = parse_canonical(content, what=f"ledger {name}", limit_bytes=_ENTRY_LIMIT_BYTES)
    try:
        return Entry(
            seq=value["seq"],
            key=value["key"],
            time=value["time"],
            body=value["body"],
            hash=hashlib.sha256(content).hexdigest(),
        )
    except KeyError as error:
        raise VerificationFailed(f"ledger {name}: an entry has no {error}") from error


def _read_mark(path: Path) -> tuple[int, str] | None:
    try:
        content = _beside(path, ".head").read_bytes()
    except FileNotFoundError:
        return None
    value = parse_json(content, what=f"ledger mark of {path.name}", limit_bytes=_MARK_LIMIT_BYTES)
    entries, head = value.get("entries"), value.get("head")
    if not isinstance(entries, int) or not isinstance(head, str) or entries < 1:
        raise VerificationFailed(f"ledger {path.name}: its mark is damaged")
    return entries, head


def _refuse_a_lost_file(path: Path, mark: tuple[int, str] | None) -> None:
    if mark is not None and not path.exists():
        raise VerificationFailed(
            f"ledger {path.name}: the file is missing, its mark says that it had {mark[0]} "
            "entries; restore it, what was spent cannot be forgotten"
        )


def _check_mark(name: str, entries: Sequence[Entry], mark: tuple[int, str] | None) -> None:
    if mark is None:
        # A crash between the very first entry and its mark leaves one entry without a mark.
        if len(entries) > 1:
            raise VerificationFailed(
                f"ledger {name}: it has {len(entries)} entries and no mark beside it"
            )
        return
    count, head = mark
    if len(entries) < count:
        raise VerificationFailed(
            f"ledger {name}: rolled back to {len(entries)} entries, its mark says {count}"
        )
    if entries[count - 1].hash != head:
        raise VerificationFailed(f"ledger {name}: entry {count - 1} is not the one of its mark")
