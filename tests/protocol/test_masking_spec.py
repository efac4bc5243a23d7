"""A round that is not well formed, or not this run's, gets no masks; none is given twice."""

from typing import Any

import pytest
from tests.support.masked_hospitals import MaskedFleet, constant_lanes, fleet

from wardround.errors import ProtocolViolation
from wardround.masking.hospital_round import HospitalRound
from wardround.masking.round_spec import Profile, RoundSpec, threshold_of

LANES = 6


@pytest.fixture
def three() -> MaskedFleet:
    return fleet(3)


# --- the spec -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"purpose": "probe"}, "purpose is not one of statistics, train, evaluate"),
        ({"purpose": None}, "purpose is not one of"),
        ({"profile": "no-mask"}, "profile is not one of double-mask, one-trip"),
        ({"profile": 1}, "profile is not one of"),
        ({"bits": 16}, "bits is not one of 20, 24, 32"),
        ({"bits": 32.0}, "bits is not one of 20, 24, 32"),
        ({"bits": True}, "bits is not one of 20, 24, 32"),
        ({"threshold": 4}, "a threshold of 4 came, 3 to 3 is due for 3 hospitals with double-mask"),
        ({"threshold": 2}, "a threshold of 2 came, 3 to 3 is due"),
        ({"threshold": 3.0}, "threshold: an integer was due, a float came"),
        ({"partition": [["h000", "h001"], ["h002"]]}, "the cohort is not a group of the partition"),
        ({"partition": []}, "the cohort is not a group of the partition"),
        ({"partition": [["h000", "h001", "h002"], ["h002", "x"]]}, "a hospital is in two groups"),
        ({"partition": [["h000", "h001", "h002"], ["z", "x"]]}, "partition is not sorted"),
        ({"partition": "h000"}, "partition is not a list of groups"),
        ({"partition": [["h000", "h001", "h002"], "x"]}, "partition is not a list of groups"),
        ({"run": "AA" * 16}, "run: 32 lower-case hex digits due"),
        ({"study_digest": "aa"}, "study_digest: 64 lower-case hex digits due, 2 characters came"),
        ({"round": -1}, "round: -1 came"),
        ({"round": True}, "round: an integer was due, a bool came"),
        ({"round": 1.0}, "round: an integer was due, a float came"),
        ({"attempt": 0}, "attempt: 0 came"),
        ({"lanes": 0}, "lanes: 0 came"),
        ({"lanes": 2**28 + 1}, "lanes: 268435457 came, 1 to 268435456 was due"),
        ({"scale": 3.0}, "scale 3.0 is not a power of two"),
        ({"scale": float("nan")}, "scale is not a number from"),
        ({"scale": float("inf")}, "scale is not a number from"),
        ({"scale": 0.0}, "scale is not a number from"),
        ({"scale": -2.0}, "scale is not a number from"),
        ({"scale": "2"}, "scale is not a number from"),
        ({"scale": 10**400}, "scale is not a number from"),
        ({"limit": 0}, "limit: 0 came"),
        ({"minimum": 1}, "minimum: 1 came, 2 to"),
        ({"minimum": 4}, "a cohort of 3 came, the minimum is 4"),
        ({"cohort": []}, "a cohort of 0 came, the minimum is 2"),
        ({"cohort": ["h000"]}, "a cohort of 1 came, the minimum is 2"),
        ({"cohort": ["h001", "h000"]}, "cohort is not sorted"),
        ({"cohort": ["h000", "h000"]}, "names a hospital twice"),
        ({"cohort": ["h000", "H1"]}, "cohort: a hospital's name"),
        ({"cohort": ["h000", "h001\n"]}, "cohort: a hospital's name"),
        ({"cohort": ["h000", 1]}, "cohort: a hospital's name .* int came"),
        ({"cohort": "h000"}, "cohort is not a list of names"),
    ],
)
def test_a_malformed_spec_is_refused(
    three: MaskedFleet, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ProtocolViolation, match=f"round spec: .*{reason}|round spec: {reason}"):
        three.spec(LANES, **changes)


def test_a_sum_that_could_overflow_is_refused_and_one_less_is_not(three: MaskedFleet) -> None:
    edge = 2**31 // 3  # 3 x edge = 2^31 - 2
    assert three.spec(LANES, limit=edge).largest_sum < 2**31
    assert three.spec(LANES, limit=(2**19 - 1) // 3, bits=20).largest_sum < 2**19
    with pytest.raises(ProtocolViolation, match=r"3 hospitals x limit 174763 = .* overflows"):
        three.spec(LANES, limit=2**19 // 3 + 1, bits=20)
    with pytest.raises(ProtocolViolation, match=r"3 hospitals x limit 715827883 = .* overflows"):
        three.spec(LANES, limit=edge + 1)


def test_two_survivor_sets_of_one_attempt_can_never_both_reach_the_threshold() -> None:
    for hospitals in range(2, 200):
        threshold = threshold_of(Profile.DOUBLE_MASK, hospitals, 2)
        assert threshold == max(2, 2 * hospitals // 3 + 1) <= hospitals
        assert 2 * threshold > hospitals
        assert threshold_of(Profile.DOUBLE_MASK, hospitals, hospitals) == hospitals
        assert threshold_of(Profile.ONE_TRIP, hospitals, 2) == hospitals


def test_statistics_come_before_training_and_training_before_evaluation(
    three: MaskedFleet,
) -> None:
    places = [
        three.spec(LANES, purpose=purpose, round=number).place
        for purpose, number in (
            ("statistics", 0),
            ("train", 0),
            ("train", 1),
            ("evaluate", 2),
        )
    ]
    assert places == [0, 1, 2, 3]


def test_a_spec_with_a_field_more_or_less_is_refused(three: MaskedFleet) -> None:
    value = three.spec(LANES).to_json()
    with pytest.raises(ProtocolViolation, match="round spec: unknown survivors"):
        RoundSpec.from_json(value | {"survivors": []})
    del value["minimum"]
    with pytest.raises(ProtocolViolation, match="round spec: missing minimum"):
        RoundSpec.from_json(value)
    with pytest.raises(ProtocolViolation, match="round spec: an object was due, a list came"):
        RoundSpec.from_json([])


# --- secrets are given once ---------------------------------------------------------------------


def test_secrets_are_never_given_twice_for_one_attempt(three: MaskedFleet) -> None:
    own, spec = three.hospitals[0], three.spec(LANES)
    own.secrets.round_secrets(spec)
    for changes in ({}, {"model_digest": "ee" * 32}):
        with pytest.raises(ProtocolViolation, match="forgotten, attempt 2 at place 2 of the run"):
            own.secrets.round_secrets(three.spec(LANES, **changes))
    own.secrets.round_secrets(three.spec(LANES, attempt=4))
    for attempt in range(1, 5):
        with pytest.raises(ProtocolViolation, match="forgotten, attempt 5 at place 2 of the run"):
            own.secrets.round_secrets(three.spec(LANES, attempt=attempt))


@pytest.mark.parametrize("profile", ["double-mask", "one-trip"])
def test_masks_never_hide_two_updates(three: MaskedFleet, profile: str) -> None:
    own = three.hospitals[0].begin(three.spec(LANES, profile=profile))
    own.upload(constant_lanes(LANES))
    with pytest.raises(ProtocolViolation, match=r"used already|secrets are forgotten"):
        own.upload(constant_lanes(LANES, 8))


def test_forgotten_secrets_give_no_masks(three: MaskedFleet) -> None:
    own = three.hospitals[0]
    own.secrets.forget()
    with pytest.raises(ProtocolViolation, match="are forgotten"):
        own.secrets.round_secrets(three.spec(LANES))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"run": "aa" * 16}, "it is for run aa"),
        ({"session": "aa" * 16}, "it is for session aa"),
        ({"directory_digest": "aa" * 32}, "it is for directory aa"),
        ({"cohort": ["h001", "h002"]}, "h000 is not in its cohort"),
        ({"cohort": ["h000", "h001", "sybil"]}, "sybil is not in the directory"),
        ({"round": 100_000}, "100001 steps ahead of attempt 1 at place 0, at most 100000"),
        ({"attempt": 99_994}, "100001 steps ahead of attempt 1 at place 0, at most 100000"),
    ],
)
def test_a_spec_that_does_not_fit_the_run_gets_no_masks_and_moves_no_root(
    three: MaskedFleet, changes: dict[str, Any], reason: str
) -> None:
    secrets = three.hospitals[0].secrets
    roots = dict(secrets._roots)
    spec = three.spec(LANES, **{"round": 7} | changes)
    where = f"round {spec.round + 1}, attempt {spec.attempt}"
    with pytest.raises(ProtocolViolation, match=f"{where}: {reason}"):
        secrets.round_secrets(spec)
    assert (secrets.place, secrets._roots) == (0, roots)


def test_the_pair_secrets_of_another_hospital_are_refused(three: MaskedFleet) -> None:
    own, other = three.hospitals[:2]
    with pytest.raises(ProtocolViolation, match="the pair secrets are h001's, not h000's"):
        HospitalRound.begin(
            three.spec(LANES),
            other.secrets,
            identity=own.identity,
            hospital=own.name,
            randomness=own.randomness,
        )
