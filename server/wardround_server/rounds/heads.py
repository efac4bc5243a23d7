"""Which heads of our log each hospital saw last, and proofs that the log only grew since.

A hospital refuses work without them (PROTOCOL 8), so what was shown counts until it is answered.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from wardround.evidence.log import EvidenceLog
from wardround.protocol.messages import Proof


@dataclass(slots=True)
class HeadsShown:
    """Sizes of `log` from which a hospital may ask for a proof, by its name."""

    log: EvidenceLog
    _sizes: dict[str, set[int]] = field(default_factory=dict)
    _sent: int = 0

    def joined(self, hospital: str, sizes: Iterable[int]) -> None:
        """A hospital named the sizes that it has seen and that nothing proved yet."""
        self._sizes[hospital] = set(sizes)

    def sent(self, cohort: Iterable[str]) -> None:
        """Today's head is on its way to these hospitals; whether it arrives is open."""
        self._sent = self.log.size
        for hospital in cohort:
            self._sizes.setdefault(hospital, set()).add(self._sent)

    def answered(self, hospital: str) -> None:
        """A hospital took the head that was sent last: only that one counts from now on."""
        self._sizes[hospital] = {self._sent}

    def proofs(self, cohort: Iterable[str]) -> tuple[Proof, ...]:
        """Consistency proofs to today's head, from every size that one of the cohort may name.

        A size that our log never had is left out; the hospital that named it refuses then.
        """
        empty: set[int] = set()
        sizes = empty.union(*(self._sizes.get(hospital, empty) for hospital in cohort))
        return tuple(
            Proof(size=size, hashes=tuple(h.hex() for h in self.log.consistency_proof(size)))
            for size in sorted(sizes)
            if size <= self.log.size
        )
