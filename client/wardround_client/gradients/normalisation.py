"""Norm layers with weight and bias: a patient's gradient is two reductions, so it is formed."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from wardround.errors import BadInput
from wardround_client.gradients.patients import Patients
from wardround_client.gradients.tape import Forward, Tape, is_view
from wardround_client.gradients.uses import FormedUse, exact_enough

InstanceNorm = nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d
Sums = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Output gradient -> [records, *shape] each: summed times the normalised input, and as it is."""


def record_group_norm(tape: Tape, layer: nn.GroupNorm) -> Forward:
    """Weight and bias count the channels; inputs are [records, channels, ...]."""

    def sums(inputs: Tensor, output: Tensor) -> Sums:
        saved = _statistics(output) if inputs.dtype in {torch.float32, torch.float64} else None
        groups = layer.num_groups
        return lambda grad: _channel_sums(exact_enough(inputs), grad, groups, layer.eps, saved)

    return _watching(tape, layer, sums)


def record_instance_norm(tape: Tape, layer: InstanceNorm) -> Forward:
    """As GroupNorm with a group for each channel. Running statistics are refused."""
    if layer.track_running_stats:
        raise BadInput(
            f"model: {type(layer).__name__} keeps statistics over patients, without noise; "
            "put track_running_stats=False there"
        )

    def sums(inputs: Tensor, _output: Tensor) -> Sums:
        channels = layer.num_features
        if inputs.dim() < 3 or inputs.shape[1] != channels:
            raise BadInput(f"model: an instance norm got shape {tuple(inputs.shape)}, no records")
        return lambda grad: _channel_sums(exact_enough(inputs), grad, channels, layer.eps, None)

    return _watching(tape, layer, sums)


def record_layer_norm(tape: Tape, layer: nn.LayerNorm) -> Forward:
    """Weight and bias have the normalised shape, the last dimensions of the input."""
    own = len(layer.normalized_shape)

    def sums(inputs: Tensor, _output: Tensor) -> Sums:
        def of(grad: Tensor) -> tuple[Tensor, Tensor]:
            values = exact_enough(inputs)
            dims = tuple(range(values.dim() - own, values.dim()))
            variance, mean = torch.var_mean(values, dim=dims, correction=0, keepdim=True)
            normal = (values - mean) * (variance + layer.eps).rsqrt()
            return _positions_summed(grad * normal, own), _positions_summed(grad, own)

        return of

    return _watching(tape, layer, sums)


def _watching(tape: Tape, layer: Any, sums: Callable[[Tensor, Tensor], Sums]) -> Forward:
    plain = layer.forward

    def forward(inputs: Tensor) -> Tensor:
        output: Tensor = plain(inputs)
        if tape.recording:
            seen = inputs.detach()
            reduce = sums(seen, output)
            output = output.clone() if is_view(output) else output
            tape.watch(output, lambda grad, patients: _use(layer, reduce, grad, patients), seen)
        return output

    return forward


def _use(layer: nn.Module, reduce: Sums, grad: Tensor, patients: Patients) -> FormedUse:
    weight, bias = reduce(exact_enough(grad))
    formed = {"weight": weight, "bias": bias}
    trained = {name: p for name, p in layer.named_parameters() if p.requires_grad}
    return FormedUse(
        tuple(trained.values()), tuple(patients.summed(formed[name]) for name in trained)
    )


def _statistics(output: Tensor) -> tuple[Tensor, Tensor] | None:
    """Mean and 1/deviation of each group, as the forward pass left them for its backward."""
    node = output.grad_fn
    mean, scale = getattr(node, "_saved_result1", None), getattr(node, "_saved_result2", None)
    return None if mean is None or scale is None else (mean.detach(), scale.detach())


def _channel_sums(
    inputs: Tensor,
    grad: Tensor,
    groups: int,
    epsilon: float,
    saved: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor]:
    if saved is None:
        grouped = inputs.reshape(len(inputs), groups, -1)
        variance, mean = torch.var_mean(grouped, dim=2, correction=0)
        saved = mean, (variance + epsilon).rsqrt()
    of_channel = inputs.shape[1] // groups
    mean, scale = (s.view(-1, groups).repeat_interleave(of_channel, dim=1) for s in saved)
    if inputs.dim() > 2:
        bias = grad.flatten(2).sum(dim=2)
        product = (grad * inputs).flatten(2).sum(dim=2)
    else:
        bias, product = grad, grad * inputs
    return (product - mean * bias) * scale, bias


def _positions_summed(values: Tensor, own: int) -> Tensor:
    """Sum over what lies between the records and the last `own` dimensions."""
    between = tuple(range(1, values.dim() - own))
    return values.sum(dim=between) if between else values
