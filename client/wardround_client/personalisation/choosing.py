"""How far to fine-tune: chosen by cross-validation inside the training patients.

No held-out patient is looked at, so that these still say how good the result is, and calibrate it.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import nn

from wardround.randomness import Randomness
from wardround.study.manifest import StudyPlan
from wardround_client.attacks.subjects import of_patients
from wardround_client.comparison.training import Model
from wardround_client.held_out import losses_of_patients
from wardround_client.personalisation.own_models import (
    Scope,
    Tuning,
    network_of,
    tuned_part,
    tuning_steps,
)
from wardround_client.shuffling import random_order
from wardround_client.training.plan import PatientRecords

FOLDS = 5
FEWEST = 10  # training patients: with fewer no choice is worth the name
STEPS = (0, 10, 30, 100, 300)
PULLS = (1.0, 0.1, 0.01)

Losses = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """So many steps with this pull: the mean loss of patients that it was not trained on.

    `error` is the standard error of its difference to the released model's.
    """

    steps: int
    pull: float
    loss: float
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What cross-validation chose, out of what, from how many patients."""

    tuning: Tuning
    candidates: tuple[Candidate, ...]
    patients: int
    folds: int


def choose(
    study: StudyPlan,
    model: Model,
    patients: PatientRecords,
    randomness: Randomness,
    *,
    scope: Scope,
    steps: int | None = None,
) -> Choice | None:
    """The fewest steps whose mean loss is within one standard error of the least.

    No step at all, which is the released model, is among them. Each patient is scored by a model
    that was fine-tuned on four fifths of the others. With `steps` only the pull is chosen. None
    with fewer than ten patients. (Breiman et al. 1984, section 3.4.3, the rule of one error)
    """
    if patients.patients < FEWEST:
        return None
    asked = STEPS if steps is None else (steps,)
    grid = [(count, pull) for pull in PULLS for count in asked if count or pull == PULLS[0]]
    order = random_order(patients.patients, randomness)
    part, records = tuned_part(network_of(study, model), study, patients, scope)
    losses = np.zeros((len(grid), patients.patients))
    before = np.zeros(patients.patients)
    for fold in range(FOLDS):
        out = np.sort(order[fold::FOLDS])
        others = of_patients(records, np.setdiff1d(order, out))
        left_out = of_patients(records, out)
        before[out] = losses_of_patients(part, left_out, study)
        for pull in PULLS:
            tuning = Tuning(scope=scope, steps=max(asked), pull=pull)
            path = _path(study, part, (others, left_out), tuning, asked, randomness)
            for place, (count, used) in enumerate(grid):
                if used == pull:
                    losses[place, out] = path[asked.index(count)]
    found = tuple(_candidate(*each, row, before) for each, row in zip(grid, losses, strict=True))
    own = nearest(found)
    chosen = Tuning(scope=scope, steps=own.steps, pull=own.pull)
    return Choice(tuning=chosen, candidates=found, patients=patients.patients, folds=FOLDS)


def nearest(candidates: Sequence[Candidate]) -> Candidate:
    """Of those within one standard error of the least loss: the fewest steps, the hardest pull."""
    best = min(candidates, key=lambda one: (one.loss, one.steps))
    within = [one for one in candidates if one.loss <= best.loss + best.error]
    return min(within, key=lambda one: (one.steps, -one.pull))


def _path(
    study: StudyPlan,
    part: nn.Module,
    parts: tuple[PatientRecords, PatientRecords],
    tuning: Tuning,
    asked: Sequence[int],
    randomness: Randomness,
) -> Losses:
    """[asked, patients of the fold]: the losses after each number of steps that is asked about."""
    others, left_out = parts
    network = copy.deepcopy(part)
    found = {0: losses_of_patients(network, left_out, study)} if 0 in asked else {}
    for number in tuning_steps(network, study, others, tuning, randomness):
        if number in asked:
            found[number] = losses_of_patients(network, left_out, study)
    rows = np.stack([found[number] for number in asked])
    return np.where(np.isfinite(rows), rows, np.inf)


def _candidate(steps: int, pull: float, losses: Losses, before: Losses) -> Candidate:
    if not np.isfinite(losses).all():
        return Candidate(steps=steps, pull=pull, loss=np.inf, error=np.inf)
    error = float((losses - before).std(ddof=1) / np.sqrt(len(losses)))
    return Candidate(steps=steps, pull=pull, loss=float(losses.mean()), error=error)
