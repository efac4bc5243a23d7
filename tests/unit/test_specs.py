"""The one spec that a study allows: both sides build it, and any other is named by its field."""

import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest
from tests.support.hospitals import study_json

from wardround.errors import BadInput, ProtocolViolation
from wardround.masking.quantise import choose_scale, dequantise, largest_limit, quantise
from wardround.masking.round_spec import Profile
from wardround.privacy.noise_shares import noise_tail
from wardround.protocol.halves import model_digest
from wardround.protocol.specs import (
    attempt_spec,
    check_spec,
    check_training,
    evaluation_layout,
    training_share,
)
from wardround.study.files import checked
from wardround.study.manifest import Study

COHORT = ("a", "b", "c")
ROSTER = [{"name": name, "fingerprint": str(number) * 64} for number, name in enumerate(COHORT)]
MODEL = np.arange(3, dtype=np.float32)
COMMON = {
    "run": "1" * 32,
    "session": "2" * 32,
    "attempt": 1,
    "cohort": COHORT,
    "directory_digest": "3" * 64,
    "model": MODEL,
}


def study(**changes):
    return checked(Study, study_json(roster=ROSTER, **changes), what="study")


def test_a_training_spec_has_a_lane_per_parameter_and_carries_the_studys_bound():
    spec = attempt_spec(study(), round_number=1, **COMMON)
    assert (spec.lanes, spec.round, spec.minimum) == (3, 1, 2)
    assert spec.limit == largest_limit(3)
    assert spec.scale == choose_scale(64.0, 3)
    bound = np.array([64.0, -64.0, 0.0])
    carried = quantise(bound, scale=spec.scale, limit=spec.limit)
    np.testing.assert_array_equal(dequantise(carried, scale=spec.scale), bound)


def distributed(**changes):
    return study(privacy__mechanism="distributed", **changes)


def test_with_noise_in_the_sum_the_scale_holds_the_step_and_the_noise_on_top():
    one = distributed()
    spec = attempt_spec(one, round_number=0, **COMMON)
    share = training_share(one, 3, 3)
    assert (spec.scale, spec.limit) == (share.scale, share.limit)
    # 2 x learning rate 1 x clip norm 1 is twice the expected batch, every gradient on one lane.
    assert 2.0 * spec.scale + share.tail <= spec.limit
    assert 2.0 * 2.0 * spec.scale + noise_tail(4 * share.variance) > spec.limit


def test_a_smaller_update_bound_leaves_more_bits_to_the_noise():
    wide, narrow = (
        training_share(distributed(training__update_bound=bound), 3, 3) for bound in (64.0, 0.05)
    )
    assert narrow.scale > wide.scale
    assert narrow.variance > wide.variance


def test_all_hospitals_but_the_colluders_make_up_the_noise_that_epsilon_needs():
    one = distributed(privacy__colluders=1)
    for hospitals in (2, 3):
        share = training_share(one, hospitals, 3)
        assert share.honest == hospitals - 1
        noise = math.sqrt(share.honest * share.variance) / share.sensitivity_lanes
        assert noise == pytest.approx(one.noise_multiplier(), rel=1e-6)
        assert noise >= one.noise_multiplier() * (1 - 1e-15)


def test_the_sensitivity_counts_one_patient_and_the_rounding_of_every_lane():
    share = training_share(distributed(), 3, 100)
    one_patient = 1.0 * 1.0 / 15.0 * share.scale
    assert share.sensitivity_lanes == pytest.approx(
        one_patient * (1 + 1e-4 + 15e-6) + 10.0, rel=1e-12
    )


def test_noise_too_small_for_the_accountant_is_refused_when_the_study_is_checked():
    crowded = distributed(training__expected_batch=1e6)
    with pytest.raises(BadInput, match=r"deviation is \d+ lanes for 2 hospitals.*1024 are due"):
        check_training(crowded, most_hospitals=2, lanes=3)
    with pytest.raises(BadInput, match=r"lanes for 3 hospitals"):
        attempt_spec(crowded, round_number=0, **COMMON)
    check_training(distributed(), most_hospitals=3, lanes=3)


def test_every_cohort_that_the_study_allows_is_checked():
    narrow = distributed(training__expected_batch=2.0**10 * 15)
    fits = [n for n in range(2, 200) if not _refused(narrow, n)]
    assert fits == list(range(2, fits[-1] + 1))
    check_training(narrow, most_hospitals=fits[-1], lanes=3)
    with pytest.raises(BadInput, match=f"for {fits[-1] + 1} hospitals"):
        check_training(narrow, most_hospitals=fits[-1] + 1, lanes=3)


def test_a_count_that_alone_would_spend_the_noise_is_refused_when_the_study_is_checked():
    adaptive = {"privacy__clipping": "adaptive", "privacy__adaptive_quantile": 0.5}
    noise = study().noise_multiplier()
    check_training(
        study(**adaptive, privacy__adaptive_count_noise=0.51 * noise), most_hospitals=3, lanes=3
    )
    with pytest.raises(BadInput, match=r"adaptive_count_noise .* more than half"):
        check_training(
            study(**adaptive, privacy__adaptive_count_noise=0.5 * noise), most_hospitals=3, lanes=3
        )


def _refused(plan, hospitals):
    try:
        training_share(plan, hospitals, 3)
    except BadInput:
        return True
    return False


def test_an_evaluation_spec_has_the_lanes_of_the_counts_and_comes_after_the_last_round():
    spec = attempt_spec(study(), round_number=2, **COMMON)
    assert (spec.round, spec.scale) == (2, 1.0)
    assert spec.lanes == evaluation_layout(study()).lanes


def test_the_model_digest_is_over_little_endian_float32():
    assert model_digest(MODEL) == hashlib.sha256(MODEL.astype("<f4").tobytes()).hexdigest()
    assert model_digest(MODEL.astype(">f4")) == model_digest(MODEL)
    assert model_digest(MODEL[::-1]) != model_digest(MODEL)


DIFFERENT = {
    "profile": {"profile": Profile.ONE_TRIP},
    "study_digest": {"study_digest": "9" * 64},
    "partition": {"partition": (COHORT, ("z",))},
    "model_digest": {"model_digest": "9" * 64},
    "lanes": {"lanes": 4},
    "bits": {"bits": 24, "limit": 9},
    "scale": {"scale": 2.0},
    "limit": {"limit": 9},
    "minimum": {"minimum": 3},
}


@pytest.mark.parametrize("purpose", ["train", "evaluate"])
@pytest.mark.parametrize("name", DIFFERENT)
def test_a_field_that_the_study_says_otherwise_is_named(purpose, name):
    made = attempt_spec(study(), round_number=0 if purpose == "train" else 2, **COMMON)
    assert made.purpose == purpose
    check_spec(made, study(), MODEL)
    with pytest.raises(ProtocolViolation, match=f"round spec: {name} is not what the study says"):
        check_spec(replace(made, **DIFFERENT[name]), study(), MODEL)


FOUR = ("a", "b", "c", "d")


def of_four(**changes):
    roster = [{"name": name, "fingerprint": str(n) * 64} for n, name in enumerate(FOUR)]
    return checked(Study, study_json(roster=roster, **changes), what="study")


def test_two_thirds_and_one_more_must_answer_and_with_one_trip_everybody():
    shared = {"privacy__mechanism": "distributed"}
    for changes, threshold, honest in (
        (shared, 3, 2),
        (shared | {"masking__profile": "one-trip"}, 4, 3),
    ):
        four = of_four(**changes)
        spec = attempt_spec(four, round_number=0, **COMMON | {"cohort": FOUR})
        assert (spec.threshold, training_share(four, 4, 3).honest) == (threshold, honest)
        check_spec(spec, four, MODEL)
    four = of_four()
    spec = attempt_spec(four, round_number=0, **COMMON | {"cohort": FOUR})
    with pytest.raises(ProtocolViolation, match="threshold is not what the study says"):
        check_spec(replace(spec, threshold=4), four, MODEL)


def test_only_the_updates_of_a_noised_sum_take_one_trip_and_narrow_lanes():
    one = distributed(masking__profile="one-trip", masking__bits=24, training__expected_batch=2.0)
    training = attempt_spec(one, round_number=0, **COMMON)
    assert (training.profile, training.bits) == (Profile.ONE_TRIP, 24)
    assert training.limit == largest_limit(3, 24)
    evaluation = attempt_spec(one, round_number=2, **COMMON)
    assert (evaluation.profile, evaluation.bits) == (Profile.DOUBLE_MASK, 32)
    assert evaluation.limit == largest_limit(3)


@pytest.mark.parametrize("mechanism", ["local", "none"])
def test_one_trip_without_noise_in_the_sum_is_no_study(mechanism):
    with pytest.raises(BadInput, match="one-trip with mechanism"):
        study(masking__profile="one-trip", privacy__mechanism=mechanism)


def test_a_round_that_the_study_does_not_have_is_refused():
    last = attempt_spec(study(), round_number=1, **COMMON)
    check_spec(last, study(), MODEL)
    with pytest.raises(ProtocolViolation, match="round 4 came, the study has 2"):
        check_spec(replace(last, round=3), study(), MODEL)


def test_training_after_the_last_round_and_evaluation_before_it_are_refused():
    training = attempt_spec(study(), round_number=1, **COMMON)
    evaluation = attempt_spec(study(), round_number=2, **COMMON)
    for spec in (replace(training, round=2), replace(evaluation, round=1)):
        with pytest.raises(ProtocolViolation, match="purpose is not what the study says"):
            check_spec(spec, study(), MODEL)


def test_a_cohort_from_outside_the_roster_is_refused():
    spec = attempt_spec(study(), round_number=0, **COMMON | {"cohort": ("a", "stranger")})
    with pytest.raises(ProtocolViolation, match="not within the study's roster"):
        check_spec(spec, study(), MODEL)


def test_a_cohort_below_the_studys_minimum_cannot_be_built():
    small = study(masking__minimum_hospitals=3, rounds__quorum=3)
    with pytest.raises(ProtocolViolation, match="a cohort of 2 came, the minimum is 3"):
        attempt_spec(small, round_number=0, **COMMON | {"cohort": ("a", "b")})
