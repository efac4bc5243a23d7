"""A risk as an interval that is calibrated at this hospital, whatever the model is like.

The hospital's own held-out patients calibrate: they did not train the model, and nothing of this
leaves. An inductive Venn-Abers predictor gives two probabilities, one for either outcome of the
patient in question; one of the two is perfectly calibrated in expectation, as long as the patient
is exchangeable with those that calibrate. A wide interval says that there are few like this one.

Where some stand in for others, they have weights, and the patient in question weighs as much as the
heaviest of them: what is not known of it can only widen the interval. (Tibshirani, Barber, Candes
and Ramdas 2019, Conformal prediction under covariate shift: the weights of all, its own included)
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import isotonic_regression

from wardround.errors import BadInput

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RiskInterval:
    """`low` and `high` bound the probability; `risk` is the one number to be named."""

    low: float
    high: float

    @property
    def risk(self) -> float:
        """The probability that does best under log loss whichever of the two is right.

        (Vovk and Petej 2014, section 5: p1 / (1 - p0 + p1))
        """
        return self.high / (1.0 - self.low + self.high)


@dataclass(frozen=True, slots=True)
class Calibrator:
    """Scores, outcomes and weights of the patients that calibrate, sorted by score."""

    scores: Scores
    outcomes: npt.NDArray[np.bool_]
    weights: Scores

    @classmethod
    def of(
        cls, scores: Scores, outcomes: npt.NDArray[np.bool_], weights: Scores | None = None
    ) -> "Calibrator":
        """Each counts once, or as `weights` says.

        Raises BadInput without patients, when all of them had the same outcome, and for a weight
        that is not above 0.
        """
        weights = np.ones(len(scores)) if weights is None else weights
        if weights.shape != scores.shape or not (np.isfinite(weights) & (weights > 0)).all():
            raise BadInput("calibration: one finite weight above 0 a patient was due")
        if scores.shape != outcomes.shape or scores.ndim != 1 or not np.isfinite(scores).all():
            raise BadInput("calibration: one finite score and one outcome a patient were due")
        if not outcomes.any() or outcomes.all():
            raise BadInput(
                "calibration: held-out patients with and without the outcome were due, "
                f"{len(outcomes)} of one kind came"
            )
        order = np.argsort(scores, kind="stable")
        return cls(scores[order], outcomes[order], weights[order])

    def interval(self, score: float) -> RiskInterval:
        """The interval of a patient with this score.

        Isotonic regression over the calibrating patients and this one, once with the outcome and
        once without. (Vovk and Petej 2014, Venn-Abers predictors, algorithm 1 and 2)
        """
        return RiskInterval(self._fitted(score, outcome=0.0), self._fitted(score, outcome=1.0))

    def _fitted(self, score: float, *, outcome: float) -> float:
        place = int(np.searchsorted(self.scores, score))
        scores = np.insert(self.scores, place, score)
        outcomes = np.insert(self.outcomes.astype(np.float64), place, outcome)
        weights = np.insert(self.weights, place, self.weights.max())
        # Equal scores are one point: its mean, as heavy as its patients.
        _, first = np.unique(scores, return_index=True)
        heavy = np.add.reduceat(weights, first)
        means = np.add.reduceat(weights * outcomes, first) / heavy
        fitted = isotonic_regression(means, sample_weight=heavy)
        return float(fitted[np.searchsorted(scores[first], score)])
