"""What the hazards look at, and what they answer."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from wardround.audit.attempts import Attempt, Release
from wardround.audit.body_fields import Body
from wardround.audit.evidence import Evidence, Record
from wardround.audit.report_model import EvaluationFacts, Guarantee, Origin, Status
from wardround.privacy.engine import Trained
from wardround.study.manifest import Mechanism

ACCOUNTS_AGREE = 1e-3  # two accounts of the same releases may differ by so much epsilon


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What the hazards look at: the evidence, and what the report says of it."""

    evidence: Evidence
    attempts: tuple[Attempt, ...]
    releases: Mapping[str, tuple[Release, ...]]
    guarantee: Guarantee
    evaluation: EvaluationFacts

    @property
    def has_noise(self) -> bool:
        """Whether the study asks for noise at all."""
        return self.evidence.study.privacy.mechanism is not Mechanism.NONE

    @property
    def trained(self) -> list[tuple[Release, Trained]]:
        """Every training release that was sent, with what its engine did."""
        return [
            (release, release.engine)
            for _, found in sorted(self.releases.items())
            for release in found
            if isinstance(release.engine, Trained)
        ]


@dataclass(frozen=True, slots=True)
class Finding:
    """A status, where it comes from, why, and the entries that show it."""

    status: Status
    origin: Origin
    text: str
    records: tuple[Record[Body], ...] = ()


Question = Callable[[Case], Finding]


def sent(releases: Iterable[Release]) -> tuple[Record[Body], ...]:
    """The entries by which releases left."""
    return tuple(release.sent for release in releases if release.sent is not None)
