"""Bit-exact sums against plain integers: 2 to 100 hospitals, every stage, lanes of every width."""

import functools

import pytest
from tests.support.masked_attempts import MaskedAttempt
from tests.support.masked_hospitals import MaskedFleet, fleet

from wardround.errors import QuorumMissed
from wardround.masking.round_spec import Profile, threshold_of

cached_fleet = functools.cache(fleet)
STAGES = ("dropped", "unsigned", "silent")


def begin(hospitals: int, lanes: int, bits: int) -> MaskedAttempt:
    federation: MaskedFleet = cached_fleet(hospitals).renewed()
    return MaskedAttempt(federation, federation.spec(lanes, bits=bits))


def spread(names: tuple[str, ...], many: int) -> list[str]:
    """So many of the names, from the first to the last."""
    return [names[place * (len(names) - 1) // max(1, many - 1)] for place in range(many)]


@pytest.mark.parametrize("bits", [20, 24, 32])
@pytest.mark.parametrize("hospitals", [2, 3, 5, 10, 32])
def test_everybody_answers(hospitals: int, bits: int) -> None:
    attempt = begin(hospitals, 1001, bits)
    assert attempt.run() == attempt.plain(attempt.spec.cohort)
    assert attempt.coordinator.faults == {}


@pytest.mark.parametrize("bits", [20, 24, 32])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("hospitals", [5, 10, 32])
def test_as_many_as_may_go_away_do(hospitals: int, stage: str, bits: int) -> None:
    attempt = begin(hospitals, 301, bits)
    going = spread(attempt.spec.cohort, hospitals - attempt.spec.threshold)
    assert going
    got = attempt.run(**{stage: going})
    stay = set(attempt.spec.cohort) - set(going if stage == "dropped" else ())
    assert got == attempt.plain(sorted(stay))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("hospitals", [2, 3, 5, 10, 32])
def test_with_one_more_the_attempt_is_void(hospitals: int, stage: str) -> None:
    attempt = begin(hospitals, 7, 32)
    going = spread(attempt.spec.cohort, hospitals - attempt.spec.threshold + 1)
    with pytest.raises(
        QuorumMissed, match=rf" of {hospitals} hospitals (uploaded|signed|revealed)"
    ):
        attempt.run(**{stage: going})


@pytest.mark.parametrize("hospitals", [10, 32])
def test_they_go_away_a_few_at_each_stage(hospitals: int) -> None:
    attempt = begin(hospitals, 301, 20)
    going = spread(attempt.spec.cohort, hospitals - attempt.spec.threshold)
    parts = [going[start::3] for start in range(3)]
    assert all(parts)
    got = attempt.run(dropped=parts[0], unsigned=parts[1], silent=parts[2])
    assert got == attempt.plain(sorted(set(attempt.spec.cohort) - set(parts[0])))


def test_one_more_than_the_bound_over_all_stages_is_void() -> None:
    attempt = begin(10, 7, 32)
    names = attempt.spec.cohort
    with pytest.raises(QuorumMissed, match="6 of 10 hospitals revealed, 7 were due"):
        attempt.run(dropped=names[:1], unsigned=names[1:3], silent=names[9:])


@pytest.mark.parametrize(
    ("bits", "gone"),
    [
        pytest.param(20, (33, 0, 0), marks=pytest.mark.slow),
        pytest.param(24, (0, 0, 33), marks=pytest.mark.slow),
        (32, (11, 11, 11)),
    ],
)
def test_a_hundred_hospitals(bits: int, gone: tuple[int, int, int]) -> None:
    assert threshold_of(Profile.DOUBLE_MASK, 100, 2) == 67
    attempt = begin(100, 9, bits)
    going = spread(attempt.spec.cohort, sum(gone))
    ends = (gone[0], gone[0] + gone[1])
    parts = going[: ends[0]], going[ends[0] : ends[1]], going[ends[1] :]
    got = attempt.run(dropped=parts[0], unsigned=parts[1], silent=parts[2])
    assert got == attempt.plain(sorted(set(attempt.spec.cohort) - set(parts[0])))


def test_a_hundred_hospitals_with_34_gone_are_void() -> None:
    attempt = begin(100, 1, 32)
    with pytest.raises(QuorumMissed, match="66 of 100 hospitals uploaded, 67 were due"):
        attempt.run(dropped=attempt.spec.cohort[:34])


@pytest.mark.parametrize("minimum", [5, 6])
def test_a_study_may_ask_for_more_than_two_thirds(minimum: int) -> None:
    federation = cached_fleet(6).renewed()
    attempt = MaskedAttempt(federation, federation.spec(5, minimum=minimum))
    assert attempt.spec.threshold == minimum
    names = attempt.spec.cohort
    assert attempt.run(dropped=names[: 6 - minimum]) == attempt.plain()
    again = MaskedAttempt(federation, federation.spec(5, minimum=minimum, attempt=2))
    with pytest.raises(QuorumMissed):
        again.run(dropped=names[: 7 - minimum])
