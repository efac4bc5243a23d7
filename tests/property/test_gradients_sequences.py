"""Sequence layers of any size and with any options, alone and stacked."""

import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.support.patient_gradients import (
    belonging,
    clipped_by_definition,
    clipped_sum,
    distance,
    per_patient_gradients,
)
from tests.support.sequence_models import (
    Attention,
    Packed,
    one_patient_at_a_time,
    recorded_output,
    sequences,
    spread,
    squared,
)
from torch import nn

FEW = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
COUNTS = st.lists(st.integers(1, 3), min_size=1, max_size=5)
SIZES = st.integers(1, 9)


def clipped_is_as_defined(model, records, gradients, clip_norm_l2):
    """Each patient's share is within the clip, and their sum is what the definition gives."""
    got = clipped_sum(model, *records, squared, clip_norm_l2=clip_norm_l2)
    due = clipped_by_definition(gradients, clip_norm_l2)
    assume(float(due.norm()) > 1e-4 * clip_norm_l2)
    # Where patients cancel, what is left is small beside the rounding of what they gave.
    size = max(float(due.norm()), clip_norm_l2)
    assert float((got.values.double() - due).norm()) < 1e-5 * size


@st.composite
def recurrent_layers(draw):
    options = {
        "num_layers": draw(st.integers(1, 3)),
        "bidirectional": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
    }
    return draw(st.sampled_from([nn.GRU, nn.LSTM])), draw(SIZES), draw(SIZES), options


class Stacked(nn.Module):
    """A recurrent layer of any kind, norms and a linear layer over the steps or the last one."""

    def __init__(self, layer, *, norm, last):
        super().__init__()
        kind, width, hidden, options = layer
        self.inner = kind(width, hidden, **options)
        out = hidden * (1 + options["bidirectional"])
        self.norm = nn.LayerNorm(out) if norm else nn.Tanh()
        self.out, self.last = nn.Linear(out, 2), last

    def forward(self, x):
        first = self.inner.batch_first
        output = self.inner(x if first else x.transpose(0, 1))[0]
        output = output if first else output.transpose(0, 1)
        return self.out(self.norm(output[:, -1] if self.last else output))


@FEW
@given(recurrent_layers(), COUNTS, st.integers(1, 12), st.booleans(), st.booleans())
def test_a_network_with_any_recurrent_layer(layer, counts, steps, norm, last):
    model = spread(Stacked(layer, norm=norm, last=last))
    records = sequences(tuple(counts), steps, layer[1])
    gradients = one_patient_at_a_time(model, *records, squared)
    for clip_norm_l2 in (1e-2, 1e2):
        clipped_is_as_defined(model, records, gradients, clip_norm_l2)
    torch.testing.assert_close(
        recorded_output(model, records[0]), model(records[0]), rtol=1e-6, atol=2e-6
    )


@FEW
@given(
    st.sampled_from([nn.GRU, nn.LSTM]),
    st.booleans(),
    st.integers(1, 2),
    COUNTS,
    st.integers(1, 9),
    st.integers(0, 99),
)
def test_packed_sequences_of_any_lengths(kind, both_ways, layers, counts, steps, seed):
    model = spread(Packed(kind, bidirectional=both_ways, num_layers=layers))
    records = sequences(tuple(counts), steps, 5, seed=seed)
    gradients = one_patient_at_a_time(model, *records, squared)
    clipped_is_as_defined(model, records, gradients, 0.1)


@FEW
@given(
    st.sampled_from(["self", "cross", "three", "wide"]),
    st.lists(st.sampled_from(["padding", "causal", "each"]), max_size=2, unique=True),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    COUNTS,
    st.integers(2, 7),
)
def test_attention_of_any_kind(source, masks, bias, own_key, zero, need_weights, counts, positions):
    assume(not {"causal", "each"} <= set(masks))
    model = spread(
        Attention(
            source,
            masks,
            {"need_weights": need_weights},
            bias=bias,
            add_bias_kv=own_key,
            add_zero_attn=zero,
            batch_first=True,
        )
    )
    records = sequences(tuple(counts), positions, 8)
    gradients = one_patient_at_a_time(model, *records, squared)
    clipped_is_as_defined(model, records, gradients, 0.1)


@FEW
@given(st.integers(1, 30), SIZES, st.booleans(), COUNTS, st.integers(1, 9), st.integers(0, 99))
def test_embeddings_of_any_size_against_torch_func(rows, width, padding, counts, words, seed):
    model = spread(
        nn.Sequential(nn.Embedding(rows, width, padding_idx=0 if padding else None), nn.Tanh())
    )
    torch.manual_seed(seed)
    patients = belonging(tuple(counts))
    records = torch.randint(0, rows, (len(patients), words)), torch.randn(len(patients)), patients
    gradients = per_patient_gradients(model, *records, squared)
    if padding:
        # torch.func takes the padding row for any other; PyTorch's backward pass leaves it out.
        gradients["0.weight"][:, 0] = 0
    got = clipped_sum(model, *records, squared, clip_norm_l2=0.1)
    due = clipped_by_definition(gradients, 0.1)
    assert distance(got.values + 1, due + 1) < 1e-6


@FEW
@given(st.lists(st.booleans(), min_size=1, max_size=3), COUNTS, st.integers(1, 6))
def test_layers_of_a_transformer_in_any_order_of_norms_against_torch_func(norms, counts, positions):
    torch.manual_seed(len(norms))
    model = nn.Sequential(
        *(
            nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True, norm_first=first)
            for first in norms
        )
    )
    records = sequences(tuple(counts), positions, 8)
    gradients = one_patient_at_a_time(model, *records, squared)
    clipped_is_as_defined(model, records, gradients, 0.3)
