"""One study, trained five ways, each scored by the study's own evaluation.

alone: each hospital's own model, no noise, for its own patients. federated: together, no noise.
private: together, with the study's noise. pooled: all patients in one place, no noise: what privacy
and distance are measured against. left out: for each hospital a federation of the others, as the
study trains it, scored on all patients of the one that took no part. In a study of family gan
alone and pooled learn from patients, which is what the others, that learn from synthetic records,
are measured against.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch

from wardround.canonical import Json
from wardround.evaluation.histograms import Counts
from wardround.evaluation.layout import Layout, read_lanes
from wardround.evaluation.layouts import exact_layout_of
from wardround.models.networks import build, load_parameters
from wardround.randomness import Randomness
from wardround.study.manifest import Mechanism, Study, StudyPlan
from wardround_client.comparison.sites import Sites, study_of, together
from wardround_client.comparison.training import Model, trained
from wardround_client.held_out import held_out_outcomes
from wardround_client.personalisation.own_models import train_alone
from wardround_client.training.plan import PatientRecords


class Way(StrEnum):
    """How a model came about."""

    ALONE = "local-only"
    FEDERATED = "federated"
    PRIVATE = "federated with DP"
    POOLED = "pooled"
    LEFT_OUT = "leave one hospital out"


@dataclass(frozen=True, slots=True)
class Scored:
    """The metrics of one way: over all patients that were scored, and of each hospital's own."""

    way: Way
    whole: Json
    hospitals: Mapping[str, Json]


def ways_of(plan: StudyPlan) -> tuple[Way, ...]:
    """All ways; without noise in the study there is none with DP."""
    private = plan.privacy.mechanism is not Mechanism.NONE
    return tuple(way for way in Way if private or way is not Way.PRIVATE)


def score(plan: StudyPlan, sites: Sites, way: Way, randomness: Randomness) -> Scored:
    """Train one way and evaluate. Metrics that the patients cannot give are None, as in a report.

    Raises BadInput for a study whose rounds cannot be played in one process.
    """
    names, private = sorted(sites), way in {Way.PRIVATE, Way.LEFT_OUT}
    study = study_of(plan, names, privacy=plan.privacy.model_dump() if private else _NO_NOISE)
    trains = {name: site.train for name, site in sites.items()}
    held_out = {name: site.held_out for name, site in sites.items()}
    if way is Way.LEFT_OUT:
        held_out = {name: site.everybody for name, site in sites.items()}
        models = {name: _without(name, plan, trains, randomness) for name in names}
    elif way is Way.ALONE:
        models = {name: train_alone(study, trains[name], randomness) for name in names}
    elif way is Way.POOLED:
        everybody = together([trains[name] for name in names])
        models = dict.fromkeys(names, train_alone(study, everybody, randomness))
    else:
        models = dict.fromkeys(names, trained(study, trains, randomness))
    return _evaluated(study, way, models, held_out)


_NO_NOISE: Mapping[str, object] = {"mechanism": Mechanism.NONE.value}


def _without(
    name: str, plan: StudyPlan, trains: Mapping[str, PatientRecords], randomness: Randomness
) -> Model:
    others = {other: own for other, own in trains.items() if other != name}
    rounds = {"quorum": min(plan.rounds.quorum, len(others))}
    masking = {"minimum_hospitals": min(plan.masking.minimum_hospitals, len(others))}
    return trained(
        study_of(plan, sorted(others), rounds=rounds, masking=masking), others, randomness
    )


def _evaluated(
    study: Study,
    way: Way,
    models: Mapping[str, Model],
    held_out: Mapping[str, PatientRecords],
) -> Scored:
    layout = exact_layout_of(study)
    counted = {
        name: counts_of(study, model, held_out[name], layout) for name, model in models.items()
    }
    whole = np.sum(list(counted.values()), axis=0)
    return Scored(
        way,
        layout.metrics(whole, cell_noise_sd=0.0),
        {name: layout.metrics(own, cell_noise_sd=0.0) for name, own in counted.items()},
    )


def counts_of(study: Study, model: Model, patients: PatientRecords, layout: Layout) -> Counts:
    """The exact counts of one hospital's patients under a model, int64 [lanes]."""
    network = build(study)
    load_parameters(network, torch.from_numpy(model.copy()))
    outcomes = held_out_outcomes(network, patients, study)
    return read_lanes(layout.count(outcomes).exact(), layout)
