"""Multi-head attention: projections in and out leave uses, what lies between has no weights.

softmax(q k^T / sqrt(d)) v for each head, within one record. (Vaswani et al. 2017)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from wardround.errors import BadInput
from wardround_client.gradients.patients import Patients
from wardround_client.gradients.projections import Projection, ProjectionsUse
from wardround_client.gradients.tape import Forward, Tape
from wardround_client.gradients.uses import FormedUse, exact_enough

_NAMES = {
    *("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias"),
    *("bias_k", "bias_v", "out_proj.weight", "out_proj.bias"),
}


def record(tape: Tape, layer: nn.MultiheadAttention) -> Forward | None:
    """A forward with PyTorch's arguments and results that leaves uses on the tape.

    None where a weight is computed from others (weight norm): it is no parameter itself.
    """
    plain = layer.forward

    def forward(
        query: Tensor, key: Tensor, value: Tensor, *more: Any, **named: Any
    ) -> tuple[Tensor, Tensor | None]:
        if not tape.recording:
            output: tuple[Tensor, Tensor | None] = plain(query, key, value, *more, **named)
            return output
        if query.dim() != 3:
            raise BadInput(
                f"model: {type(layer).__name__} got {query.dim()} dimensions, "
                "3 (with one for the records) were due"
            )
        return _attend(tape, layer, (query, key, value), _Options(*more, **named))

    own = {name for name, _ in layer.named_parameters()}
    return forward if own <= _NAMES else None


@dataclass(frozen=True, slots=True)
class _Options:
    """PyTorch's arguments after query, key and value, by its names and in its order."""

    key_padding_mask: Tensor | None = field(default=None, repr=False)
    need_weights: bool = True
    attn_mask: Tensor | None = field(default=None, repr=False)
    average_attn_weights: bool = True
    is_causal: bool = False

    def __post_init__(self) -> None:
        if self.is_causal and self.attn_mask is None:
            raise BadInput("model: attention with is_causal is due the attn_mask that it hints at")

    @property
    def causal(self) -> bool:
        """As in PyTorch, the hint stands for the mask where nothing needs the mask itself.

        With keys of the layer's own (add_bias_kv, add_zero_attn) the two are not the same: PyTorch
        lets no query see these then.
        """
        return self.is_causal and not self.need_weights and self.key_padding_mask is None

    def mask(self, like: Tensor, heads: int, more_keys: int) -> Tensor | None:
        """To add to scores [records, heads, queries, keys]; keys put after are all seen."""
        masks = []
        if self.attn_mask is not None:
            mask = _as_numbers(self.attn_mask, like)
            masks.append(mask.view(-1, heads, *mask.shape[1:]) if mask.dim() == 3 else mask)
        if self.key_padding_mask is not None:
            masks.append(_as_numbers(self.key_padding_mask, like)[:, None, None])
        if not masks or self.causal:
            return None
        return functional.pad(masks[0] if len(masks) == 1 else masks[0] + masks[1], (0, more_keys))


def _as_numbers(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype is not torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, -math.inf)


def _attend(
    tape: Tape,
    layer: nn.MultiheadAttention,
    inputs: tuple[Tensor, Tensor, Tensor],
    options: _Options,
) -> tuple[Tensor, Tensor | None]:
    """Project, attend, project; records come first inside, whatever the layer's layout."""
    own = dict(layer.named_parameters())
    query, key, value = _projected(tape, layer, own, inputs)
    key, value = _with_more_keys(tape, layer, own, key, value)
    mask = options.mask(query, layer.num_heads, ("bias_k" in own) + layer.add_zero_attn)
    by_head = (*query.shape[:1], -1, layer.num_heads, layer.head_dim)
    query, key, value = (t.reshape(by_head).transpose(1, 2) for t in (query, key, value))
    dropout = layer.dropout if layer.training else 0.0
    weights = None
    if options.need_weights:
        mixed, weights = _softmaxed(query, key, value, mask, dropout)
        weights = weights.mean(dim=1) if options.average_attn_weights else weights
    else:
        mixed = functional.scaled_dot_product_attention(
            query, key, value, mask, dropout, options.causal
        )
    context = mixed.transpose(1, 2).flatten(2)
    block = _Block(own["out_proj.weight"], own.get("out_proj.bias"), context)
    (output,) = _linear(tape, [block])
    return (output if layer.batch_first else output.transpose(0, 1)), weights


def _softmaxed(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float
) -> tuple[Tensor, Tensor]:
    scores = (query / math.sqrt(query.shape[-1])) @ key.mT
    weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
    weights = functional.dropout(weights, dropout)
    return weights @ value, weights


def _all() -> slice:
    return slice(None)


@dataclass(frozen=True, slots=True)
class _Block:
    """inputs @ weight[rows]^T + bias[bias_rows]; all rows unless told."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    inputs: Tensor = field(repr=False)
    rows: slice = field(default_factory=_all)
    bias_rows: slice = field(default_factory=_all)

    @property
    def trained(self) -> bool:
        """Whether weight or bias is."""
        return any(p is not None and p.requires_grad for p in (self.weight, self.bias))

    def outputs(self) -> Tensor:
        """[records, positions, rows]."""
        bias = None if self.bias is None else self.bias[self.bias_rows]
        return functional.linear(self.inputs, self.weight[self.rows], bias)

    def projection(self, gradients: Tensor) -> Projection:
        """What the block leaves behind."""
        places = torch.arange(len(self.weight), device=gradients.device)[self.rows]
        bias_places = None
        if self.bias is not None:
            bias_places = torch.arange(len(self.bias), device=gradients.device)[self.bias_rows]
        return Projection(
            self.weight,
            self.bias,
            places,
            gradients,
            slice(0, len(places)),
            self.inputs.detach(),
            bias_places,
        )


def _projected(
    tape: Tape,
    layer: nn.MultiheadAttention,
    own: dict[str, nn.Parameter],
    inputs: tuple[Tensor, Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, [records, positions, embed_dim] each."""
    first, second, third = (t if layer.batch_first else t.transpose(0, 1) for t in inputs)
    width, bias, packed = layer.embed_dim, own.get("in_proj_bias"), own.get("in_proj_weight")
    parts = [slice(start, start + width) for start in (0, width, 2 * width)]
    if packed is None:
        blocks = [
            _Block(own[f"{name}_proj_weight"], bias, here, slice(None), part)
            for name, here, part in zip("qkv", (first, second, third), parts, strict=True)
        ]
    elif inputs[0] is inputs[1] is inputs[2]:
        (together,) = _linear(tape, [_Block(packed, bias, first)])
        query, key, value = together.chunk(3, dim=-1)
        return query, key, value
    else:
        blocks = [
            _Block(packed, bias, here, part, part)
            for here, part in zip((first, second, third), parts, strict=True)
        ]
    query, key, value = _linear(tape, blocks)
    return query, key, value


def _linear(tape: Tape, blocks: Sequence[_Block]) -> list[Tensor]:
    """The blocks' outputs, watched together: rows of one weight are one use."""
    outputs = [block.outputs() for block in blocks]
    trained = [
        (block, output) for block, output in zip(blocks, outputs, strict=True) if block.trained
    ]
    if trained:
        own = [block for block, _ in trained]
        seen = [block.inputs for block in own]
        watched = [output for _, output in trained]
        tape.watch_all(watched, lambda grads, patients: _use(own, grads, patients), *seen)
    return outputs


def _use(
    blocks: Sequence[_Block], gradients: Sequence[Tensor | None], patients: Patients
) -> ProjectionsUse:
    """A block that the loss does not depend on has no gradient."""
    pairs = zip(blocks, gradients, strict=True)
    projections = [block.projection(grad) for block, grad in pairs if grad is not None]
    return ProjectionsUse(projections, patients)


def _with_more_keys(
    tape: Tape,
    layer: nn.MultiheadAttention,
    own: dict[str, nn.Parameter],
    key: Tensor,
    value: Tensor,
) -> tuple[Tensor, Tensor]:
    """The learned key and value, and the zero one, after those of the sequence."""
    keys, values = [key], [value]
    if "bias_k" in own:
        keys.append(_own_key(tape, own["bias_k"], len(key)))
        values.append(_own_key(tape, own["bias_v"], len(value)))
    if layer.add_zero_attn:
        keys.append(key.new_zeros(len(key), 1, key.shape[-1]))
        values.append(value.new_zeros(len(value), 1, value.shape[-1]))
    return (torch.cat(keys, dim=1), torch.cat(values, dim=1)) if len(keys) > 1 else (key, value)


def _own_key(tape: Tape, bias: nn.Parameter, records: int) -> Tensor:
    """A learned key or value, once for each record: a record's gradient is its copy's."""
    copies = bias.expand(records, 1, bias.shape[-1])
    if bias.requires_grad:
        tape.watch(copies, lambda grad, patients: _copied(bias, grad, patients))
    return copies


def _copied(bias: nn.Parameter, gradients: Tensor, patients: Patients) -> FormedUse:
    formed = patients.summed(exact_enough(gradients)).unsqueeze(1)
    return FormedUse((bias,), (formed.reshape(patients.count, *bias.shape),))
