"""Hospitals that count by their patients: who may, what the vector holds, what the sum gives."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.test_specs import COHORT, COMMON, MODEL, study

from wardround.errors import BadInput, ProtocolViolation, WardroundError
from wardround.masking.quantise import LANE, largest_limit
from wardround.models.networks import binary_loss, build
from wardround.protocol.specs import attempt_spec, check_spec, training_scale
from wardround.protocol.weighting import HEAD_LANES, head_lanes, mean_update, weight_of
from wardround_client.training.plan import PatientRecords
from wardround_client.training.stages import RawUpdate, lanes_of, without_noise
from wardround_client.training.weighting import training_loss, weigh

WEIGHTED = {
    "privacy__mechanism": "none",
    "training__weighting": "patients",
    "training__weight_unit": 100,
    "training__weight_most": 8,
    "training__update_bound": 1.0,
}


@pytest.mark.parametrize("mechanism", ["local", "distributed"])
def test_weights_with_a_guarantee_are_no_study(mechanism):
    with pytest.raises(BadInput, match="no noise covers it"):
        study(**WEIGHTED | {"privacy__mechanism": mechanism})


@pytest.mark.parametrize(
    "changes",
    [
        {"training__weight_unit": None},
        {"training__weight_most": None},
        {"training__weighting": "equal"},
        {"training__weighting": None},
        {"training__weight_most": 0},
        {"training__weighting": "records"},
    ],
)
def test_unit_and_most_go_with_the_weighting_and_only_with_it(changes):
    with pytest.raises(BadInput, match="weight"):
        study(**WEIGHTED | changes)


def test_a_study_without_weights_has_the_bytes_it_had_before():
    plain = study(privacy__mechanism="none")
    assert study(privacy__mechanism="none", training__weighting="equal").digest == plain.digest
    assert not {"weighting", "weight_unit", "weight_most"} & set(plain.to_json()["training"])
    assert study(**WEIGHTED).to_json()["training"]["weight_unit"] == 100


def test_a_weight_is_patients_over_the_unit_within_its_bounds():
    one = study(**WEIGHTED)
    came = [weight_of(patients, one) for patients in (0, 1, 149, 151, 350, 799, 10_000)]
    assert came == [1, 1, 1, 2, 4, 8, 8]
    assert weight_of(10_000, study(privacy__mechanism="none")) == 1


def test_the_spec_has_two_lanes_more_and_a_scale_that_holds_the_largest_weight():
    one = study(**WEIGHTED)
    spec = attempt_spec(one, round_number=0, **COMMON)
    check_spec(spec, one, MODEL)
    assert spec.lanes == MODEL.size + HEAD_LANES == MODEL.size + head_lanes(one)
    assert 8 * 1.0 * spec.scale <= spec.limit < 2 * 8 * 1.0 * spec.scale
    evaluation = attempt_spec(one, round_number=2, **COMMON)
    assert evaluation.lanes == attempt_spec(study(), round_number=2, **COMMON).lanes


def test_a_weight_that_no_lane_holds_is_no_study_for_so_many():
    narrow = study(**WEIGHTED | {"training__weight_most": 1024, "masking__bits": 20})
    assert largest_limit(300, 20) < 1024
    with pytest.raises(BadInput, match="weights up to 1024, a lane holds 873"):
        training_scale(narrow, 300, 3)


updates = st.lists(
    st.tuples(
        st.integers(1, 2000),
        st.floats(0, 50),
        st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3),
    ),
    min_size=3,
    max_size=3,
)


@given(updates)
def test_the_mean_is_the_weighted_one_and_the_loss_the_pooled_one(hospitals):
    one = study(**WEIGHTED)
    spec = attempt_spec(one, round_number=0, **COMMON)
    total = np.zeros(spec.lanes, dtype=LANE)
    weights = [weight_of(patients, one) for patients, _, _ in hospitals]
    for patients, loss, values in hospitals:
        clear = without_noise(RawUpdate(np.array(values, dtype=np.float32)))
        masked = weigh(clear, patients=patients, loss=loss, study=one, spec=spec)
        total += lanes_of(masked, scale=spec.scale, limit=spec.limit)
    mean = mean_update(total, one, spec, hospitals=3)
    assert mean.weight == sum(weights)
    losses, values = [h[1] for h in hospitals], [h[2] for h in hospitals]
    assert mean.loss == pytest.approx(np.average(losses, weights=weights), abs=2e-3)
    due = np.average(np.array(values), axis=0, weights=weights)
    np.testing.assert_allclose(mean.values, due, atol=2e-6)


def test_a_sum_of_weights_that_nobody_can_have_is_refused():
    one = study(**WEIGHTED)
    spec = attempt_spec(one, round_number=0, **COMMON)
    total = np.zeros(spec.lanes, dtype=LANE)
    for weight in (0, len(COHORT) - 1, 8 * len(COHORT) + 1, -5):
        total[0] = weight
        with pytest.raises(ProtocolViolation, match=f"sum to {weight}, 3 to 24 was due"):
            mean_update(total, one, spec, hospitals=3)


def test_without_weights_the_mean_is_over_the_hospitals_and_there_is_no_loss():
    one = study()
    spec = attempt_spec(one, round_number=0, **COMMON)
    total = np.array([6, -3, 9], dtype=LANE)
    mean = mean_update(total, one, spec, hospitals=3)
    np.testing.assert_array_equal(mean.values * spec.scale, [2.0, -1.0, 3.0])
    assert (mean.weight, mean.loss) == (3, None)


def records(count):
    torch.manual_seed(3)
    return PatientRecords(
        features=torch.randn(count, 2),
        labels=(torch.arange(count) % 2).float(),
        offsets=np.arange(count + 1),
    )


def test_the_training_loss_is_the_mean_over_all_records_in_parts():
    one = study(**WEIGHTED)
    network, many = build(one), records(600)
    due = binary_loss(network(many.features), many.labels).mean().item()
    assert training_loss(network, many, one) == pytest.approx(due, rel=1e-6)


@pytest.mark.parametrize("loss", [float("inf"), float("nan")])
def test_a_loss_that_is_not_finite_does_not_leave(loss):
    one = study(**WEIGHTED)
    spec = attempt_spec(one, round_number=0, **COMMON)
    clear = without_noise(RawUpdate(np.zeros(3, dtype=np.float32)))
    with pytest.raises(WardroundError, match="training loss: it is not finite"):
        weigh(clear, patients=5, loss=loss, study=one, spec=spec)
