"""What a model says of this hospital's held-out patients, counted or for our own eyes."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from wardround.errors import BadInput
from wardround.evaluation.layout import Outcomes
from wardround.evaluation.patients import outcomes_of
from wardround.models.family import RECORDS_AT_ONCE, family_of, readings
from wardround.randomness import Randomness
from wardround.study.manifest import StudyPlan
from wardround_client.data.places import places
from wardround_client.records import StudyRecords
from wardround_client.shuffling import random_order, shuffled
from wardround_client.training.plan import PatientRecords

Scores = npt.NDArray[np.float64]


def held_out_outcomes(network: nn.Module, held_out: PatientRecords, study: StudyPlan) -> Outcomes:
    """One row a patient: what came true, and the mean over its records of what the model says.

    `wardround.evaluation.layouts.layout_of(study)` counts it. The network is left in mode
    evaluation. Raises BadInput, in counts, when a patient's records have different labels.
    """
    said = readings(network, held_out.features, study)
    return outcomes_of(study.contract.label, held_out.offsets, held_out.labels.numpy(), said)


def evaluated_outcomes(
    network: nn.Module, records: StudyRecords, study: StudyPlan, randomness: Randomness
) -> Outcomes:
    """`held_out_outcomes` and what else the study counts: groups, shuffled columns, both arms.

    Every shuffled column has an order of its own.
    """
    held_out = records.held_out
    outcomes = replace(held_out_outcomes(network, held_out, study), groups=records.groups)
    if study.task.treatment is not None:
        outcomes = with_arms(outcomes, network, held_out, study)
    asked = study.evaluation.shuffled(study.contract)
    if not asked:
        return outcomes
    where = {column.name: place for column, place in places(study.contract)}
    said = np.empty((len(asked), *outcomes.outputs.shape))
    for at, column in enumerate(asked):
        order = random_order(held_out.patients, randomness)
        others = shuffled(held_out, where[column], order)
        said[at] = held_out_outcomes(network, others, study).outputs
    return replace(outcomes, shuffled=said)


def with_arms(
    outcomes: Outcomes, network: nn.Module, held_out: PatientRecords, study: StudyPlan
) -> Outcomes:
    """Which arm each patient was in, and what the model says of it in either."""
    treatment, patients = study.task.treatment, held_out.patients
    if treatment is None:
        raise BadInput(f"study {study.name}: no treatment is to be chosen")
    place = study.contract.features().index(treatment.column)
    both = [
        held_out_outcomes(network, in_arm(held_out, place, treated=arm), study).outputs[:, 0]
        for arm in (False, True)
    ]
    firsts = held_out.features[held_out.offsets[:-1], place].numpy()
    of_record = np.repeat(firsts, np.diff(held_out.offsets))
    if unsure := int((held_out.features[:, place].numpy() != of_record).sum()):
        raise BadInput(f"evaluation: {unsure} records of a patient have another treatment")
    treated = (firsts > 0).astype(np.int64)
    return replace(outcomes, treated=treated, arms=np.stack(both, axis=1).reshape(patients, 2))


def in_arm(patients: PatientRecords, place: int, *, treated: bool) -> PatientRecords:
    """The same patients, all treated or all untreated: only the feature at `place` differs."""
    features = patients.features.clone()
    features[:, place] = 1.0 if treated else -1.0
    return replace(patients, features=features)


def held_out_scores(
    network: nn.Module, held_out: PatientRecords, study: StudyPlan
) -> tuple[npt.NDArray[np.bool_], Scores]:
    """One yes or no and one score in [0, 1] per held-out patient of a study with a binary label."""
    outcomes = held_out_outcomes(network, held_out, study)
    return outcomes.truth > 0.5, outcomes.outputs[:, 0]


def losses_of_patients(network: nn.Module, records: PatientRecords, study: StudyPlan) -> Scores:
    """[patients]: the mean loss over each patient's records; the network is left in evaluation."""
    family = family_of(study)
    loss, parts = family.loss(study), [torch.zeros(0)]
    network.eval()
    with torch.inference_mode():
        for start in range(0, len(records.features), RECORDS_AT_ONCE):
            part = slice(start, start + RECORDS_AT_ONCE)
            features = records.features[part]
            parts.append(loss(network(features), family.targets(features, records.labels[part])))
    of_record = torch.cat(parts).double().numpy()
    counts = np.diff(records.offsets)
    places = np.repeat(np.arange(records.patients), counts)
    sums = np.bincount(places, weights=of_record, minlength=records.patients)
    means: Scores = sums / counts
    return means
