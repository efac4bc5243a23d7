"""What one party saw of another's log. A log that shrinks or changes contradicts a head seen here.

Hospitals witness the coordinator's log, the coordinator witnesses the hospitals'. A witness' own
log keeps what it saw, so that any two bundles show a rewritten history.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from wardround.canonical import Json
from wardround.errors import ProtocolViolation
from wardround.evidence.checkpoint import Checkpoint, verify_checkpoint
from wardround.evidence.entry import Entry, head_of
from wardround.evidence.merkle import verify_consistency

WITNESSED = "checkpoint-witnessed"
MAX_UNPROVEN = 64
Proofs = Mapping[int, Sequence[bytes]]


@dataclass(slots=True)
class Witness:
    """`seen` maps sizes of the log of `actor` to the head it had then.

    Heads seen by this process wait for a proof that the log grew from them; those of a process
    before are compared with the whole log at the end. So are all with `proven` false: the actor
    sends no proofs, and its whole log comes at the end of the run.
    """

    actor: str
    key: bytes
    seen: dict[int, str] = field(default_factory=dict)
    proven: bool = True
    _unproven: list[Checkpoint] = field(default_factory=list)

    @classmethod
    def of(cls, own: Iterable[Entry], *, actor: str, key: bytes, proven: bool = True) -> Self:
        """Take up what our own log says that we saw, also before a restart."""
        bodies = [entry.body for entry in own if entry.type == WITNESSED]
        seen = {body["size"]: body["head"] for body in bodies if body["actor"] == actor}
        return cls(actor, key, seen, proven)

    @property
    def unproven(self) -> tuple[int, ...]:
        """The sizes from which the next proofs are due."""
        return tuple(checkpoint.size for checkpoint in self._unproven)

    def check(self, note: str, proofs: Proofs | None = None) -> tuple[str, Json] | None:
        """Check a signed head against those seen; return the entry to log, None for no news.

        With `proofs`, hashes by size, one is due from each head that waits for it. The head counts
        as seen once it was logged: `logged`. Raises BadInput, BadSignature, ProtocolViolation when
        the log has shrunk, was rewritten, or a proof is missing, LogFault when a proof is wrong.
        """
        checkpoint = verify_checkpoint(note, self.key)
        what = f"log of {self.actor}"
        if checkpoint.actor != self.actor:
            raise ProtocolViolation(f"{what}: the head of another party's log came")
        last = max(self.seen, default=-1)
        if checkpoint.size < last:
            raise ProtocolViolation(f"{what}: {checkpoint.size} entries, {last} were seen before")
        if self.seen.get(checkpoint.size, checkpoint.head) != checkpoint.head:
            raise ProtocolViolation(f"{what}: another head at the same size")
        self._check_growth(checkpoint, proofs)
        if checkpoint.size in self.seen:
            return None
        body = {"actor": self.actor, "size": checkpoint.size, "head": checkpoint.head}
        return (WITNESSED, body)

    def _check_growth(self, new: Checkpoint, proofs: Proofs | None) -> None:
        if not self.proven:
            return
        if proofs is None:
            if len(self._unproven) >= MAX_UNPROVEN:
                raise ProtocolViolation(f"log of {self.actor}: {MAX_UNPROVEN} heads, no proof")
            if new not in self._unproven:
                self._unproven.append(new)
            return
        for old in self._unproven:
            if old.size not in proofs:
                raise ProtocolViolation(
                    f"log of {self.actor}: no proof that its {new.size} entries begin with the "
                    f"{old.size} that were seen"
                )
            verify_consistency(old.size, old.root, new.size, new.root, proofs[old.size])
        self._unproven = [new]

    def logged(self, entries: Iterable[tuple[str, Json]]) -> None:
        """Remember the heads among entries that are now in our own log."""
        for kind, body in entries:
            if kind == WITNESSED and body["actor"] == self.actor:
                self.seen[body["size"]] = body["head"]

    def check_history(self, entries: list[Entry]) -> None:
        """Every head seen must be a head of this whole log. Raises ProtocolViolation."""
        for size, head in sorted(self.seen.items()):
            if size > len(entries) or head_of(entries[:size]) != head:
                raise ProtocolViolation(
                    f"log of {self.actor}: its first {size} entries are not those seen before"
                )
