"""The evidence of one run as typed values: what the report is derived from, and nothing else."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from wardround.audit.bodies import (
    COORDINATOR_TYPES,
    HOSPITAL_TYPES,
    RunEnded,
    RunJoined,
    StudyApproved,
    StudyOpened,
)
from wardround.audit.body_fields import Body, read_body
from wardround.errors import BadInput
from wardround.evidence.entry import FIRST_PREVIOUS, Entry, entry_digest
from wardround.evidence.merkle import root
from wardround.identity import fingerprint
from wardround.study.manifest import Study

COORDINATOR = "coordinator"

Kind = TypeVar("Kind", bound=Body)
Kind_co = TypeVar("Kind_co", bound=Body, covariant=True)


@dataclass(frozen=True, slots=True)
class Record(Generic[Kind_co]):
    """One entry with its typed body, and where it stands."""

    log: str
    seq: int
    time: datetime
    body: Kind_co


@dataclass(frozen=True, slots=True)
class Log:
    """One party's checked log: its records, and `heads[n]`, the head of its first n entries."""

    party: str
    records: tuple[Record[Body], ...]
    heads: tuple[str, ...] = field(repr=False)
    root: str

    def of(self, kind: type[Kind]) -> Iterator[Record[Kind]]:
        """The records of one type, in order."""
        for record in self.records:
            if isinstance(record.body, kind):
                yield Record(record.log, record.seq, record.time, record.body)

    def last(self, kind: type[Kind]) -> Record[Kind] | None:
        """The last record of one type, or None."""
        return next(reversed(list(self.of(kind))), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that a report may rest on.

    `coordinator` and `hospitals` are logs whose chains were checked; `countersigned` names the
    hospitals whose signature under the coordinator's checkpoint is in the bundle.
    """

    study: Study
    keys: Mapping[str, bytes]
    coordinator_key: bytes
    coordinator: Log
    hospitals: Mapping[str, Log]
    countersigned: frozenset[str]

    @property
    def run(self) -> str:
        """The run that the coordinator's log opened. Raises BadInput when it opened none."""
        opened = next(self.coordinator.of(StudyOpened), None)
        if opened is None:
            raise BadInput("coordinator's log: no study-opened entry")
        return opened.body.run

    @property
    def without_log(self) -> tuple[str, ...]:
        """Hospitals of the roster whose own log is not there, sorted."""
        return tuple(name for name in self.study.names() if name not in self.hospitals)

    @property
    def coordinator_fingerprint(self) -> str:
        """What has to be compared with a value that came another way."""
        return fingerprint(self.coordinator_key)


def coordinator_log(entries: list[Entry]) -> Log:
    """Type the coordinator's entries. Raises EntryFault at the first that is none."""
    return _log(COORDINATOR, entries, COORDINATOR_TYPES)


def hospital_log(hospital: str, entries: list[Entry]) -> Log:
    """Type a hospital's entries. Raises EntryFault at the first that is none."""
    return _log(hospital_place(hospital), entries, HOSPITAL_TYPES)


def hospital_place(hospital: str) -> str:
    """How findings name a hospital's log, whatever the hospital is called.

    >>> hospital_place("coordinator")
    'hospitals/coordinator'
    """
    return f"hospitals/{hospital}"


class EntryFault(BadInput):
    """An entry whose body is not what its type says."""

    def __init__(self, log: str, seq: int, reason: str) -> None:
        super().__init__(f"{log}, entry {seq}: {reason}")
        self.log = log
        self.seq = seq
        self.reason = reason


def _log(party: str, entries: list[Entry], known: dict[str, type[Body]]) -> Log:
    records, heads, lines = [], [FIRST_PREVIOUS], []
    for entry in entries:
        try:
            body = read_body(entry, known)
        except BadInput as error:
            raise EntryFault(party, entry.seq, str(error)) from error
        records.append(Record(party, entry.seq, entry.time, body))
        lines.append(entry.to_bytes())
        heads.append(entry_digest(lines[-1]))
    return Log(party, tuple(records), tuple(heads), root(lines).hex())


def by_run(log: Log, run: str) -> Iterator[tuple[Record[Body], bool]]:
    """Every record, and whether it is of this run: a log goes on over many studies and runs.

    What follows `run-joined` of another run belongs to that one.
    """
    here = False
    for record in log.records:
        if isinstance(record.body, RunJoined):
            here = record.body.run == run
        yield record, here


def approval(log: Log, study_digest: str) -> Record[StudyApproved] | None:
    """The first approval of this study in a hospital's log."""
    found = (r for r in log.of(StudyApproved) if r.body.study_digest == study_digest)
    return next(found, None)


def joins(log: Log, run: str) -> tuple[Record[RunJoined], ...]:
    """Each time this hospital joined the run; more than once when a session was resumed."""
    return tuple(record for record in log.of(RunJoined) if record.body.run == run)


def ending(log: Log, run: str) -> Record[RunEnded] | None:
    """The hospital's own account of the run, or None."""
    found = [record for record in log.of(RunEnded) if record.body.run == run]
    return found[-1] if found else None
