"""Networks of sequence layers, and their per-patient gradients one patient at a time."""

import warnings

import torch
from tests.support.patient_gradients import belonging
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from wardround_client.gradients.layers import Layers
from wardround_client.gradients.patients import Patients
from wardround_client.gradients.tape import Tape, recording


def one_patient_at_a_time(model, features, labels, patients, loss):
    """{name: [patients, *shape]}, mean over records: PyTorch's own backward pass for each patient.

    torch.func.vmap has no rule for PyTorch's recurrent kernels.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    rows = []
    for patient in range(int(patients[-1]) + 1):
        own = patients == patient
        total = loss(model(features[own]), labels[own]).mean()
        rows.append(torch.autograd.grad(total, list(trained.values()), allow_unused=True))
    zero = {name: torch.zeros_like(p) for name, p in trained.items()}
    return {
        name: torch.stack([zero[name] if r[place] is None else r[place] for r in rows])
        for place, name in enumerate(trained)
    }


def spread(model, seed=3):
    """Weights large enough that every gate, mask and bias matters."""
    torch.manual_seed(seed)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


def squared(outputs, labels):
    return ((outputs.flatten(1) - labels[:, None]) ** 2).mean(dim=1)


def sequences(counts, steps, width, dtype=torch.float32, seed=4):
    torch.manual_seed(seed)
    patients = belonging(counts)
    features = torch.randn(len(patients), steps, width, dtype=dtype)
    return features, torch.randn(len(patients), dtype=dtype), patients


def uses_of(model, features, labels, patients, loss=squared):
    """What the engine works with, one step before the clip."""
    tape = Tape()
    layers, own = _known(model, tape), Patients.of(patients)
    with recording(layers.recorded), tape.batch(own):
        losses = loss(model(features), labels)
        return tape.backward((losses / torch.tensor(own.counts)[patients]).sum())


def _known(model, tape):
    """No layer goes the slow way."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return Layers.of(model, tape)


def recorded_output(model, *inputs):
    """The output of a forward pass that is recorded."""
    tape = Tape()
    with (
        recording(_known(model, tape).recorded),
        tape.batch(Patients.one_record_each(len(inputs[0]))),
    ):
        return model(*inputs)


class Recurrent(nn.Module):
    """A layer's outputs and final states, all in one row a record."""

    def __init__(self, kind, width=5, hidden=6, **options):
        super().__init__()
        self.inner = kind(width, hidden, **options)

    def forward(self, x):
        first = self.inner.batch_first
        output, states = self.inner(x if first else x.transpose(0, 1))
        return self._row(output if first else output.transpose(0, 1), states)

    def _row(self, output, states):
        states = states if isinstance(states, tuple) else (states,)
        return torch.cat(
            [output.flatten(1), *(s.square().transpose(0, 1).flatten(1) for s in states)], dim=1
        )


class Started(Recurrent):
    """The first states come from the records, through a layer."""

    def __init__(self, kind, **options):
        super().__init__(kind, batch_first=True, **options)
        self.places = self.inner.num_layers * (2 if self.inner.bidirectional else 1)
        self.start = nn.Linear(5, self.places * 6)

    def forward(self, x):
        start = self.start(x[:, 0]).view(len(x), self.places, 6).transpose(0, 1)
        given = start if isinstance(self.inner, nn.GRU) else (start, start.tanh())
        return self._row(*self.inner(x, given))


class Packed(Started):
    """Sequences as long as their first value says; from 1 to all steps."""

    def __init__(self, kind, *, as_sorted=False, **options):
        super().__init__(kind, **options)
        self.as_sorted = as_sorted

    def forward(self, x):
        lengths = (x[:, 0, 0].abs() * 2 + 1).long().clamp(1, x.shape[1])
        if self.as_sorted:
            lengths = lengths.sort(descending=True).values
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=self.as_sorted)
        start = self.start(x[:, 0]).view(len(x), self.places, 6).transpose(0, 1).contiguous()
        given = start if isinstance(self.inner, nn.GRU) else (start, start.tanh())
        output, states = self.inner(packed, given)
        assert isinstance(output, PackedSequence)
        padded, _ = pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])
        return self._row(padded, states)


class Attention(nn.Module):
    """Queries of 8 from a record; keys and values its own, others for all, or of other widths."""

    def __init__(self, source="self", masks=(), call=None, **options):
        super().__init__()
        if source == "wide":
            options |= {"kdim": 5, "vdim": 3}
        self.inner = nn.MultiheadAttention(8, 2, **options)
        self.source, self.masks, self.call = source, masks, call or {}

    def forward(self, x):
        query, key, value = self._inputs(x)
        first = self.inner.batch_first
        inputs = (query, key, value)
        if not first:
            moved = {id(t): t.transpose(0, 1) for t in inputs}
            inputs = tuple(moved[id(t)] for t in inputs)
        output, weights = self.inner(*inputs, **self.call, **self._masks(query, key))
        rows = [(output if first else output.transpose(0, 1)).flatten(1)]
        return torch.cat(rows if weights is None else [*rows, weights.flatten(1)], dim=1)

    def _inputs(self, x):
        if self.source == "self":
            return x, x, x
        other = x[:, 1:].cos()
        if self.source == "cross":
            return x, other, other
        if self.source == "three":
            return x, other, other.square()
        return x, other[..., :5].contiguous(), other[..., 5:].contiguous()

    def _masks(self, query, key):
        """True: not seen. Made of the record, so that each has its own."""
        heads = self.inner.num_heads
        masks = {}
        if "padding" in self.masks:
            masks["key_padding_mask"] = key[..., 0] > 0.5
            masks["key_padding_mask"][:, 0] = False
        if "causal" in self.masks:
            masks["attn_mask"] = torch.ones(query.shape[1], key.shape[1]).triu(1).bool()
            masks["is_causal"] = True
        if "numbers" in self.masks:
            masks["attn_mask"] = torch.linspace(-1, 1, key.shape[1]).expand(query.shape[1], -1)
            masks["key_padding_mask"] = masks["key_padding_mask"] * -1.5
        if "each" in self.masks:
            each = (query[..., :1] * key[:, None, :, 1])[:, None] > 1.0
            each = each.expand(-1, heads, -1, -1).clone()
            each[..., 0] = False
            masks["attn_mask"] = each.flatten(0, 1)
        return masks


class Notes(nn.Module):
    """Indices -> embedding -> GRU -> LayerNorm -> Linear on the last step."""

    def __init__(self, kind=nn.GRU, words=11, width=5, hidden=6):
        super().__init__()
        self.words = nn.Embedding(words, width, padding_idx=0)
        self.steps = kind(width, hidden, batch_first=True)
        self.norm, self.last = nn.LayerNorm(hidden), nn.Linear(hidden, 1)

    def forward(self, x):
        return self.last(self.norm(self.steps(self.words(x))[0][:, -1]))


class Block(nn.Module):
    """An attention block with norms and residuals, then a mean over positions."""

    def __init__(self, width=8):
        super().__init__()
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix = nn.MultiheadAttention(width, 2, batch_first=True)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        normed = self.before(x)
        x = x + self.mix(normed, normed, normed, need_weights=False)[0]
        return (x + self.narrow(torch.relu(self.wide(self.after(x))))).mean(dim=1)
