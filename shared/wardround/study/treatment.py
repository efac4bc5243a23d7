"""Choosing between treatments: what a study declares so that a model may say a word on it.

A model of risks says what happens to patients who were treated as these were. What would happen to
one patient under either treatment follows from it only where chance decided who was treated, or
where somebody says aloud that it is as if chance had. (Rubin 1974; Hernan and Robins 2020, ch. 2-3)
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wardround.study.contract import ColumnKind, Contract, Frozen, LabelKind, Name, Text

MOST_EDGES = 9
CAVEATS = {
    "randomised": "Who was treated was decided by chance: {basis}",
    "assumed": "Nobody was randomised; it is assumed, not shown: {basis}",
}
Arm = Annotated[str, Field(min_length=1, max_length=100)]
Difference = Annotated[float, Field(gt=-1, lt=1)]


class Treatment(Frozen):
    """Two arms, and how patients came into them.

    `column` is a binary column of the contract that is never missing: 1 is the arm `treated`, 0 the
    arm `untreated`. `probability` is that of being treated, by the trial's protocol. Assignment
    `randomised` needs `protocol`, where chance is written down; `assumed` needs `assumption`, why
    it is as if chance had decided, and every page that shows a number repeats it.
    A patient's predicted benefit is the risk of what is to be avoided without treatment, less the
    risk with it; `yes_is` says whether the label's yes is to be avoided. `edges` cut the benefit
    into strata in which the observed one stands beside it. The model treats whom it gives `worth`
    or more, which is one of the edges: all of them are public and none comes from the data.
    """

    column: Name
    treated: Arm
    untreated: Arm
    probability: Annotated[float, Field(gt=0, lt=1)]
    assignment: Literal["randomised", "assumed"]
    protocol: Text | None = None
    assumption: Text | None = None
    yes_is: Literal["bad", "good"] = "bad"
    edges: tuple[Difference, ...] = Field(default=(0.0,), min_length=1, max_length=MOST_EDGES)
    worth: Difference = 0.0

    @model_validator(mode="after")
    def _chance_is_written_down(self) -> Self:
        randomised = self.assignment == "randomised"
        if randomised != (self.protocol is not None) or randomised == (self.assumption is not None):
            raise ValueError(
                "task.treatment: assignment randomised needs `protocol`, assumed needs "
                "`assumption`, and neither has both: without chance or an assumption said aloud a "
                "risk under another treatment means nothing"
            )
        return self

    @model_validator(mode="after")
    def _strata_rise(self) -> Self:
        if any(high <= low for low, high in pairwise(self.edges)):
            raise ValueError("task.treatment: `edges` have to rise")
        if self.worth not in self.edges:
            raise ValueError("task.treatment: `worth` is one of the `edges`")
        if self.treated == self.untreated:
            raise ValueError("task.treatment: both arms have the same name")
        return self

    @property
    def strata(self) -> tuple[str, ...]:
        """The strata of predicted benefit, in words, the least first.

        >>> Treatment(column="t", treated="a", untreated="b", probability=0.5, protocol="x",
        ...           assignment="randomised", edges=(0, 0.05)).strata
        ('< 0', '≥ 0, < 0.05', '≥ 0.05')
        """
        between = (f"≥ {low:g}, < {high:g}" for low, high in pairwise(self.edges))
        return (f"< {self.edges[0]:g}", *between, f"≥ {self.edges[-1]:g}")

    @property
    def caveat(self) -> str:
        """What the numbers rest on, in one sentence."""
        return CAVEATS[self.assignment].format(basis=self.basis)

    @property
    def basis(self) -> str:
        """Where chance is written down, or the assumption that stands for it."""
        return self.protocol or self.assumption or ""

    def faults(self, contract: Contract) -> Iterator[str]:
        """What does not fit the contract, one sentence each."""
        what = f"task.treatment: column {self.column}"
        column = next((one for one in contract.columns if one.name == self.column), None)
        if column is None or column.kind is not ColumnKind.BINARY or column.may_be_missing:
            yield f"{what}: a binary column of the contract is due that is never missing"
        if contract.label.kind is not LabelKind.BINARY:
            yield "task.treatment: a label of yes or no is due"
        if len(contract.columns) < 2 or contract.grid is not None:
            yield "task.treatment: a table is due with other columns beside the treatment"


class Ranking(Frozen):
    """Several numbers that are told beside each other for one patient, the best one first.

    `better` says whether a drug works the better, the lower or the higher its number is. A number
    is compared with the drug's own typical level, never with another drug's number.
    """

    better: Literal["lower", "higher"]

    def faults(self, contract: Contract) -> Iterator[str]:
        """What does not fit the contract, one sentence each."""
        if not contract.label.numbers or len(contract.label.targets) < 2:
            yield "task.ranking: a label with two targets or more that are numbers is due"
