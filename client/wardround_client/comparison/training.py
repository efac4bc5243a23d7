"""A federation's training in one process, by the code that hospitals and coordinator run.

Hospitals train, clip, noise and round as in a study; their integers are added and the step is
taken. What is left out changes no number: masks, TLS, ledgers, logs, who does not answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from wardround.errors import BadInput
from wardround.masking.quantise import Lanes, dequantise, largest_limit
from wardround.models.generating import after_round
from wardround.models.networks import build, load_parameters, parameters_of
from wardround.optimisers import OptimiserState, step
from wardround.protocol.halves import trained_parameters, whole_update
from wardround.protocol.specs import standardises, training_scale
from wardround.randomness import Randomness
from wardround.study.manifest import Study, StudyPlan
from wardround_client.plans import step_sizes, training_plan
from wardround_client.training.distributed import one_step
from wardround_client.training.drift import Control
from wardround_client.training.learning import learning
from wardround_client.training.local import train
from wardround_client.training.plan import PatientRecords, StepSizes, TrainingPlan
from wardround_client.training.stages import lanes_of

Model = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Federation:
    """What all hospitals of a study have in common in every round."""

    study: Study
    plan: TrainingPlan
    sizes: StepSizes
    scale: float
    limit: int
    network: nn.Module = field(repr=False)


@dataclass(slots=True)
class Player:
    """One hospital: its patients, and under SCAFFOLD what it remembers of the round before."""

    patients: PatientRecords = field(repr=False)
    control: Control | None = field(default=None, repr=False)

    def correction(self, study: Study, model: Model) -> Model | None:
        """What is added to the gradient of each of a round's steps; None in the first round."""
        return None if self.control is None else self.control.correction(model, study.training)


def refuse_unplayed(study: StudyPlan) -> None:
    """Raise BadInput for a study whose rounds are not played here.

    It weights its hospitals, sums them in groups or scales its features by released statistics.
    """
    if study.training.weighting != "equal" or study.robust is not None or standardises(study):
        raise BadInput("comparison: studies with weights, groups or standardising are not compared")


def trained(study: Study, hospitals: Mapping[str, PatientRecords], randomness: Randomness) -> Model:
    """The model after all rounds of `study`, float32 [parameters].

    Every hospital answers every round. Raises BadInput as `refuse_unplayed` does.
    """
    refuse_unplayed(study)
    network = build(study)
    model = parameters_of(network).numpy().copy()
    count = len(hospitals)
    federation = Federation(
        study,
        training_plan(study, hospitals=count),
        step_sizes(study),
        training_scale(study, count, trained_parameters(study, model.size)),
        largest_limit(count, study.masking.bits),
        network,
    )
    players = [Player(hospitals[name]) for name in sorted(hospitals)]
    state, run = OptimiserState(), randomness(16).hex()
    for number in range(study.rounds.count):
        total = np.zeros(trained_parameters(study, model.size), dtype=np.int32)
        for own in players:
            load_parameters(network, torch.from_numpy(model.copy()))
            total += _answer(federation, own, model, randomness)
        mean = (dequantise(total, scale=federation.scale) / count).astype(np.float32)
        update = whole_update(study, mean, parameters=model.size)
        model = step(model, update, study.training.server, state)
        model = after_round(study, model, state, run=run, round_number=number)
    return model


def _answer(federation: Federation, own: Player, model: Model, randomness: Randomness) -> Lanes:
    """One hospital's lanes in one round: what it would mask."""
    study, plan, sizes = federation.study, federation.plan, federation.sizes
    learns = learning(federation.network, own.patients, study, randomness)
    if plan.mechanism == "distributed":
        noised, _ = one_step(
            learns.module,
            learns.patients,
            learns.loss,
            plan,
            sizes,
            scale=federation.scale,
            limit=federation.limit,
            randomness=randomness,
        )
        return lanes_of(noised, scale=federation.scale, limit=federation.limit)
    correction = own.correction(study, model)
    update, _ = train(
        learns.module,
        learns.patients,
        learns.loss,
        plan,
        sizes,
        correction=correction,
        randomness=randomness,
    )
    lanes = lanes_of(update, scale=federation.scale, limit=federation.limit)
    if study.training.control == "scaffold":
        left = dequantise(lanes, scale=federation.scale).astype(np.float32)
        own.control = Control.after(model, left, correction, study.training)
    return lanes
