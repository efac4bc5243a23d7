"""One hospital's exact sums beside what was released of all: how far it is from the others.

It is computed at the hospital, and stays there. What was released is public and was charged, so
the comparison costs nothing. The hospital's own exact part is taken out of it first, since in a
sum of three hospitals it would hide a third of the difference.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import hypot, sqrt

from wardround.errors import BadInput
from wardround.quality.disclosure import FEW
from wardround.statistics.cells import INTENSITY, ONE, CategoryCells, NumberCells, part_of
from wardround.statistics.intervals import LEAST_PATIENTS_OVER_NOISE, Z_95
from wardround.statistics.layout import PATIENTS, StatisticsLayout, Sums
from wardround.statistics.released import ReleasedStatistics
from wardround.statistics.scaling import LEAST_SPREAD

# Below it a share is that of a handful, also for own eyes: such a table is easily passed on.
_HIDDEN = 5


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What was released, its noise in lanes, and this hospital's exact part (None: it has none)."""

    released: ReleasedStatistics
    noise_lanes: float
    own: Sums | None = field(default=None, repr=False)

    def others(self) -> ReleasedStatistics:
        """The noised sums over all other hospitals. Raises BadInput for a part that cannot be."""
        if self.own is None:
            return self.released
        if self.own.shape != self.released.sums.shape or self.released.hospitals < 2:
            raise BadInput("statistics: the own part does not fit what was released")
        released = self.released
        return ReleasedStatistics(
            released.layout, released.sums - self.own, released.hospitals - 1, released.asked
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One mean or share, here and at the others.

    Of means `apart` is in standard deviations of the others' patients; of shares it is a difference
    of shares. `sure` is what is left of it after the 95 % ends of noise and of own sampling. `own`
    is None where it would tell of fewer than 5 patients. `has_unit` is False for what is computed
    of a picture's or a series' shape, and could not be in a wrong unit.
    """

    name: str
    what: str
    unit: str
    own: float | None = field(repr=False)
    others: float
    apart: float = field(repr=False)
    sure: float = field(repr=False)
    has_unit: bool = True

    @property
    def of_means(self) -> bool:
        """Whether two means are compared, and not two shares."""
        return self.what == "mean"


@dataclass(frozen=True, slots=True)
class _Part:
    """So many of so many patients, each with noise of a standard deviation, in patients."""

    part: float
    whole: float
    part_noise: float = 0.0
    whole_noise: float = 0.0


def differences(own: Sums, reference: Reference) -> tuple[Difference, ...]:
    """All means and shares that noise and numbers leave to be compared.

    `own` are this hospital's exact sums as they are now, in the layout of `reference`. What fewer
    than 11 patients here have, or what drowns in the noise, is left out.
    """
    mine = ReleasedStatistics(reference.released.layout, own, 1, 1)
    theirs, noise = reference.others(), reference.noise_lanes / ONE
    return tuple(_differences(mine, theirs, noise))


def _differences(
    mine: ReleasedStatistics, theirs: ReleasedStatistics, noise: float
) -> Iterator[Difference]:
    counts = [(each.sums / ONE).tolist() for each in (mine, theirs)]
    here, there = counts
    yield from _outcomes(here, there, mine.layout, noise)
    for column, place in mine.layout.placed():
        if column.may_be_missing:
            yield from _shares(
                column.name,
                "missing",
                _Part(here[place.start], here[PATIENTS]),
                _Part(there[place.start], there[PATIENTS], noise, noise),
            )
        if isinstance(column, NumberCells):
            yield from _means(mine, theirs, column, place, noise)
        else:
            yield from _categories(here[place], there[place], column, noise)


def _outcomes(
    here: list[float], there: list[float], layout: StatisticsLayout, noise: float
) -> Iterator[Difference]:
    """Outcomes as shares of the patients; of a prognosis who had the event, and who left early."""
    label, cells = layout.contract.label, layout.outcome_cells
    groups = {name: [cells.start + at] for at, name in enumerate(layout.outcomes)}
    if label.time is not None:
        steps, first = len(label.time.edges), cells.start
        until = f"until {label.time.horizon:g} {label.time.unit}"
        groups = {
            f"event {until}": list(range(first, first + steps)),
            f"left {until}": list(range(first + steps, first + 2 * steps)),
        }
    groups.pop("negative", None)  # it is all others than the positive ones
    for name, lanes in groups.items():
        yield from _shares(
            label.name,
            name,
            _Part(sum(here[at] for at in lanes), here[PATIENTS]),
            _Part(sum(there[at] for at in lanes), there[PATIENTS], sqrt(len(lanes)) * noise, noise),
        )


def _means(
    mine: ReleasedStatistics,
    theirs: ReleasedStatistics,
    column: NumberCells,
    place: slice,
    noise: float,
) -> Iterator[Difference]:
    own, rest = mine.moments(column, place, 0.0), theirs.moments(column, place, noise)
    ours, others, variance = own.mean().value, rest.mean(), rest.variance().value
    if own.patients < FEW or ours is None or others.value is None or variance is None:
        return
    spread = max(sqrt(variance), LEAST_SPREAD)
    reach = max(others.high - others.value, others.value - others.low)
    reach += Z_95 * spread / sqrt(own.patients)
    apart = abs(ours - others.value)
    half, middle = column.half_range, (column.low + column.high) / 2
    yield Difference(
        name=column.name,
        what="mean",
        unit=column.unit,
        own=middle + half * ours,
        others=middle + half * others.value,
        apart=apart / spread,
        sure=max(apart - reach, 0.0) / spread,
        has_unit=column.of is None or column.name == part_of(column.of, INTENSITY),
    )


def _categories(
    here: list[float], there: list[float], column: CategoryCells, noise: float
) -> Iterator[Difference]:
    skipped, cells = int(column.may_be_missing), len(column.categories)
    ours, others = here[skipped:], there[skipped:]
    for at, category in enumerate(column.categories):
        yield from _shares(
            column.name,
            category,
            _Part(ours[at], sum(ours)),
            _Part(others[at], sum(others), noise, sqrt(cells) * noise),
        )


def _shares(name: str, what: str, own: _Part, rest: _Part) -> Iterator[Difference]:
    drowned = rest.whole < LEAST_PATIENTS_OVER_NOISE * rest.whole_noise or rest.whole <= 0
    if own.whole < FEW or drowned:
        return
    here, there = own.part / own.whole, min(max(rest.part / rest.whole, 0.0), 1.0)
    reach = Z_95 * hypot(rest.part_noise, there * rest.whole_noise) / rest.whole
    reach += Z_95 * sqrt(there * (1.0 - there) / own.whole)
    apart = abs(here - there)
    few = 0 < own.part < _HIDDEN or 0 < own.whole - own.part < _HIDDEN
    yield Difference(
        name=name,
        what=what,
        unit="1",
        own=None if few else here,
        others=there,
        apart=apart,
        sure=max(apart - reach, 0.0),
    )
