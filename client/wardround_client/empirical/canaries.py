"""Canaries: synthetic patients, each alone on a coordinate of its own, and a model made of them.

The gradient of canary j is a multiple of the unit vector e_j, far longer than the clip norm. What
a step did to coordinate j is then the noise and, if j took part, one clip norm: nothing of a
patient, and the most that the guarantee allows anybody to see. (Steinke et al. 2023, "Dirac
canaries")
"""

import numpy as np
import torch
from torch import Tensor, nn

from wardround.privacy.coins import Flags
from wardround_client.training.plan import PatientRecords

# Gradient norm of a canary in clip norms: an engine that clips too late lets it through.
REACH = 8.0
# Records of a canary where a study allows several: an engine that clips records shows twice it.
_RECORDS_OF_A_CANARY = 2


class CanaryModel(nn.Module):
    """One weight a canary, starting at zero. It keeps the weights of every step that it saw.

    Seeing every step, not the end alone, is what the accountant grants an attacker.
    """

    def __init__(self, canaries: int) -> None:
        super().__init__()
        self.weights = nn.Linear(canaries, 1, bias=False)
        nn.init.zeros_(self.weights.weight)
        self._seen: list[Tensor] = []

    def forward(self, features: Tensor) -> Tensor:
        """The score of each record. The weights are looked at before the step changes them."""
        self._look()
        score: Tensor = self.weights(features)
        return score

    def moves(self) -> Tensor:
        """What each step did to the weights [steps, canaries].

        A step for which the engine did not call the model, on an empty sample, is in the next.
        """
        self._look()
        return torch.stack(self._seen).diff(dim=0)

    def _look(self) -> None:
        weights = self.weights.weight.detach().reshape(-1)
        # An engine may call the model several times in a step: once for each part of its records.
        if not self._seen or not torch.equal(weights, self._seen[-1]):
            self._seen.append(weights.clone())


def canary_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Per record minus the score: its gradient never depends on what was learned so far."""
    return -outputs.squeeze(-1) * labels


def canary_patients(
    members: Flags, *, clip_norm_l2: float, records_per_patient: int
) -> PatientRecords:
    """The canaries that are in, as patients with one record or two."""
    each = min(records_per_patient, _RECORDS_OF_A_CANARY)
    inside = torch.from_numpy(np.flatnonzero(members)).repeat_interleave(each)
    features = torch.zeros(len(inside), len(members))
    features[torch.arange(len(inside)), inside] = REACH * clip_norm_l2
    return PatientRecords(
        features=features,
        labels=torch.ones(len(inside)),
        offsets=np.arange(0, len(inside) + 1, each, dtype=np.int64),
    )
