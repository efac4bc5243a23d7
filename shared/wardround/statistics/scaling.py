"""Standardisation by released values: (x - mean) / sd, the same at every hospital.

The centre and the spread are functions of the released sums alone. They are on v, the value on the
contract's range [-1, 1], which is the feature that a study without standardisation uses; so
standardising is one more line per feature. Nothing here looks at a record.
"""

from dataclasses import dataclass

from wardround.canonical import Json
from wardround.statistics.cells import ONE, NumberCells
from wardround.statistics.released import ReleasedStatistics
from wardround.study.contract import ColumnKind

# A spread below a twentieth of half the range is noise more often than truth: it would blow the
# noise up in the feature. Public, and the same for everybody.
LEAST_SPREAD = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Standardisation:
    """One continuous column: its feature v becomes (v - centre) / spread.

    `released` is False where the noise drowned mean or spread: the contract's range is kept then.
    """

    column: str
    centre: float
    spread: float
    released: bool

    def to_json(self) -> Json:
        """As it stands in the report and beside an exported model."""
        return {
            "column": self.column,
            "centre": self.centre,
            "spread": self.spread,
            "released": self.released,
        }


def standardisations(
    released: ReleasedStatistics, noise_lanes: float
) -> tuple[Standardisation, ...]:
    """The scaling of every continuous column that was counted, in the contract's order."""
    continuous = {
        column.name
        for column in released.layout.contract.columns
        if column.kind is ColumnKind.CONTINUOUS
    }
    return tuple(
        _of(released, column, place, noise_lanes / ONE)
        for column, place in released.layout.placed()
        if isinstance(column, NumberCells) and column.name in continuous
    )


def _of(
    released: ReleasedStatistics, column: NumberCells, place: slice, noise: float
) -> Standardisation:
    moments = released.moments(column, place, noise)
    mean, variance = moments.mean().value, moments.variance().value
    if mean is None or variance is None:
        return Standardisation(column=column.name, centre=0.0, spread=1.0, released=False)
    spread = max(variance**0.5, LEAST_SPREAD)
    return Standardisation(column=column.name, centre=mean, spread=spread, released=True)
