"""A study's network with its public starting values, and its parameters as one vector."""

import hashlib

import torch
from torch import Tensor, nn

from wardround.errors import BadInput
from wardround.models.family import family_of
from wardround.models.losses import binary_loss
from wardround.study.manifest import StudyPlan

__all__ = ["binary_loss", "build", "load_parameters", "parameters_of"]


def build(study: StudyPlan) -> nn.Module:
    """Build the study's network with its public starting values.

    The start is a function of the study's name alone: coordinator and hospitals agree on it, and
    no randomness of a hospital enters.
    """
    seed = hashlib.sha256(b"wardround/1 start " + study.name.encode()).digest()
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: for devices that are not there it keeps a stack trace, each time.
        torch.default_generator.manual_seed(int.from_bytes(seed[:8], "big") >> 1)
        return family_of(study).network(study)


def parameters_of(model: nn.Module) -> Tensor:
    """All parameters as one flat float32 vector, in the order of `named_parameters`."""
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def load_parameters(model: nn.Module, vector: Tensor) -> None:
    """Write a flat vector into the model. Raises BadInput when the length differs."""
    due = sum(p.numel() for p in model.parameters())
    if vector.shape != (due,):
        raise BadInput(f"model: {due} parameters are due, shape {tuple(vector.shape)} came")
    start = 0
    with torch.no_grad():
        for parameter in model.parameters():
            part = vector[start : start + parameter.numel()]
            parameter.copy_(part.reshape(parameter.shape))
            start += parameter.numel()
