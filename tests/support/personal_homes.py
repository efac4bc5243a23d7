"""A hospital's decision support in memory, of a study of any family: for personalisation."""

import dataclasses

import numpy as np
import torch
from tests.support.own_patients import drawn_patients

from wardround.models.networks import build, parameters_of
from wardround.models.released import ReleasedModel
from wardround.protocol.halves import digest_of_model
from wardround.study.manifest import Study, StudyPlan
from wardround_client.comparison.sites import study_of
from wardround_client.personalisation.own_models import network_of
from wardround_client.prediction.standing import Standing
from wardround_client.prediction.support import Support

NAMES = ("alpha", "beta", "gamma")


def released_model(study: StudyPlan, scale: float = 0.1):
    """A model that is not the public start: somebody trained it."""
    start = parameters_of(build(study)).numpy().copy()
    moved = np.random.default_rng(4).normal(scale=scale, size=start.size)
    return start + moved.astype(np.float32)


def support_in_memory(
    plan: StudyPlan, *, train: int = 60, held_out: int = 60, **changes
) -> Support:
    """A hospital of so many patients; `changes` are those of its held-out or training patients."""
    study: Study = study_of(plan, NAMES)
    model = released_model(study)
    standing = Standing(
        hospital="alpha",
        study=study,
        released=ReleasedModel(
            network=network_of(study, model), scales=(), run="2" * 32, sha256="3" * 64
        ),
        model=digest_of_model(study, model),
        report=None,
    )
    own, others = drawn_patients(study, train, seed=1), drawn_patients(study, held_out, seed=2)
    return Support(standing, None, own, others, frozenset(), tuple(map(str, range(held_out))))


def with_labels(support: Support, labels: torch.Tensor) -> Support:
    """The same hospital, whose held-out patients had other outcomes."""
    return dataclasses.replace(
        support, held_out=dataclasses.replace(support.held_out, labels=labels)
    )
