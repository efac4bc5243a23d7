"""Whether a patient's record can be read off one message: whose of so many records was it.

In each trial one of a few patients, drawn at random, is trained on alone. The attacker inverts the
message in closed form and names the patient whose record is most like what comes out. With noise
as claimed that succeeds with probability F(1/candidates) at most, F the trade-off curve of one
message. (Balle, Cherubin and Hayes 2022; Hayes, Mahloujifar and Balle 2023, Theorem 2)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wardround.models.networks import build
from wardround.privacy.attack_bounds import clopper_pearson
from wardround.privacy.trade_off import TradeOff
from wardround.privacy.verdict import Verdict
from wardround.randomness import Randomness, uniform
from wardround_client.attacks.inversion import (
    correlation,
    first_layer,
    invert,
    resemblance,
)
from wardround_client.attacks.membership import mean_records
from wardround_client.attacks.messages import Message, Sender, Stage
from wardround_client.attacks.subjects import of_patients
from wardround_client.training.learning import looked_at
from wardround_client.training.plan import PatientRecords

CANDIDATES = 16
TRIALS = 64
_FEWEST_CANDIDATES = 4
# The raw message shows that the attack is one: it must name this share of the patients.
_CONTROL = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How one message was read."""

    right: bool
    correlation: float
    relative_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All trials at one stage. `allowed` and `verdict` are None where nothing is claimed."""

    stage: Stage
    trials: int
    candidates: int
    right: int
    right_low: float
    right_high: float
    allowed: float | None
    correlation: float
    correlation_error: float
    relative_error: float
    verdict: Verdict | None


def read_messages(
    sender: Sender,
    patients: PatientRecords,
    *,
    claims: Mapping[Stage, TradeOff | None],
    alpha: float,
    randomness: Randomness,
    trials: int = TRIALS,
) -> tuple[Reading, ...]:
    """Run the trials. Empty where there are too few patients to be told apart.

    VIOLATION: the lower bound of the success exceeds what the stage's claim allows. PASS: it does
    not, and the same attack reads the raw message. INCONCLUSIVE: it cannot even do that.
    """
    candidates = min(CANDIDATES, patients.patients)
    if candidates < _FEWEST_CANDIDATES:
        return ()
    found: dict[Stage, list[Trial]] = {}
    for _ in range(trials):
        for stage, trial in _one_trial(sender, patients, candidates, randomness):
            found.setdefault(stage, []).append(trial)
    raw = [trial.right for trial in found["raw"]]
    works = float(np.mean(raw)) >= _CONTROL
    return tuple(
        _reading(stage, seen, candidates, claims.get(stage), alpha=alpha, works=works)
        for stage, seen in found.items()
    )


def _one_trial(
    sender: Sender, patients: PatientRecords, candidates: int, randomness: Randomness
) -> Iterator[tuple[Stage, Trial]]:
    drawn = np.argsort(uniform(patients.patients, randomness))[:candidates]
    # As the network sees them: a discriminator sees the label as well.
    records = mean_records(looked_at(of_patients(patients, drawn), sender.study)[0])
    # The order is random, so that the first one is a fair draw of the candidates.
    for message in sender.messages(of_patients(patients, drawn[:1])):
        yield message.stage, _read(sender, message, records)


def _read(sender: Sender, message: Message, records: npt.NDArray[np.float64]) -> Trial:
    units = first_layer(build(sender.study), message.change)[:1]
    if not len(units):  # a silent message
        return Trial(right=False, correlation=0.0, relative_error=1.0)
    read, target = invert(units)[0], records[0]
    alike = resemblance(units, records)[0]
    distance = float(np.linalg.norm(read - target)) / max(float(np.linalg.norm(target)), 1e-12)
    return Trial(
        # Among records that look the same the attacker would have to guess: that is no success.
        right=bool(alike[0] > alike[1:].max()),
        correlation=correlation(read, target),
        relative_error=distance,
    )


def _reading(
    stage: Stage,
    seen: list[Trial],
    candidates: int,
    claim: TradeOff | None,
    *,
    alpha: float,
    works: bool,
) -> Reading:
    right = sum(trial.right for trial in seen)
    low, high = clopper_pearson(right, len(seen), alpha=2 * alpha)
    allowed = None if claim is None else claim.right_most(1.0 / candidates)
    alike = np.array([trial.correlation for trial in seen])
    verdict = None
    if allowed is not None:
        quiet = Verdict.PASS if works else Verdict.INCONCLUSIVE
        verdict = Verdict.VIOLATION if low > allowed else quiet
    return Reading(
        stage=stage,
        trials=len(seen),
        candidates=candidates,
        right=right,
        right_low=low,
        right_high=high,
        allowed=allowed,
        correlation=float(alike.mean()),
        correlation_error=float(alike.std(ddof=1) / np.sqrt(len(seen))),
        relative_error=float(np.median([trial.relative_error for trial in seen])),
        verdict=verdict,
    )
