"""Recurrent layers, embeddings and attention: per-patient gradients are those of one at a time."""

import warnings

import pytest
import torch
from tests.support.patient_gradients import belonging, clipped_by_definition, clipped_sum, distance
from tests.support.sequence_models import (
    Attention,
    Block,
    Notes,
    Packed,
    Recurrent,
    Started,
    one_patient_at_a_time,
    recorded_output,
    sequences,
    spread,
    squared,
    uses_of,
)
from torch import nn

from wardround.errors import BadInput
from wardround_client.gradients import projections
from wardround_client.gradients.opaque import SlowLayersWarning
from wardround_client.gradients.uses import unshared

KINDS = {"gru": nn.GRU, "lstm": nn.LSTM}
OPTIONS = {
    "plain": {"batch_first": True},
    "steps first": {},
    "without bias": {"bias": False},
    "both ways": {"bidirectional": True, "batch_first": True},
    "two layers": {"num_layers": 2},
    "two layers both ways": {"num_layers": 2, "bidirectional": True, "bias": False},
}
WRAPPED = {
    "outputs and last states": Recurrent,
    "first states": Started,
    "packed": Packed,
}
ATTENTION = {
    "self": {},
    "self, records second": {"batch_first": False},
    "self, fused": {"call": {"need_weights": False}},
    "each head's weights": {"call": {"average_attn_weights": False}},
    "without bias": {"bias": False, "call": {"need_weights": False}},
    "cross": {"source": "cross"},
    "cross, three": {"source": "three", "batch_first": False},
    "cross, wide": {"source": "wide"},
    "cross, wide without bias": {"source": "wide", "bias": False},
    "own key": {"add_bias_kv": True, "masks": ("padding", "each")},
    "own key and zero": {
        "add_bias_kv": True,
        "add_zero_attn": True,
        "source": "three",
        "masks": ("padding", "numbers"),
        "call": {"need_weights": False},
    },
    "padding": {"masks": ("padding",), "call": {"need_weights": False}},
    "causal": {"masks": ("causal",), "call": {"need_weights": False}},
    "causal with an own key": {
        "add_bias_kv": True,
        "masks": ("causal",),
        "call": {"need_weights": False},
    },
    "causal and padding": {"masks": ("causal", "padding")},
    "a mask for each": {"masks": ("each",), "call": {"need_weights": False}},
}


def agree(model, features, labels, patients, loss=squared):
    """Norms, gradients and sums of all uses together, against one patient at a time."""
    due = one_patient_at_a_time(model, features, labels, patients, loss)
    names = {id(p): name for name, p in model.named_parameters()}
    uses = unshared(uses_of(model, features, labels, patients, loss))
    factors = torch.rand(int(patients[-1]) + 1, dtype=next(iter(due.values())).dtype)
    squares, seen = 0.0, []
    for use in uses:
        squares = squares + use.squared_norms()
        parts = zip(use.parameters, use.gradients(), use.weighted_sum(factors), strict=True)
        for parameter, gradients, total in parts:
            name = names[id(parameter)]
            seen.append(name)
            assert distance(gradients, due[name]) < 1e-5, name
            assert distance(total, torch.tensordot(factors, due[name], dims=1)) < 1e-5, name
    assert sorted(seen) == sorted(due)
    norms = torch.cat([g.flatten(1).double() for g in due.values()], dim=1).norm(dim=1)
    assert float(norms.min()) > 0
    assert distance(squares.sqrt(), norms) < 1e-5


def build(wrapped, kind, option):
    options = dict(OPTIONS[option])
    if wrapped != "outputs and last states":
        options.pop("batch_first", None)
    return spread(WRAPPED[wrapped](KINDS[kind], **options))


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("kind", KINDS)
def test_a_recorded_recurrent_layer_gives_what_pytorchs_own_gives(kind, wrapped, option):
    model = build(wrapped, kind, option)
    features, _, _ = sequences((1,) * 6, 7, 5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.testing.assert_close(
        recorded_output(model, features), model(features), rtol=1e-6, atol=1e-6
    )
    assert list(before) == list(model.state_dict())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert "forward" not in model.inner.__dict__


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_a_recurrent_layer_are_those_of_one_patient_at_a_time(kind, wrapped, option):
    model = build(wrapped, kind, option)
    agree(model, *sequences((1,) * 5, 6, 5))
    agree(model, *sequences((2, 1, 3), 6, 5))


@pytest.mark.parametrize("kind", KINDS)
def test_packed_sequences_that_come_sorted_stay_as_they_are(kind):
    model = spread(Packed(KINDS[kind], as_sorted=True, bidirectional=True))
    features, _, _ = sequences((1,) * 6, 7, 5)
    torch.testing.assert_close(
        recorded_output(model, features), model(features), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_between_layers_draws_what_pytorchs_own_draws(kind):
    model = spread(Recurrent(KINDS[kind], num_layers=3, dropout=0.5, bidirectional=True))
    features, labels, patients = sequences((2, 1, 2), 6, 5)
    torch.manual_seed(9)
    due = model(features)
    torch.manual_seed(9)
    torch.testing.assert_close(recorded_output(model, features), due, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(model.eval()(features), due)
    agree(model, features, labels, patients)


@pytest.mark.parametrize("steps", [1, 2, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_short_and_long_sequences_take_different_ways_to_the_same_norm(kind, steps, monkeypatch):
    model = spread(Recurrent(KINDS[kind], hidden=7, num_layers=2))
    records = sequences((2, 1, 1, 3), steps, 5)
    for products_a_value, kept in ((0, 1 << 20), (0, 0), (1 << 20, 0)):
        monkeypatch.setattr(projections, "PRODUCTS_A_VALUE", products_a_value)
        monkeypatch.setattr(projections, "KEPT_BYTES", kept)
        monkeypatch.setattr(projections, "FORMED_AT_ONCE_BYTES", 3000)
        agree(model, *records)


@pytest.mark.parametrize("frozen", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_weight_of_a_recurrent_layer_takes_no_part(kind, frozen):
    model = spread(Recurrent(KINDS[kind], bidirectional=True))
    getattr(model.inner, frozen).requires_grad_(False)
    agree(model, *sequences((2, 1, 3), 4, 5))
    for name, parameter in model.inner.named_parameters():
        parameter.requires_grad_(name == frozen)
    agree(model, *sequences((2, 1, 3), 4, 5))


class Twice(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.inner = kind(6, 6, batch_first=True)

    def forward(self, x):
        return self.inner(self.inner(x)[0].tanh())[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_recurrent_layer_that_is_called_twice_adds_up_before_the_norm(kind):
    agree(spread(Twice(KINDS[kind])), *sequences((2, 1, 1), 4, 6))


@pytest.mark.parametrize("model", [Recurrent(nn.GRU), Recurrent(nn.LSTM), Block(5 + 3)])
def test_one_patient_is_within_the_clip_norm_to_one_part_in_a_million(model):
    width = 8 if isinstance(model, Block) else 5
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        own = spread(model).to(dtype)
        for steps, size in ((2, 1.0), (30, 1e3)):
            features, labels, patients = sequences((3,), steps, width, dtype)
            got = clipped_sum(own, features * size, labels, patients, squared, clip_norm_l2=1e-3)
            norm = float(got.values.double().norm())
            assert 1e-3 * (1 - 1e-4) < norm <= 1e-3 * (1 + 1e-6)


def test_bfloat16_loses_nothing_along_a_sequence_that_float32_keeps():
    wide = spread(Recurrent(nn.GRU))
    narrow = spread(Recurrent(nn.GRU)).to(torch.bfloat16)
    wide.load_state_dict({k: v.float() for k, v in narrow.state_dict().items()})
    features, labels, patients = sequences((2, 1), 20, 5, torch.bfloat16)
    (got,), (due,) = (
        uses_of(narrow, features, labels, patients),
        uses_of(wide, features.float(), labels.float(), patients),
    )
    assert got.gradients()[0].dtype is torch.float32
    assert distance(got.squared_norms().sqrt(), due.squared_norms().sqrt()) < 0.02


def test_a_patient_without_a_finite_gradient_leaves_the_others_as_they_are():
    model = spread(Notes())
    words = torch.randint(0, 11, (4, 6))
    labels = torch.tensor([0.5, float("nan"), 1.0, -1.0])
    got = clipped_sum(model, words, labels, belonging((1,) * 4), squared, clip_norm_l2=0.1)
    rest = torch.tensor([0, 2, 3])
    due = clipped_sum(
        model, words[rest], labels[rest], belonging((1,) * 3), squared, clip_norm_l2=0.1
    )
    assert got.without_gradient == 1
    assert distance(got.values, due.values) < 1e-6


def test_a_projected_lstm_is_refused_by_name():
    model = Recurrent(nn.LSTM, proj_size=2)
    with pytest.raises(BadInput, match=r"LSTM\(5, 6, proj_size=2\) has proj_size"):
        clipped_sum(model, *sequences((2, 1), 4, 5), squared, clip_norm_l2=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_that_is_computed_from_others_goes_the_slow_way_or_is_refused(kind):
    model = Recurrent(KINDS[kind])
    nn.utils.parametrizations.weight_norm(model.inner, "weight_hh_l0")
    with pytest.warns(SlowLayersWarning, match="inner"), pytest.raises(BadInput):
        clipped_sum(model, *sequences((2, 1), 4, 5), squared, clip_norm_l2=0.1)


class Unbatched(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.GRU(5, 6)

    def forward(self, x):
        return self.inner(x[:, 0])[0]


class RecordsAsSteps(Unbatched):
    def forward(self, x):
        return self.inner(x)[0]


def test_sequences_that_are_not_one_a_record_are_refused():
    features, labels, patients = sequences((1,) * 4, 5, 5)
    with pytest.raises(BadInput, match="GRU got 2 dimensions"):
        clipped_sum(Unbatched(), features, labels, patients, squared, clip_norm_l2=0.1)
    with pytest.raises(BadInput, match=r"GRU got 5 sequences of \d steps, \d records"):
        clipped_sum(RecordsAsSteps(), features, labels, patients, squared, clip_norm_l2=0.1)


@pytest.mark.parametrize("option", ATTENTION)
def test_attention_gives_what_pytorchs_own_gives_and_its_gradients(option):
    model = spread(Attention(**{"batch_first": True} | ATTENTION[option]))
    features, labels, patients = sequences((2, 1, 3), 4, 8)
    torch.testing.assert_close(
        recorded_output(model, features), model(features), rtol=2e-6, atol=1e-6
    )
    agree(model, features, labels, patients)
    agree(model, *sequences((1,) * 4, 4, 8))


@pytest.mark.parametrize("need_weights", [True, False])
def test_dropout_of_attention_draws_what_pytorchs_own_draws(need_weights):
    call = {"need_weights": need_weights}
    model = spread(Attention(dropout=0.4, batch_first=True, call=call))
    features, _, _ = sequences((1,) * 4, 6, 8)
    torch.manual_seed(9)
    due = model(features)
    torch.manual_seed(9)
    torch.testing.assert_close(recorded_output(model, features), due, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(model.eval()(features), due)


@pytest.mark.parametrize(
    "frozen", [("in_proj_weight",), ("in_proj_bias", "bias_k"), ("out_proj.weight",)]
)
@pytest.mark.parametrize("source", ["self", "cross"])
def test_a_frozen_weight_of_attention_takes_no_part(source, frozen):
    model = spread(Attention(source, batch_first=True, add_bias_kv=True))
    for name in frozen:
        model.inner.get_parameter(name).requires_grad_(False)
    agree(model, *sequences((2, 1), 4, 8))


def test_a_projection_of_attention_may_be_trained_alone():
    model = spread(Attention("wide", batch_first=True))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("v_proj" in name)
    agree(model, *sequences((2, 1), 4, 8))


def test_attention_without_a_dimension_for_records_is_refused():
    class Alone(Attention):
        def forward(self, x):
            return self.inner(x[0], x[0], x[0])[0]

    with pytest.raises(BadInput, match="MultiheadAttention got 2 dimensions"):
        recorded_output(Alone(), torch.randn(2, 3, 8))


@pytest.mark.parametrize("shape", [(6,), (6, 4), (6, 2, 3)])
@pytest.mark.parametrize("padding", [None, 2])
def test_gradients_of_an_embedding_are_those_of_one_patient_at_a_time(shape, padding):
    torch.manual_seed(0)
    model = spread(nn.Sequential(nn.Embedding(7, 3, padding_idx=padding), nn.Tanh()))
    indices = torch.randint(0, 7, shape)
    agree(model, indices, torch.randn(6), belonging((2, 1, 3)))


def test_a_patient_who_looks_up_only_the_padding_has_a_gradient_of_zero():
    model = nn.Embedding(5, 3, padding_idx=1)
    (use,) = uses_of(model, torch.tensor([[1, 1], [0, 1]]), torch.ones(2), belonging((1, 1)))
    assert use.squared_norms()[0] == 0
    assert use.squared_norms()[1] > 0


def test_an_embeddings_memory_goes_with_what_is_looked_up_not_with_its_rows():
    model = nn.Embedding(1_000_000, 2)
    indices = torch.arange(40).view(10, 4) % 7
    (use,) = uses_of(model, indices, torch.ones(10), belonging((1,) * 10))
    assert use.sums.shape == (40, 2)


@pytest.mark.parametrize("setting", ["max_norm", "scale_grad_by_freq", "sparse"])
def test_settings_of_an_embedding_that_mix_or_tell_patients_are_refused_by_name(setting):
    model = nn.Embedding(5, 3, **{setting: 1.0 if setting == "max_norm" else True})
    with pytest.raises(BadInput, match=f"has {setting}"):
        clipped_sum(
            model, torch.tensor([[1]]), torch.ones(1), belonging((1,)), squared, clip_norm_l2=0.1
        )


@pytest.mark.parametrize("counts", [(1,) * 5, (3, 1, 2)])
@pytest.mark.parametrize(
    "make",
    [
        Notes,
        lambda: Notes(nn.LSTM),
        Block,
        lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
        lambda: nn.Sequential(Block(), nn.LayerNorm(8), nn.Linear(8, 1)),
    ],
)
def test_clipped_sums_of_whole_networks_are_those_of_the_definition(make, counts):
    torch.manual_seed(1)
    model = make()
    features, labels, patients = sequences(counts, 6, 8)
    if isinstance(model, Notes):
        features = torch.randint(0, 11, (len(patients), 6))
    gradients = one_patient_at_a_time(model, features, labels, patients, squared)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = clipped_sum(model, features, labels, patients, squared, clip_norm_l2=0.5)
        parts = clipped_sum(
            model, features, labels, patients, squared, clip_norm_l2=0.5, records_at_once=2
        )
    due = clipped_by_definition(gradients, 0.5)
    assert distance(got.values, due) < 1e-5
    assert distance(parts.values, due) < 1e-5
