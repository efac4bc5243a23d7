"""The one spec that a study allows: both sides build it, and any other is named by its field."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from tests.support.hospitals import study_json

from wardround.errors import ProtocolViolation
from wardround.masking.quantise import choose_scale, dequantise, largest_limit, quantise
from wardround.protocol.specs import (
    attempt_spec,
    check_spec,
    evaluation_layout,
    model_digest,
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


def test_an_evaluation_spec_has_the_lanes_of_the_counts_and_comes_after_the_last_round():
    spec = attempt_spec(study(), round_number=2, **COMMON)
    assert (spec.round, spec.scale) == (2, 1.0)
    assert spec.lanes == evaluation_layout(study()).lanes


def test_the_model_digest_is_over_little_endian_float32():
    assert model_digest(MODEL) == hashlib.sha256(MODEL.astype("<f4").tobytes()).hexdigest()
    assert model_digest(MODEL.astype(">f4")) == model_digest(MODEL)
    assert model_digest(MODEL[::-1]) != model_digest(MODEL)


DIFFERENT = {
    "study_digest": "9" * 64,
    "model_digest": "9" * 64,
    "lanes": 4,
    "scale": 2.0,
    "limit": 9,
    "minimum": 3,
}


@pytest.mark.parametrize("purpose", ["train", "evaluate"])
@pytest.mark.parametrize("name", DIFFERENT)
def test_a_field_that_the_study_says_otherwise_is_named(purpose, name):
    made = attempt_spec(study(), round_number=0 if purpose == "train" else 2, **COMMON)
    assert made.purpose == purpose
    check_spec(made, study(), MODEL)
    with pytest.raises(ProtocolViolation, match=f"round spec: {name} is not what the study says"):
        check_spec(replace(made, **{name: DIFFERENT[name]}), study(), MODEL)


def test_a_round_that_the_study_does_not_have_is_refused():
    last = attempt_spec(study(), round_number=1, **COMMON)
    check_spec(last, study(), MODEL)
    with pytest.raises(ProtocolViolation, match="round 3, the study ends with 2"):
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
