"""Was this patient trained on? Three scores of it, the higher the more it speaks for yes.

All of them know the records, the study and the released model, and not who is a member.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from wardround.models.losses import PerRecordLoss, binary_loss
from wardround.models.networks import parameters_of
from wardround_client.attacks.inversion import first_layer, has_closed_form, resemblance
from wardround_client.attacks.shadows import Shadow
from wardround_client.training.plan import PatientRecords

Values = npt.NDArray[np.float64]

_LEAST_VARIANCE = 1e-12
_LEAST_LOSS = 1e-30


def confidence(
    network: nn.Module, patients: PatientRecords, loss: PerRecordLoss = binary_loss
) -> Values:
    """The log odds of what came true for each patient: the mean over its records.

    A loss is minus the logarithm of its likelihood p, so they are -log(exp(loss) - 1): with yes or
    no it is the logit of the patient's own label. (Carlini et al. 2022, 4.2)
    """
    losses = np.maximum(_losses(network, patients, loss), _LEAST_LOSS)
    # log(exp(x) - 1), without overflow, and without cancellation where a loss is next to nothing.
    odds = -(losses + np.log(-np.expm1(-losses)))
    return _mean_of_patients(odds, patients)


def loss_score(
    network: nn.Module, patients: PatientRecords, loss: PerRecordLoss = binary_loss
) -> Values:
    """Minus the loss of each patient: a model fits best what it has seen (Yeom et al. 2018)."""
    return -_mean_of_patients(_losses(network, patients, loss), patients)


def _losses(network: nn.Module, patients: PatientRecords, loss: PerRecordLoss) -> Values:
    network.eval()
    with torch.inference_mode():
        outputs = network(patients.features).double()
        losses: Values = loss(outputs, patients.labels.double()).numpy()
    return losses


@dataclass(slots=True)
class LikelihoodRatio:
    """LiRA: how much likelier the patient's confidence is with it in the training than without.

    Online, with one variance for all patients, since shadow models are few. (Carlini et al. 2022,
    Algorithm 1)
    """

    patients: PatientRecords = field(repr=False)
    loss: PerRecordLoss = field(default=binary_loss, repr=False)
    _confidences: list[Values] = field(default_factory=list, repr=False)
    _inside: list[npt.NDArray[np.bool_]] = field(default_factory=list, repr=False)

    @property
    def shadows(self) -> int:
        """How many it has seen."""
        return len(self._inside)

    def see(self, shadow: Shadow) -> None:
        """Take one shadow model into account; it can be forgotten then."""
        self._confidences.append(confidence(shadow.network, self.patients, self.loss))
        self._inside.append(shadow.inside)

    def score(self, network: nn.Module) -> Values:
        """The log likelihood ratio of each patient under `network`, after two shadows or more."""
        seen, inside = np.stack(self._confidences), np.stack(self._inside)
        means, variances = zip(*(_normal(seen, flags) for flags in (inside, ~inside)), strict=True)
        own = confidence(network, self.patients, self.loss)
        with_it, without = (
            -0.5 * (np.log(variance) + (own - mean) ** 2 / variance)
            for mean, variance in zip(means, variances, strict=True)
        )
        return np.asarray(with_it - without)


def readout_score(network: nn.Module, start: nn.Module, patients: PatientRecords) -> Values:
    """How like each patient is to what its change since the start tells of those trained on.

    The mean of the patient's records is compared with what each unit of the first layer gives
    away; the unit that is most like it counts.
    """
    change = (parameters_of(network) - parameters_of(start)).numpy()
    units = first_layer(start, change)
    if not len(units):
        return np.zeros(patients.patients)
    return np.asarray(resemblance(units, mean_records(patients)).max(axis=0))


def mean_records(patients: PatientRecords) -> Values:
    """One row a patient: the mean of its records [patients, features]."""
    rows = patients.features.double().flatten(1).numpy()
    sums = np.add.reduceat(rows, patients.offsets[:-1], axis=0)
    return np.asarray(sums / np.diff(patients.offsets)[:, np.newaxis])


def _mean_of_patients(values: Values, patients: PatientRecords) -> Values:
    return np.asarray(np.add.reduceat(values, patients.offsets[:-1]) / np.diff(patients.offsets))


def _normal(seen: Values, chosen: npt.NDArray[np.bool_]) -> tuple[Values, float]:
    """The mean of each patient's confidences where `chosen`, and one variance of all around it."""
    counts = chosen.sum(axis=0)
    means = np.where(chosen, seen, 0.0).sum(axis=0) / counts
    spread = float((np.where(chosen, seen - means, 0.0) ** 2).sum())
    freedom = int(np.maximum(counts - 1, 0).sum())
    return means, max(spread / max(freedom, 1), _LEAST_VARIANCE)


def scores_of(
    network: nn.Module,
    start: nn.Module,
    patients: PatientRecords,
    ratio: LikelihoodRatio | None,
    loss: PerRecordLoss = binary_loss,
) -> Sequence[tuple[str, Values]]:
    """Every attack that can be run on this model, by its name."""
    found = [("loss threshold", loss_score(network, patients, loss))]
    if ratio is not None:
        found.append(("likelihood ratio", ratio.score(network)))
    if has_closed_form(start):
        found.append(("reconstruction", readout_score(network, start, patients)))
    return found
