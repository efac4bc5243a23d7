"""What choosing a treatment by the model would do, from one more table of counts.

The table has a cell for each stratum of predicted benefit, arm and outcome, and a patient is in one
cell. Where chance decided who was treated, with a probability that everybody knows, it gives the
effect of treatment, what would happen if everybody, nobody or those whom the model picks were
treated, and the benefit that was observed where little or much of it was predicted.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt

from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.evaluation.binary import BinaryLayout
from wardround.evaluation.detailed import DetailedLayout
from wardround.evaluation.histograms import Counts, CountsMode, EvaluationCounts, Scores
from wardround.evaluation.intervals import Z_95, wilson
from wardround.evaluation.layout import Outcomes, RawLanes, check_lanes
from wardround.evaluation.metrics import Estimate, rounded
from wardround.evaluation.propagation import noise_spread
from wardround.evaluation.suppression import SMALLEST_SHOWN, Standing, standings
from wardround.study.treatment import Treatment

UNTREATED, TREATED = 0, 1
CONTRADICTED = 4.0  # standard deviations: chance alone does so once in 16,000 trials

Cells = npt.NDArray[np.float64]
"""[strata, arm, outcome], the outcome 1 where what is to be avoided happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreatmentLayout:
    """Lanes: those of the whole, then the table, stratum by stratum, arm by arm."""

    whole: BinaryLayout | DetailedLayout
    plan: Treatment

    def __post_init__(self) -> None:
        """Raise BadInput for more lanes than a log holds, or another label than yes or no."""
        check_lanes(self.lanes, f"a table of {self._table} cells for a treatment")
        self._binary.cut.threshold_bin(self._binary.threshold)

    @property
    def _binary(self) -> BinaryLayout:
        inner = self.whole.whole if isinstance(self.whole, DetailedLayout) else self.whole
        if not isinstance(inner, BinaryLayout):
            raise BadInput("evaluation: a treatment needs a label of yes or no")
        return inner

    @property
    def _table(self) -> int:
        return 4 * len(self.plan.strata)

    @property
    def mode(self) -> CountsMode:
        """Exact counts, or counts with noise."""
        return self.whole.mode

    @property
    def lanes(self) -> int:
        """Length of the vector that travels."""
        return self.whole.lanes + self._table

    @property
    def squared_sensitivity(self) -> int:
        """One more than the whole's: a patient is in one cell of the table."""
        return self.whole.squared_sensitivity + 1

    def lane_limit(self, patients: int) -> int:
        """As the layout of the whole says; a cell has no more than all patients."""
        return max(patients, self.whole.lane_limit(patients))

    def count(self, outcomes: Outcomes) -> RawLanes:
        """Patients as the whole counts them, and by what each arm would have predicted.

        Raises BadInput without the arms of the patients, or what the model says of them in both.
        """
        treated, arms, patients = outcomes.treated, outcomes.arms, len(outcomes.truth)
        if treated is None or treated.shape != (patients,):
            raise BadInput("evaluation: which arm each patient was in was due")
        if arms is None or arms.shape != (patients, 2):
            raise BadInput("evaluation: what the model says of each patient in both arms was due")
        strata = strata_of(arms, self.plan)
        bad = outcomes.truth > 0.5 if self.plan.yes_is == "bad" else outcomes.truth <= 0.5
        cells = (strata * 2 + treated.astype(np.int64)) * 2 + bad
        table = np.bincount(cells, minlength=self._table).astype(np.int64)
        return RawLanes(self, np.concatenate([self.whole.count(outcomes).lanes, table]))

    def check(self, lanes: Counts) -> None:
        """The table has the patients of the whole, with the same outcomes."""
        own, cells = self._read(lanes)
        self.whole.check(own)
        cut = self._binary.cut
        of_class = EvaluationCounts.from_lanes(own[: cut.lanes], cut).histogram.sum(axis=1)
        of_outcome = cells.sum(axis=(0, 1))
        due = of_class if self.plan.yes_is == "bad" else of_class[::-1]
        if not np.array_equal(of_outcome, due):
            raise BadInput("evaluation counts: the table of treatments has other patients")

    def metrics(self, lanes: Counts, *, cell_noise_sd: float) -> Json:
        """The whole's, and beside them `treatment`."""
        own, cells = self._read(lanes)
        return self.whole.metrics(own, cell_noise_sd=cell_noise_sd) | {
            "treatment": rounded(_Told(self.plan, cells, cell_noise_sd).to_json())
        }

    def _read(self, lanes: Counts) -> tuple[Counts, Counts]:
        return lanes[: self.whole.lanes], lanes[self.whole.lanes :].reshape(-1, 2, 2)


def benefit_of(arms: Scores, plan: Treatment) -> Scores:
    """[patients, 2] what the model says untreated and treated -> [patients] predicted benefit."""
    lower = arms[:, UNTREATED] - arms[:, TREATED]
    return lower if plan.yes_is == "bad" else -lower


def strata_of(arms: Scores, plan: Treatment) -> npt.NDArray[np.int64]:
    """[patients]: the number of each one's stratum."""
    return np.searchsorted(plan.edges, benefit_of(arms, plan), side="right").astype(np.int64)


@dataclass(frozen=True)
class _Told:
    """The table as it is read; `cells` are counts, with noise or without."""

    plan: Treatment
    cells: Counts
    cell_noise_sd: float

    def to_json(self) -> Json:
        everybody, nobody, picked = self._weights()
        arms = self.cells.sum(axis=(0, 2)).tolist()
        return {
            "treated": self.plan.treated,
            "untreated": self.plan.untreated,
            "assignment": self.plan.assignment,
            "basis": self.plan.basis,
            "worth": self.plan.worth,
            "allocation": self._allocation(*arms),
            "risk_untreated": self._said(lambda c: value(c, nobody), _clipped),
            "risk_treated": self._said(lambda c: value(c, everybody), _clipped),
            "benefit": self._said(lambda c: difference(c, nobody, everybody)),
            "policy": {
                "treats": self._share(),
                "risk": self._said(lambda c: value(c, picked), _clipped),
                "less_than_untreated": self._said(lambda c: difference(c, nobody, picked)),
                "less_than_treated": self._said(lambda c: difference(c, everybody, picked)),
            },
            "strata": self._strata(nobody, everybody),
        }

    def _weights(self) -> tuple[Cells, Cells, Cells]:
        """One over the probability of the arm that a policy wants, [strata, arm]; 0 of the other.

        Treat all, treat none, treat whom the model gives `worth` or more.
        """
        shape = self.cells.shape[:2]
        everybody, nobody = np.zeros(shape), np.zeros(shape)
        everybody[:, TREATED] = 1.0 / self.plan.probability
        nobody[:, UNTREATED] = 1.0 / (1.0 - self.plan.probability)
        first = self.plan.edges.index(self.plan.worth) + 1
        picks = (np.arange(len(self.cells)) >= first)[:, None]
        return everybody, nobody, np.where(picks, everybody, nobody)

    def _allocation(self, untreated: int, treated: int) -> Json:
        """Whether so many of the arms are what chance gives; the study declared its probability."""
        patients, due = untreated + treated, self.plan.probability
        ends = wilson(treated, patients)
        variance = patients * due * (1 - due) + self.cell_noise_sd**2 * self.cells.size
        away = abs(treated - patients * due) / math.sqrt(variance) if variance > 0 else 0.0
        return {
            "untreated": untreated,
            "treated": treated,
            "share": None if ends is None else treated / patients,
            "low": None if ends is None else ends[0],
            "high": None if ends is None else ends[1],
            "declared": due,
            "contradicts": away > CONTRADICTED,
        }

    def _share(self) -> float | None:
        total = int(self.cells.sum())
        first = self.plan.edges.index(self.plan.worth) + 1
        return None if total <= 0 else min(1.0, max(0.0, self.cells[first:].sum() / total))

    def _strata(self, nobody: Cells, everybody: Cells) -> list[Json]:
        exact = self.cell_noise_sd == 0.0
        each = [tuple(cell.reshape(-1).tolist()) for cell in self.cells]
        words = standings(each, SMALLEST_SHOWN, exact=exact)
        return [
            self._stratum(at, word, name, nobody, everybody)
            for at, (word, name) in enumerate(zip(words, self.plan.strata, strict=True))
        ]

    def _stratum(self, at: int, word: Standing, name: str, nobody: Cells, everybody: Cells) -> Json:
        shown, arms = word is Standing.SHOWN, self.cells[at].sum(axis=1)
        return {
            "benefit": name,
            "standing": word.value,
            "untreated": int(arms[UNTREATED]) if shown else None,
            "treated": int(arms[TREATED]) if shown else None,
            "observed": self._said(
                lambda c: difference(c[at : at + 1], nobody[:1], everybody[:1]) if shown else None
            ),
        }

    def _said(
        self,
        asked: Callable[[Counts], tuple[float, float] | None],
        kept: Callable[[float], float] = float,
    ) -> Json | None:
        """The value with both intervals; None where the counts do not say it."""
        found = asked(self.cells)
        if found is None:
            return None
        value, error = found
        half = Z_95 * error
        said = Estimate(value=kept(value), low=kept(value - half), high=kept(value + half))
        if self.cell_noise_sd:
            spread = noise_spread(
                lambda cells: None if (one := asked(cells)) is None else one[0],
                self.cells,
                self.cell_noise_sd,
            )
            if spread is None:
                return None
            said = replace(said, noise_low=kept(value - spread), noise_high=kept(value + spread))
        return asdict(said)


def value(cells: Counts, weights: Cells) -> tuple[float, float] | None:
    """The risk if a policy were followed, and its standard error; None where nobody followed it.

    `weights` [strata, arm] are one over the probability of the arm that the policy wants, 0 for the
    other. Patients whose arm is what the policy wants stand for all. (Qian and Murphy 2011, Annals
    of Statistics 39, 1180, equation 1.2, normalised; the error by the influence function)
    """
    found = _influence(cells, weights)
    return None if found is None else (found[0], _error(cells, found[1]))


def difference(cells: Counts, one: Cells, other: Cells) -> tuple[float, float] | None:
    """The risk under one policy less that under another, of the same patients, and its error."""
    first, second = _influence(cells, one), _influence(cells, other)
    if first is None or second is None:
        return None
    return first[0] - second[0], _error(cells, first[1] - second[1])


def _influence(cells: Counts, weights: Cells) -> tuple[float, Cells] | None:
    """The value, and what one patient of each cell adds to it."""
    followed = weights * cells.sum(axis=2)
    total = float(followed.sum())
    if total <= 0:
        return None
    risk = float((weights * cells[:, :, 1]).sum()) / total
    outcomes = np.array([0.0, 1.0])
    return risk, weights[:, :, None] * (outcomes - risk) / total


def _error(cells: Counts, influence: Cells) -> float:
    return math.sqrt(max(0.0, float((cells * influence**2).sum())))


def _clipped(share: float) -> float:
    return min(1.0, max(0.0, share))
