"""Per-patient gradients by their definition: torch.func over one record at a time."""

import torch
from torch.func import functional_call, grad, vmap

from wardround_client.gradients.engine import per_patient


def per_patient_gradients(model, features, labels, patients, loss):
    """{name: [patients, *shape]}: the mean over the patient's records, for what is trained."""
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    frozen = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}

    def one(parameters, record, label):
        output = functional_call(model, parameters | frozen, (record[None],))
        return loss(output, label[None]).sum()

    rows = vmap(grad(one), in_dims=(None, 0, 0))(parameters, features, labels)
    counts = torch.bincount(patients)
    return {
        name: torch.zeros(len(counts), *row.shape[1:], dtype=row.dtype).index_add_(
            0, patients, row / counts[patients].view(-1, *[1] * (row.dim() - 1))
        )
        for name, row in rows.items()
    }


def clipped_by_definition(gradients, clip_norm_l2):
    """Scale each patient's gradient to the clip norm where it is longer; the sum, flat."""
    flat = torch.cat([g.flatten(1) for g in gradients.values()], dim=1).double()
    norms = flat.norm(dim=1)
    return (flat * (clip_norm_l2 / norms).clamp(max=1.0).nan_to_num(1.0)[:, None]).sum(dim=0)


def distance(got, due):
    """Relative to the size of what was due."""
    return float((got.double() - due.double()).norm() / due.double().norm().clamp(min=1e-30))


def belonging(counts):
    """(2, 1) -> the patient of each record, 0 0 1."""
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))


def clipped_sum(model, *records_and_loss, **options):
    """One step of the engine on a model that it has not seen before."""
    with per_patient(model) as engine:
        return engine.clipped_sum(*records_and_loss, **options)
