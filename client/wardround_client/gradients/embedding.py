"""Embeddings: a patient's gradient is zero but for the rows that the patient's records look up."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from wardround.errors import BadInput
from wardround_client.gradients.patients import Patients
from wardround_client.gradients.tape import Forward, Tape
from wardround_client.gradients.uses import exact_enough, squared_rows


def record(tape: Tape, layer: nn.Embedding) -> Forward | None:
    """Watch the output; the indices are [records, ...].

    None where the weight is computed from others (weight norm): it is no parameter itself. Raises
    BadInput for settings with which one patient's records change what others get.
    """
    _refuse(layer)
    plain, weight = layer.forward, layer.weight
    if not isinstance(weight, nn.Parameter):
        return None

    def forward(indices: Tensor) -> Tensor:
        output = plain(indices)
        if tape.recording and weight.requires_grad:
            tape.watch(output, lambda grad, own: _use(layer, weight, indices, grad, own), indices)
        return output

    return forward


def _refuse(layer: nn.Embedding) -> None:
    reasons = {
        "max_norm": (layer.max_norm is not None, "the forward pass changes rows, without noise"),
        "scale_grad_by_freq": (layer.scale_grad_by_freq, "counts mix the patients of a batch"),
        "sparse": (layer.sparse, "which rows have a gradient tells what was looked up"),
    }
    for setting, (there, reason) in reasons.items():
        if there:
            raise BadInput(f"model: {layer} has {setting}: {reason}; leave {setting} out")


def _use(
    layer: nn.Embedding,
    weight: nn.Parameter,
    indices: Tensor,
    gradients: Tensor,
    patients: Patients,
) -> "RowsUse":
    """Add up the gradients of each patient's each index; the padding index has none."""
    flat = indices.reshape(len(indices), -1)
    owner = patients.patient_of_record.to(flat.device)[:, None].expand_as(flat)
    keys = (owner * layer.num_embeddings + flat).flatten()
    rows = exact_enough(gradients).reshape(len(keys), layer.embedding_dim)
    if layer.padding_idx is not None:
        told = flat.flatten() != layer.padding_idx
        keys, rows = keys[told], rows[told]
    found, places = torch.unique(keys, return_inverse=True)
    sums = rows.new_zeros(len(found), layer.embedding_dim).index_add_(0, places, rows)
    owners = found.div(layer.num_embeddings, rounding_mode="floor")
    return RowsUse(weight, owners, found % layer.num_embeddings, sums, patients.count)


@dataclass(frozen=True, slots=True)
class RowsUse:
    """Rows of one weight: `sums[k]` is patient `owners[k]`'s gradient of row `indices[k]`.

    Each pair of patient and index occurs once, so that squared norms add up and memory goes with
    what was looked up, not with patients times the weight's rows.
    """

    weight: nn.Parameter
    owners: Tensor = field(repr=False)
    indices: Tensor = field(repr=False)
    sums: Tensor = field(repr=False)
    patients: int

    @property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """The weight."""
        return (self.weight,)

    def squared_norms(self) -> Tensor:
        """Of the rows, added up by patient."""
        norms = torch.zeros(self.patients, dtype=torch.float64, device=self.sums.device)
        return norms.index_add_(0, self.owners, squared_rows(self.sums))

    def weighted_sum(self, factors: Tensor) -> tuple[Tensor, ...]:
        """Each row scaled by its patient's factor."""
        total = factors.new_zeros(self.weight.shape, dtype=torch.float64)
        scaled = (self.sums * factors[self.owners, None]).double()
        return (total.index_add_(0, self.indices, scaled),)

    def gradients(self) -> tuple[Tensor, ...]:
        """[patients, rows, dimensions]."""
        formed = self.sums.new_zeros(self.patients, *self.weight.shape)
        formed[self.owners, self.indices] = self.sums
        return (formed,)
