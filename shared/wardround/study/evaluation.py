"""The plan of an evaluation, registered before the first round."""

from collections.abc import Iterator, Sequence
from datetime import date
from itertools import pairwise, product
from typing import Annotated, Literal, Self

from pydantic import Field, StrictBool, model_validator

from wardround.study.contract import Column, ColumnKind, Contract, Frozen, LabelKind, Name
from wardround.study.privacy import Probability

MAX_NOISED_BINS = 64  # beyond it the noise leaves nothing of an AUROC (decision 0004)
MOST_GROUPINGS = 8
MOST_SHUFFLED = 64
MOST_BANDS = 20
MOST_CROSSED = 36
SMALLEST_GROUP = 5  # as `wardround.evaluation.suppression` shows other counts
_GROUPED = {ColumnKind.BINARY, ColumnKind.CATEGORICAL, ColumnKind.CONTINUOUS}


class Grouping(Frozen):
    """Held-out patients told apart by one column of the contract.

    `edges` cut a continuous column into bands, each with its lower edge: below the first, between
    two, and from the last on. They are public: none may come from the data.
    """

    column: Name
    edges: tuple[float, ...] = Field(default=(), max_length=MOST_BANDS - 1)

    @property
    def name(self) -> str:
        """What the grouping is called."""
        return self.column

    @property
    def parts(self) -> tuple["Grouping", ...]:
        """The columns that tell patients apart: itself alone."""
        return (self,)

    def groups(self, column: Column) -> tuple[str, ...]:
        """Names of the groups in order; who is in none of them is not known.

        >>> age = Column(name="age", kind="continuous", description="age", unit="a", range=(18, 90))
        >>> Grouping(column="age", edges=(45, 65)).groups(age)
        ('< 45', '≥ 45, < 65', '≥ 65')
        """
        if column.kind is ColumnKind.BINARY:
            return ("0", "1")
        if column.kind is ColumnKind.CATEGORICAL:
            return column.categories
        between = (f"≥ {low:g}, < {high:g}" for low, high in pairwise(self.edges))
        return (f"< {self.edges[0]:g}", *between, f"≥ {self.edges[-1]:g}")

    def faults(self, contract: Contract) -> Iterator[str]:
        """What does not fit the contract, one sentence each."""
        what = f"evaluation: subgroups by {self.column}"
        column = next((each for each in contract.columns if each.name == self.column), None)
        if column is None or column.kind not in _GROUPED:
            yield f"{what}: a column of the contract is due that is {', '.join(sorted(_GROUPED))}"
            return
        bands = column.kind is ColumnKind.CONTINUOUS
        if bands != bool(self.edges):
            yield f"{what}: `edges` belong to continuous columns, and are due there"
        elif column.range is not None:
            steps = pairwise((column.range[0], *self.edges, column.range[1]))
            if any(high <= low for low, high in steps):
                yield f"{what}: `edges` have to rise within the column's range"
        if len(column.categories) > MOST_BANDS:
            yield f"{what}: {len(column.categories)} categories, {MOST_BANDS} at most are told"


class Crossing(Frozen):
    """Held-out patients told apart by two columns at once: a group for each pair of their groups.

    Who is not known in one of the columns is not known here.
    """

    crossed: tuple[Grouping, Grouping]

    @property
    def name(self) -> str:
        """What the crossing is called.

        >>> Crossing(crossed=(Grouping(column="sex"), Grouping(column="ward"))).name
        'sex by ward'
        """
        return " by ".join(part.column for part in self.crossed)

    @property
    def parts(self) -> tuple[Grouping, ...]:
        """The two groupings that are crossed."""
        return self.crossed

    def faults(self, contract: Contract) -> Iterator[str]:
        """What does not fit the contract, one sentence each."""
        found = [fault for part in self.crossed for fault in part.faults(contract)]
        yield from found
        if self.crossed[0].column == self.crossed[1].column:
            yield f"evaluation: subgroups by {self.name}: two different columns are due"
        elif not found:
            columns = {column.name: column for column in contract.columns}
            cells = len(crossed_groups([part.groups(columns[part.column]) for part in self.parts]))
            if cells > MOST_CROSSED:
                yield (
                    f"evaluation: subgroups by {self.name}: {cells} groups, {MOST_CROSSED} at most "
                    "are told"
                )


def crossed_groups(names: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Names of all pairs of groups, the last column's changing fastest.

    >>> crossed_groups([("0", "1"), ("< 65", "≥ 65")])
    ('0, < 65', '0, ≥ 65', '1, < 65', '1, ≥ 65')
    """
    return tuple(", ".join(pair) for pair in product(*names))


class Evaluation(Frozen):
    """The plan, registered before the first round: nobody picks a threshold afterwards.

    `counts = "exact"` opens exact pooled counts of held-out patients, which epsilon does not
    cover; `"noised"` adds noise for `epsilon` and charges it. `bins` are those of a score, a risk
    or a predicted value; `time_bins` those within one interval of a time-to-event label.
    `subgroups` are evaluated apart where at least `smallest_group` patients of each outcome are;
    `importance` names the columns (true: all) that are shuffled among a hospital's patients, to see
    what the model rests on. Both share the same epsilon. `beside` asks every hospital to score its
    patients by models of its own as well: one trained alone, and the study's one fine-tuned.
    """

    registered: date
    held_out: Annotated[float, Field(gt=0, lt=0.9)] = 0.25
    threshold: Probability = 0.5
    bins: Annotated[int, Field(ge=2, le=10_000)] = 1000
    time_bins: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=10, exclude_if=lambda value: value == 10
    )
    counts: Literal["exact", "noised"] = "exact"
    epsilon: Annotated[float, Field(gt=0, le=50)] | None = None
    subgroups: tuple[Grouping | Crossing, ...] = Field(
        default=(), max_length=MOST_GROUPINGS, exclude_if=lambda value: value == ()
    )
    smallest_group: Annotated[int, Field(ge=SMALLEST_GROUP, le=10_000)] = Field(
        default=SMALLEST_GROUP, exclude_if=lambda value: value == SMALLEST_GROUP
    )
    importance: (
        StrictBool | Annotated[tuple[Name, ...], Field(min_length=1, max_length=MOST_SHUFFLED)]
    ) = Field(default=False, exclude_if=lambda value: value is False)
    beside: tuple[Literal["local-only", "personalised"], ...] = Field(
        default=(), max_length=2, exclude_if=lambda value: value == ()
    )

    @model_validator(mode="after")
    def _epsilon_when_noised(self) -> Self:
        if (self.counts == "noised") != (self.epsilon is not None):
            raise ValueError("evaluation: `epsilon` belongs to counts = noised, and only there")
        if self.counts == "noised" and self.bins > MAX_NOISED_BINS:
            raise ValueError(f"evaluation: noised counts have at most {MAX_NOISED_BINS} bins")
        if abs(self.threshold * self.bins - round(self.threshold * self.bins)) > 1e-9:
            raise ValueError("evaluation: `threshold` must lie on the edge of a bin")
        return self

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        names = [tuple(sorted(p.column for p in each.parts)) for each in self.subgroups]
        shuffled = () if isinstance(self.importance, bool) else self.importance
        if len(set(names)) != len(names) or len(set(shuffled)) != len(shuffled):
            raise ValueError("evaluation: a column is named twice in `subgroups` or `importance`")
        if self.smallest_group != SMALLEST_GROUP and not names:
            raise ValueError("evaluation: `smallest_group` belongs to `subgroups`")
        if list(self.beside) != sorted(set(self.beside)):
            raise ValueError("evaluation: `beside` names each way once, local-only first")
        return self

    @model_validator(mode="after")
    def _margins_open_nothing(self) -> Self:
        """Exact counts of a crossing less those of its margins would be those of hidden groups.

        Columns that differ leave every grouping as protected as it is alone (decision 0024).
        """
        columns = [part.column for each in self.subgroups for part in each.parts]
        if self.counts == "exact" and len(set(columns)) != len(columns):
            raise ValueError(
                "evaluation: with exact counts a column is in one grouping or crossing alone, or a "
                "hidden group would come out by subtraction; ask for the crossing alone, or for "
                "counts = noised"
            )
        return self

    @property
    def detailed(self) -> bool:
        """Whether more than the whole is counted: groups, or shuffled columns."""
        return bool(self.subgroups or self.importance)

    def shuffled(self, contract: Contract) -> tuple[str, ...]:
        """The columns that are shuffled for importance, in the contract's order."""
        if isinstance(self.importance, bool):
            return tuple(column.name for column in contract.columns) if self.importance else ()
        return tuple(c.name for c in contract.columns if c.name in self.importance)

    def faults(self, contract: Contract) -> Iterator[str]:
        """What does not fit the contract, one sentence each."""
        if not self.detailed:
            return
        if contract.label.kind is LabelKind.NONE and not contract.label.positive:
            yield "evaluation: subgroups and importance need a label that the evaluation knows"
        for grouping in self.subgroups:
            yield from grouping.faults(contract)
        shuffled = self.shuffled(contract)
        if not self.importance:
            return
        if contract.image is not None or len(contract.columns) < 2:
            yield "evaluation: importance compares columns; of an image or one column there is none"
        if not isinstance(self.importance, bool) and len(shuffled) < len(self.importance):
            yield "evaluation: importance names a column that is not the contract's"
        if len(shuffled) > MOST_SHUFFLED:
            yield (
                f"evaluation: importance of {len(shuffled)} columns, at most {MOST_SHUFFLED} are "
                "shuffled; name them"
            )
