"""A round that is not well formed, or not this run's, gets no masks; none is given twice."""

from typing import Any

import pytest
from tests.support.masked_hospitals import RUN, SESSION, MaskedFleet, constant_lanes, fleet

from wardround.errors import ProtocolViolation
from wardround.masking.directory import Directory
from wardround.masking.round_spec import RoundSpec
from wardround.masking.run_key import SignedRunKey
from wardround.masking.update import mask

LANES = 6


@pytest.fixture
def three() -> MaskedFleet:
    return fleet(3)


def directory_of(entries: list[SignedRunKey], federation: MaskedFleet) -> Directory:
    return Directory.checked(
        entries, run=RUN, session=SESSION, identity_keys=federation.identity_keys
    )


# --- the spec -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"purpose": "probe"}, "purpose is not one of statistics, train, evaluate"),
        ({"purpose": None}, "purpose is not one of"),
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
    with pytest.raises(ProtocolViolation, match=r"3 hospitals x limit 715827883 = .* overflows"):
        three.spec(LANES, limit=edge + 1)


def test_a_spec_with_a_field_more_or_less_is_refused(three: MaskedFleet) -> None:
    value = three.spec(LANES).to_json()
    with pytest.raises(ProtocolViolation, match="round spec: unknown threshold"):
        RoundSpec.from_json(value | {"threshold": 1})
    del value["minimum"]
    with pytest.raises(ProtocolViolation, match="round spec: missing minimum"):
        RoundSpec.from_json(value)
    with pytest.raises(ProtocolViolation, match="round spec: an object was due, a list came"):
        RoundSpec.from_json([])


# --- masks are given once -----------------------------------------------------------------------


def test_masks_are_never_given_twice_for_one_transcript(three: MaskedFleet) -> None:
    own, spec = three.hospitals[0], three.spec(LANES)
    own.secrets.round_masks(spec)
    with pytest.raises(ProtocolViolation, match="round 1, attempt 1: masks were given out already"):
        own.secrets.round_masks(spec)


def test_masks_never_hide_two_updates(three: MaskedFleet) -> None:
    own, spec = three.hospitals[0], three.spec(LANES)
    masks = own.secrets.round_masks(spec)
    mask(constant_lanes(LANES), spec, masks, identity=own.identity, hospital=own.name)
    with pytest.raises(ProtocolViolation, match=r"masks of h000 for transcript \w{64}: used"):
        mask(constant_lanes(LANES), spec, masks, identity=own.identity, hospital=own.name)


def test_forgotten_secrets_give_no_masks(three: MaskedFleet) -> None:
    own = three.hospitals[0]
    own.secrets.forget()
    with pytest.raises(ProtocolViolation, match="are forgotten"):
        own.secrets.round_masks(three.spec(LANES))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"run": "aa" * 16}, "it is for run aa"),
        ({"session": "aa" * 16}, "it is for session aa"),
        ({"directory_digest": "aa" * 32}, "it is for directory aa"),
        ({"cohort": ["h001", "h002"]}, "h000 is not in its cohort"),
        ({"cohort": ["h000", "h001", "sybil"]}, "sybil is not in the directory"),
    ],
)
def test_a_spec_that_does_not_fit_the_run_gets_no_masks(
    three: MaskedFleet, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ProtocolViolation, match=f"round 1, attempt 1: {reason}"):
        three.hospitals[0].secrets.round_masks(three.spec(LANES, **changes))
