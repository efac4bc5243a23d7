"""One party of a run in memory: its log, its key, and what it signs."""

from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile

from wardround.audit.bundle import LogExport
from wardround.canonical import Json
from wardround.evidence.checkpoint import checkpoint_of, sign_checkpoint
from wardround.evidence.entry import Entry, head_of
from wardround.evidence.export import write_export
from wardround.identity import Identity

# The entries are kept beside the export, so that their ids stay theirs.
_EXPORTED: dict[tuple[bytes, tuple[int, ...]], tuple[LogExport, tuple[Entry, ...]]] = {}


@dataclass
class Party:
    """One party with its key and its log."""

    name: str
    identity: Identity
    entries: list[Entry] = field(default_factory=list)

    def append(self, kind: str, body: Json, *, at: datetime) -> Entry:
        entry = Entry(
            seq=len(self.entries),
            time=at,
            type=kind,
            actor=self.name,
            body=body,
            previous=head_of(self.entries),
        )
        # Read back, so that the body is what a reader of the file gets.
        self.entries.append(Entry.from_bytes(entry.to_bytes()))
        return entry

    def rewrite(self, changed: list[Entry]) -> None:
        """Play a forger who holds the key: number and chain the entries anew."""
        pairs = zip(self.entries, changed, strict=False)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] is pair[1], pairs))
        self.entries = changed[:same]
        for entry in changed[same:]:
            self.append(entry.type, entry.body, at=entry.time)

    def checkpoint(self) -> str:
        return sign_checkpoint(
            self.identity, checkpoint_of(self.entries, actor=self.name), lasting=True
        )

    def export(self) -> LogExport:
        # Most forgeries leave most logs as they were; entries are read back, so these are equal.
        known = (self.identity.public_key, tuple(map(id, self.entries)))
        if known not in _EXPORTED:
            export = LogExport(entries=write_export(self.entries), checkpoint=self.checkpoint())
            _EXPORTED[known] = (export, tuple(self.entries))
        return _EXPORTED[known][0]
