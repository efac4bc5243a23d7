"""The body of `data-described`: what a hospital chose to say of its data."""

from typing import Annotated, Literal

from pydantic import Field

from wardround.audit.body_fields import Body, Digest, RunId
from wardround.quality.disclosure import LEAST_TOLD, STEP
from wardround.quality.verdict import Reason, Verdict
from wardround.study.contract import MOST_TARGETS, Frozen

Told = Annotated[int, Field(ge=LEAST_TOLD, le=10**9, multiple_of=STEP)]
Outcomes = Annotated[tuple[Told | None, ...], Field(max_length=2 * MOST_TARGETS, strict=False)]
Missing = Annotated[tuple[Told | None, ...], Field(max_length=5000, strict=False)]
VerdictWord = Annotated[Verdict, Field(strict=False)]
Reasons = Annotated[
    tuple[Annotated[Reason, Field(strict=False)], ...], Field(max_length=len(Reason), strict=False)
]


class DataNumbers(Frozen):
    """Counts of patients (and records): to the nearest 5, null for fewer than 11.

    `outcomes` are in the order of `wardround.quality.numbers.outcomes_of`; `missing` counts
    patients without a value in the order of `may_lack`.
    """

    patients: Told | None
    records: Told | None
    outcomes: Outcomes
    missing: Missing


class DataDescribed(Body):
    """The verdict on a hospital's data, once in a run, and the numbers that its policy tells.

    `compared_with` is the digest of the released statistics that they were compared with. The words
    depend on patients and no noise covers them.
    """

    TYPE = "data-described"
    run: RunId
    verdict: VerdictWord
    reasons: Reasons
    compared_with: Digest | None
    noise: Literal["none"]
    numbers: DataNumbers | None
