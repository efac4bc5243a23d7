"""Shadow models: what the released model might have been with other patients in the training.

Each is trained by the study's own plan through the product's engine. They know this hospital's
patients only and step with its update as if it were the mean: what the other hospitals added is
not known here. (Shokri et al. 2017; Carlini et al. 2022)
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from wardround.models.generating import after_round
from wardround.models.networks import build, load_parameters, parameters_of
from wardround.optimisers import OptimiserState, step
from wardround.privacy.coins import Flags, flags_of
from wardround.protocol.halves import whole_update
from wardround.randomness import Randomness
from wardround.study.manifest import Study
from wardround_client.attacks.subjects import Subjects, of_patients
from wardround_client.plans import step_sizes, training_plan
from wardround_client.training.learning import learning
from wardround_client.training.local import train
from wardround_client.training.plan import PatientRecords, TrainingPlan


class Shadow(NamedTuple):
    """A shadow model, and which of the subjects it was trained on."""

    network: nn.Module
    inside: Flags


def shadow_plan(study: Study) -> TrainingPlan:
    """The study's plan, with the noise of a sum on this hospital's own update."""
    plan = training_plan(study, hospitals=len(study.roster))
    return replace(plan, mechanism="local", honest=1) if plan.mechanism == "distributed" else plan


def shadows(
    study: Study, subjects: Subjects, *, pairs: int, randomness: Randomness
) -> Iterator[Shadow]:
    """Two shadow models at a time: one on a random half of the subjects, one on the other half.

    So every subject is in half of them. Those known to be members are in all.
    """
    count = len(subjects.places)
    for _ in range(pairs):
        half = flags_of(randomness(-(-count // 8)), count)
        for inside in (half, ~half):
            places = np.concatenate([subjects.known_members, subjects.places[inside]])
            patients = of_patients(subjects.patients, places)
            yield Shadow(trained_alone(study, patients, randomness), inside)


def trained_alone(study: Study, patients: PatientRecords, randomness: Randomness) -> nn.Module:
    """What all rounds of the study would train on these patients alone: of a GAN that part only."""
    network, plan, sizes = build(study), shadow_plan(study), step_sizes(study)
    own = learning(network, patients, study, randomness)
    state, run = OptimiserState(), randomness(16).hex()
    for number in range(study.rounds.count):
        before = parameters_of(network).numpy().copy()
        update, _ = train(own.module, own.patients, own.loss, plan, sizes, randomness=randomness)
        whole = whole_update(study, update.values, parameters=before.size)
        moved = step(before, whole, study.training.server, state)
        moved = after_round(study, moved, state, run=run, round_number=number)
        load_parameters(network, torch.from_numpy(moved))
    return own.module
