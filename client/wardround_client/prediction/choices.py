"""What may be said of one patient where there is something to choose: treatments, or drugs.

Decision support and no decision: where the doubt is as large as what is to be told apart, nothing
is recommended, and the answer says so.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Protocol

from wardround.canonical import Json


class Choice(Protocol):
    """A part of an answer; it has a `kind` in JSON."""

    def to_json(self) -> Json:
        """Plain JSON, floats as they are."""

    def lines(self) -> Iterator[str]:
        """The same for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A number with its doubt."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """As a person reads it."""
        return f"{self.value:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreatmentChoice:
    """Two arms. `benefit` is the calibrated risk untreated less that treated, at this hospital.

    Its ends are the farthest that both arms' probabilities allow, which is no sampling error: that
    stands in what was seen. `here` and `everywhere` are what
    was observed in patients whose predicted benefit was in the same stratum, with 95 % of sampling:
    this hospital's held-out ones, and those of all hospitals by the report. `needed` are patients
    to be treated for one who is spared, by both intervals; None where the benefit may be none.
    `advice` is an arm's name, or None, and then `why` says what is missing.
    """

    treated: str
    untreated: str
    benefit: Interval
    worth: float
    stratum: str
    here: Interval | None
    everywhere: Interval | None
    needed: Interval | None
    advice: str | None
    why: str | None
    caveat: str

    def to_json(self) -> Json:
        """One object."""
        return {"kind": "treatment", **asdict(self)}

    def lines(self) -> Iterator[str]:
        """The same for a person."""
        what = f"{self.treated} instead of {self.untreated}"
        yield f"{what}: benefit {self.benefit} as calibrated here"
        if self.needed is not None:
            ends = f"{self.needed.low:.0f} to {self.needed.high:.0f}"
            yield f"to be treated for one who is spared: {self.needed.value:.0f} ({ends})"
        for whose, seen in (("here", self.here), ("at all hospitals", self.everywhere)):
            if seen is not None:
                yield f"observed {whose} where it is predicted {self.stratum}: {seen}"
        if self.advice is None:
            yield f"no recommendation: {self.why}"
        else:
            yield f"for {self.advice}: all of it is on one side of {self.worth:g}"
        yield self.caveat


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedDrug:
    """How much better than its own typical level a drug is predicted to work for this patient.

    In deviations of what it did in this hospital's patients, whose median is `typical`; both in
    `unit`. More is better.
    """

    channel: str
    better_by: Interval
    typical: float
    spread: float
    unit: str
    known: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingChoice:
    """Drugs, the one that does best against its own level first.

    `stands_out` is the first where its interval lies above all others', else None; `overlapping`
    are the drugs that it cannot be told from.
    """

    drugs: tuple[RankedDrug, ...]
    stands_out: str | None
    overlapping: tuple[str, ...]
    without_level: tuple[str, ...] = ()

    def to_json(self) -> Json:
        """One object."""
        return {"kind": "ranking", **asdict(self)}

    def lines(self) -> Iterator[str]:
        """The same for a person."""
        for place, drug in enumerate(self.drugs, start=1):
            yield (
                f"{place}. {drug.channel}: better than its typical level by {drug.better_by} "
                f"deviations ({drug.known} patients here)"
            )
        if self.stands_out is not None:
            yield f"stands out: {self.stands_out}"
        elif self.drugs:
            others = ", ".join(self.overlapping) or "no other drug is there to compare with"
            yield f"no drug is recommended: {self.drugs[0].channel} cannot be told from {others}"
        for name in self.without_level:
            yield f"{name}: no typical level, too few patients here have one"
