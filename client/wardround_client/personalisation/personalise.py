"""What did joining give this hospital? Three models, one look at its held-out patients."""

from collections.abc import Callable, Mapping

import numpy as np

from wardround.errors import BadInput
from wardround.evaluation.layout import Outcomes
from wardround.models.networks import parameters_of
from wardround.protocol.halves import digest_of_model
from wardround.randomness import Randomness
from wardround.study.contract import LabelKind
from wardround.study.manifest import Study
from wardround_client.comparison.training import Model
from wardround_client.held_out import held_out_outcomes
from wardround_client.personalisation.choosing import choose
from wardround_client.personalisation.own_models import (
    Scope,
    Tuning,
    fine_tuned,
    network_of,
    train_alone,
)
from wardround_client.personalisation.paired import Way, rows_of
from wardround_client.personalisation.result import Patients, Result
from wardround_client.prediction.support import Support


def personalise(
    support: Support,
    randomness: Randomness,
    *,
    scope: Scope,
    steps: int | None = None,
    say: Callable[[str], None] = lambda _line: None,
) -> tuple[Result, Model | None]:
    """Train alone, choose and fine-tune on training patients alone; then score held-out ones once.

    The model is None where cross-validation chose the released one, or had too few to choose from.
    Raises BadInput for a GAN and for a hospital without training patients or held-out ones.
    """
    standing, study = support.standing, support.standing.study
    _check(support, study)
    statistics = standing.released.statistics
    released = parameters_of(standing.released.network).numpy().copy()
    say(f"training alone: {study.rounds.count} rounds on {support.train.patients} patients")
    alone = train_alone(study, support.train, randomness)
    say("choosing how far to fine-tune, within the training patients")
    choice = choose(study, released, support.train, randomness, scope=scope, steps=steps)
    own = None if choice is None else _own(study, released, support, choice.tuning, randomness)
    models = {Way.RELEASED: released, Way.ALONE: alone}
    if own is not None:
        models[Way.PERSONALISED] = own
    say(f"scoring {support.held_out.patients} held-out patients, once")
    outcomes = _scored(support, study, models)
    result = Result(
        hospital=standing.hospital,
        study=study.name,
        study_digest=study.digest,
        title=study.title,
        run=standing.released.run,
        released=standing.model,
        personalised=None if own is None else digest_of_model(study, own, statistics),
        epsilon=study.privacy.epsilon if study.noise_multiplier() else None,
        scope=scope.value,
        patients=_patients(support, study, outcomes[Way.RELEASED]),
        choice=choice,
        rows=rows_of(study, outcomes, randomness),
    )
    return result, own


def _scored(support: Support, study: Study, models: Mapping[Way, Model]) -> dict[Way, Outcomes]:
    """What each model says of the held-out patients: the one look at them."""
    return {
        way: held_out_outcomes(network_of(study, model), support.held_out, study)
        for way, model in models.items()
    }


def _own(
    study: Study, released: Model, support: Support, tuning: Tuning, randomness: Randomness
) -> Model | None:
    """The released model fine-tuned as it was chosen; None where that is no step at all."""
    if not tuning.steps:
        return None
    return fine_tuned(
        study,
        released,
        support.train,
        randomness,
        scope=tuning.scope,
        steps=tuning.steps,
        pull=tuning.pull,
    )


def _check(support: Support, study: Study) -> None:
    if study.task.synthesis is not None:
        raise BadInput(
            "personalise: a GAN is not personalised. What it gives a hospital are synthetic "
            "records of others; a risk model of your own patients needs none of it"
        )
    for what, patients in (("training", support.train), ("held-out", support.held_out)):
        if not patients.patients:
            raise BadInput(f"personalise: the data have no {what} patients, so nothing can be told")


def _patients(support: Support, study: Study, outcomes: Outcomes) -> Patients:
    label, truth = study.contract.label, outcomes.truth
    positives = None
    if label.time is not None:
        positives = int((truth[:, 1] > 0.5).sum())
    elif label.kind in {LabelKind.BINARY, LabelKind.NONE} and truth.ndim == 1:
        positives = int(np.count_nonzero(truth > 0.5))
    return Patients(
        trained_on=support.train.patients,
        held_out=support.held_out.patients,
        positives=positives,
    )
