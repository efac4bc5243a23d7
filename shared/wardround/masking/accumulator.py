"""The coordinator's one vector per attempt: updates go in, only the full sum comes out."""

import numpy as np

from wardround.errors import ProtocolViolation, QuorumMissed
from wardround.masking.keystream import WORD, MaskedLanes
from wardround.masking.quantise import LANE, Lanes
from wardround.masking.round_spec import RoundSpec
from wardround.masking.update import MaskedUpdate, update_digest


class Accumulator:
    """Adds masked updates modulo 2^32 and keeps none of them (PROTOCOL 5).

    Promises: one vector of memory whatever the cohort's size, and no sum before every hospital of
    the cohort has answered, since until then it is uniform noise.
    """

    __slots__ = ("_answered", "_total", "_transcript", "spec")

    def __init__(self, spec: RoundSpec) -> None:
        self.spec = spec
        self._transcript = spec.transcript().hex()
        self._total: MaskedLanes = np.zeros(spec.lanes, dtype=WORD)
        self._answered: set[str] = set()

    def add(self, hospital: str, update: MaskedUpdate) -> None:
        """Add what `check_update` accepted. A second one of a hospital is refused."""
        what = f"update of {hospital}"
        if hospital not in self.spec.cohort:
            raise ProtocolViolation(f"{what}: it is not in the cohort of round {self.spec.round}")
        if hospital in self._answered:
            raise ProtocolViolation(
                f"{what}: a second one for round {self.spec.round}, attempt {self.spec.attempt}"
            )
        header = update.header
        if header.hospital != hospital or header.transcript != self._transcript:
            raise ProtocolViolation(
                f"{what}: its header is {header.hospital}'s for transcript {header.transcript}, "
                f"{self._transcript} was due"
            )
        np.add(self._total, update.values, out=self._total)
        self._answered.add(hospital)

    @property
    def missing(self) -> tuple[str, ...]:
        """The hospitals of the cohort that have not answered, sorted."""
        return tuple(name for name in self.spec.cohort if name not in self._answered)

    def sum(self) -> Lanes:
        """Return the sum of the cohort's lanes, read as signed.

        Raises QuorumMissed naming who is missing; ProtocolViolation when lanes lie beyond
        cohort x limit, which masks that did not cancel show (see `largest_limit`).
        """
        self._complete()
        total = self._total.view(LANE)
        most = self.spec.largest_sum
        beyond = int(np.count_nonzero((total > most) | (total < -most)))
        if beyond:
            raise ProtocolViolation(
                f"round {self.spec.round}, attempt {self.spec.attempt}: {beyond} of "
                f"{self.spec.lanes} lanes of the sum are beyond {most}: the masks did not cancel"
            )
        return total.copy()

    @property
    def sum_digest(self) -> str:
        """`update_digest` of the full sum. Raises QuorumMissed before it is full."""
        self._complete()
        return update_digest(self._total)

    def _complete(self) -> None:
        if self.missing:
            answered, cohort = len(self._answered), len(self.spec.cohort)
            raise QuorumMissed(
                f"round {self.spec.round}, attempt {self.spec.attempt}: {answered} of {cohort} "
                f"hospitals answered, masks cancel only with all; missing: "
                f"{', '.join(self.missing)}"
            )
