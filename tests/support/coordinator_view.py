"""What a coordinator that keeps everything can work out of one attempt, by symbols alone.

A masked vector is y_i = x_i + B_i + the sum of +-K_ij. A combination of vectors shows a sum of
updates only when in it every B and K that is not known has the coefficient zero. So hospitals that
are joined by an unknown K have one coefficient, and it is zero when the B of one of them is unknown
or an unknown K leads to a hospital without a vector. What is left are the sums that are open.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from wardround.protocol.messages import Revealed

Pair = frozenset[str]


@dataclass
class View:
    """Everything that hospitals gave away for one transcript, and who can be read besides."""

    cohort: tuple[str, ...]
    threshold: int
    corrupt: frozenset[str] = frozenset()
    uploaded: set[str] = field(default_factory=set)
    self_keys: set[str] = field(default_factory=set)
    pair_keys: set[Pair] = field(default_factory=set)
    holders: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))

    def saw_upload(self, hospital: str) -> None:
        """Its vector; and who is corrupt opens the shares that are for it."""
        self.uploaded.add(hospital)
        for secret in (hospital, *self.cohort):
            self.holders[hospital, secret] |= self.corrupt - {hospital}

    def saw(self, hospital: str, revealed: Revealed) -> None:
        """An answer to a request to reveal."""
        self.self_keys.add(hospital)
        self.pair_keys |= {frozenset((hospital, peer)) for peer in revealed.pair_keys}
        for dealer, shares in revealed.shares.items():
            secrets = (dealer, *sorted(set(self.cohort) & set(revealed.pair_keys)))
            assert len(shares) == len(secrets)
            for secret in secrets:
                self.holders[dealer, secret].add(hospital)

    def knows_self(self, hospital: str) -> bool:
        """Whether B of this hospital can be taken off."""
        enough = len(self.holders[hospital, hospital]) >= self.threshold
        return hospital in self.self_keys | self.corrupt or enough

    def knows_pair(self, one: str, other: str) -> bool:
        """Whether K of this pair can be taken off."""
        if {one, other} & self.corrupt or frozenset((one, other)) in self.pair_keys:
            return True
        dealt = (self.holders[one, other], self.holders[other, one])
        return any(len(holders) >= self.threshold for holders in dealt)

    def open_sums(self) -> list[set[str]]:
        """The smallest sets of hospitals whose sum this view determines."""
        left, found = set(self.uploaded), []
        while left:
            part = self._joined(left.pop())
            left -= part
            if part <= self.uploaded and all(self.knows_self(name) for name in part):
                found.append(part)
        return found

    def _joined(self, hospital: str) -> set[str]:
        part, waiting = {hospital}, [hospital]
        while waiting:
            one = waiting.pop()
            new = {name for name in self.cohort if name != one and not self.knows_pair(one, name)}
            waiting += new - part
            part |= new
        return part
