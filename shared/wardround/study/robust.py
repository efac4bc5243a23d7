"""Sums over groups: how a study keeps a few hospitals from spoiling the model unseen."""

from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from wardround.study.contract import Frozen

FEWEST_GROUPS: Final = 3


class Rule(StrEnum):
    """How the means of the groups become one (`wardround.robust.rules`)."""

    MEAN = "mean"
    MEDIAN = "median"
    TRIMMED_MEAN = "trimmed-mean"
    KRUM = "krum"
    CLUSTERING = "clustering"


class Robust(Frozen):
    """Training rounds are summed in `groups` random groups, whose means one rule combines.

    `trim` groups are left out at each end of every coordinate by trimmed-mean; krum withstands
    `wrong` groups. A group is flagged when it lies `far` times as far from the others as is
    usual among them. The groups' sums are opened, so a guarantee that counts hospitals counts
    those of the smallest group.
    """

    groups: Annotated[int, Field(ge=FEWEST_GROUPS, le=100)]
    rule: Rule
    trim: Annotated[int, Field(ge=1, le=49)] | None = Field(
        default=None, exclude_if=lambda value: value is None
    )
    wrong: Annotated[int, Field(ge=0, le=48)] | None = Field(
        default=None, exclude_if=lambda value: value is None
    )
    far: Annotated[float, Field(ge=1.2, le=10)] = 1.5

    @model_validator(mode="after")
    def _parameters_are_the_rules(self) -> Self:
        for name, value, rule in (
            ("trim", self.trim, Rule.TRIMMED_MEAN),
            ("wrong", self.wrong, Rule.KRUM),
        ):
            if (value is not None) != (self.rule is rule):
                raise ValueError(f"robust: `{name}` belongs to rule = {rule}, and only there")
        if self.trim is not None and 2 * self.trim >= self.groups:
            raise ValueError(
                f"robust: trim {self.trim} at each end of {self.groups} groups leaves none"
            )
        if self.wrong is not None and self.groups < 2 * self.wrong + 3:
            raise ValueError(
                f"robust: krum withstands {self.wrong} of at least {2 * self.wrong + 3} groups, "
                f"{self.groups} came (Blanchard et al. 2017)"
            )
        return self

    @property
    def fewest(self) -> int:
        """How many groups' sums have to open for a round: three, and more than half."""
        return max(FEWEST_GROUPS, self.groups // 2 + 1)

    def check_sizes(self, *, quorum: int, minimum: int, rounds: int) -> None:
        """Raise ValueError unless every cohort of the study fills its groups."""
        if quorum < self.groups * minimum:
            raise ValueError(
                f"study: rounds.quorum {quorum} is below robust.groups {self.groups} x "
                f"masking.minimum_hospitals {minimum}: a group would be too small to open"
            )
        if not rounds:
            raise ValueError("study: [robust] is about training rounds, rounds.count is 0")

    def sizes(self, hospitals: int) -> range:
        """The sizes that groups of so many hospitals can have.

        >>> list(Robust(groups=4, rule=Rule.MEDIAN).sizes(13))
        [3, 4]
        """
        return range(hospitals // self.groups, -(-hospitals // self.groups) + 1)
