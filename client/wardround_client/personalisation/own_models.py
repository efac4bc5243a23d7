"""Models of one hospital's patients alone, and the released one fine-tuned on them.

Neither has any noise: each tells of the patients that it was trained on, and no ledger covers it.
They are for this hospital's own eyes, and may leave only where somebody decides about that.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from wardround.errors import BadInput
from wardround.models.family import RECORDS_AT_ONCE, family_of, labels_themselves
from wardround.models.gan import adversaries
from wardround.models.generating import draws_of, fit_risk
from wardround.models.losses import PerRecordLoss
from wardround.models.networks import build, load_parameters, parameters_of
from wardround.randomness import Randomness
from wardround.study.manifest import Mechanism, Profile, Study, StudyPlan
from wardround_client.comparison.sites import study_of
from wardround_client.comparison.training import Model, trained
from wardround_client.records import learned
from wardround_client.training.plan import PatientRecords
from wardround_client.training.sampling import Batch, choose_records, sample_patients

PATIENTS_A_STEP = 128  # fewer are all taken in every step
STEPS = 100
PULL = 0.1


class Scope(StrEnum):
    """Which part of the network is fine-tuned."""

    HEAD = "head"
    ALL = "all"


_LEARNING_RATE = {Scope.HEAD: 0.01, Scope.ALL: 0.001}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """How far a model may go from the released one, and how.

    `pull` is mu in loss + mu / 2 |w - released|^2: few patients cannot lead far away. Without a
    `learning_rate` it is that of the scope. (Li et al. 2020, "Federated optimization in
    heterogeneous networks", the proximal term; Arivazhagan et al. 2019, a head of one's own)
    """

    scope: Scope = Scope.HEAD
    steps: int = STEPS
    learning_rate: float | None = None
    pull: float = PULL

    def __post_init__(self) -> None:
        if self.steps < 0 or self.pull < 0 or not (self.rate > 0):
            raise BadInput("fine-tuning: steps and pull of 0 or more and a rate above 0 were due")

    @property
    def rate(self) -> float:
        """The learning rate."""
        return _LEARNING_RATE[self.scope] if self.learning_rate is None else self.learning_rate


def train_alone(study: Study, patients: PatientRecords, randomness: Randomness) -> Model:
    """The study's own training on one place's training patients, without noise: float32 [params].

    As many rounds and steps as the study has; weights, groups and released statistics are nothing
    to one hospital, so features come scaled where the study scales them. The normaliser may follow
    the data, since nothing is protected: it is the batch that is expected of them. Of a GAN it is
    the risk model alone, fitted to the patients themselves: what a model that learnt from synthetic
    records is held against. Without patients it is the study's start.
    """
    if study.task.synthesis is not None:
        return _fitted_to_patients(study, patients, randomness)
    if study.privacy.unit == "record":
        patients = replace(patients, offsets=np.arange(len(patients.labels) + 1))
    expected = max(1.0, study.privacy.sampling_rate * patients.patients)
    plain = study.model_copy(update={"robust": None, "statistics": None, "quality": None})
    own = study_of(
        plain,
        study.names(),
        privacy=_NO_NOISE,
        training={"expected_batch": expected, **_NO_WEIGHTS},
        masking={"profile": Profile.DOUBLE_MASK.value},  # one trip is for mechanism distributed
    )
    return trained(own, {"one place": patients}, randomness)


def fine_tuned(
    study: StudyPlan,
    model: Model,
    patients: PatientRecords,
    randomness: Randomness,
    *,
    scope: Scope = Scope.HEAD,
    steps: int = STEPS,
    learning_rate: float | None = None,
    pull: float = PULL,
) -> Model:
    """The released `model` after `steps` on these patients, without noise: float32 [params].

    With scope `head` only the last layer moves, on the body that all hospitals share: the bytes of
    the body stay. Raises BadInput without patients, for a GAN, and when it does not converge.
    """
    tuning = Tuning(scope=scope, steps=steps, learning_rate=learning_rate, pull=pull)
    network = network_of(study, model)
    part, records = tuned_part(network, study, patients, scope)
    for _ in tuning_steps(part, study, records, tuning, randomness):
        pass
    found = parameters_of(network).numpy().copy()
    if not np.isfinite(found).all():
        raise BadInput("fine-tuning: values that are not finite came; a smaller rate is due")
    return found


def network_of(study: StudyPlan, model: Model) -> nn.Module:
    """The study's network with these parameters."""
    network = build(study)
    load_parameters(network, torch.from_numpy(model.copy()))
    return network


def tuned_part(
    network: nn.Module, study: StudyPlan, patients: PatientRecords, scope: Scope
) -> tuple[nn.Module, PatientRecords]:
    """What is tuned, and what it sees: the head and the body's outputs, which then never change.

    So the body runs once for each record, and not once for each step. All of the network and the
    records themselves where the whole is tuned, where the head does not come last (an autoencoder's
    tanh does), and where records are learned and not labels.
    """
    if scope is Scope.ALL or family_of(study).targets is not labels_themselves:
        return network, patients
    head, seen = head_of(network), []
    network.eval()
    hook = head.register_forward_hook(lambda _, inputs, out: seen.append((*inputs, out)))
    try:
        with torch.no_grad():
            for start in range(0, len(patients.features), RECORDS_AT_ONCE):
                outputs = network(patients.features[start : start + RECORDS_AT_ONCE])
                if len(seen[-1]) != 2 or not torch.equal(seen[-1][1], outputs):
                    return network, patients
    finally:
        hook.remove()
    if not seen or len(seen) * RECORDS_AT_ONCE >= len(patients.features) + RECORDS_AT_ONCE:
        return network, patients  # nobody, or a head that is used more than once
    return head, replace(patients, features=torch.cat([one for one, _ in seen]))


def tuning_steps(
    network: nn.Module,
    study: StudyPlan,
    patients: PatientRecords,
    tuning: Tuning,
    randomness: Randomness,
) -> Iterator[int]:
    """Take the steps on `network` itself, one at a time; the number of those taken comes out.

    Adam on the mean loss over patients, whose records count as one, and the pull. All patients are
    in every step up to 128 of them; of more each is drawn with such a probability.
    """
    if study.task.synthesis is not None:
        raise BadInput(
            "fine-tuning: a GAN is not personalised; its risk model learns from synthetic records, "
            "and a hospital that has patients trains on these"
        )
    if not patients.patients:
        raise BadInput("fine-tuning: there are no training patients here")
    tuned = list((network if tuning.scope is Scope.ALL else head_of(network)).parameters())
    start = [parameter.detach().clone() for parameter in tuned]
    for parameter in network.parameters():
        parameter.requires_grad_(any(parameter is one for one in tuned))
    optimiser = torch.optim.Adam(tuned, lr=tuning.rate)
    targets, loss = learned(patients, study), family_of(study).loss(study)
    rate = min(1.0, PATIENTS_A_STEP / patients.patients)
    for number in range(1, tuning.steps + 1):
        sampled = sample_patients(patients.patients, rate=rate, randomness=randomness)
        batch = choose_records(
            patients.offsets, sampled, most=study.privacy.records_per_patient, randomness=randomness
        )
        network.train()
        optimiser.zero_grad(set_to_none=False)
        _add_gradients(network, targets, batch, loss, expected=rate * patients.patients)
        for parameter, before in zip(tuned, start, strict=True):
            away = tuning.pull * (parameter.detach() - before)
            parameter.grad = away if parameter.grad is None else parameter.grad + away
        optimiser.step()
        yield number


def head_of(network: nn.Module) -> nn.Module:
    """The last layer that has parameters: all of the network where it is the only one."""
    return [part for part in network.modules() if [*part.parameters(recurse=False)]][-1]


def _add_gradients(
    network: nn.Module,
    patients: PatientRecords,
    batch: Batch,
    loss: PerRecordLoss,
    *,
    expected: float,
) -> None:
    """Of the mean over patients of the mean over their records; part by part, for the memory."""
    records = torch.from_numpy(batch.records)
    share = _shares(batch) / expected
    for start in range(0, len(records), RECORDS_AT_ONCE):
        part = records[start : start + RECORDS_AT_ONCE]
        losses = loss(network(patients.features[part]), patients.labels[part])
        torch.autograd.backward((losses * share[start : start + RECORDS_AT_ONCE]).sum())


def _shares(batch: Batch) -> Tensor:
    """[records]: one over how many its patient has in the batch."""
    counts: npt.NDArray[np.int64] = np.bincount(batch.patient_of_record, minlength=batch.patients)
    return torch.from_numpy(1.0 / counts[batch.patient_of_record]).to(torch.float32)


# What only a guarantee asks for goes with the noise.
_NO_NOISE: Mapping[str, object] = {
    "mechanism": Mechanism.NONE.value,
    "clipping": "flat",
    "adaptive_quantile": None,
    "adaptive_count_noise": None,
    "patients_most": None,
    "batch_most": None,
}
_NO_WEIGHTS: Mapping[str, object] = {
    "weighting": "equal",
    "weight_unit": None,
    "weight_most": None,
}


def _fitted_to_patients(study: Study, patients: PatientRecords, randomness: Randomness) -> Model:
    network = adversaries(build(study))
    draws = draws_of(study, run=randomness(16).hex(), round_number=0)
    fit_risk(network, study, patients.features, patients.labels, draws)
    return np.asarray(parameters_of(network).numpy())
