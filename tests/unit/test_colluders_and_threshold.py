"""How many colluders a study may count on: 2t > n + c, or two sums of one attempt can open."""

import functools
import itertools

import pytest
from tests.support.hospitals import study_json

from wardround.errors import BadInput
from wardround.masking.round_spec import Profile, Purpose, threshold_of
from wardround.protocol.specs import honest_in
from wardround.study.files import checked
from wardround.study.manifest import Study

ROSTER = [{"name": f"h{n:02d}", "fingerprint": f"{n:064x}"} for n in range(12)]


@functools.cache
def study(colluders: int, **changes: object) -> Study:
    minimum = max(2, colluders + 1)
    value = study_json(
        roster=ROSTER,
        privacy__mechanism="distributed",
        privacy__colluders=colluders,
        masking__minimum_hospitals=minimum,
        rounds__quorum=minimum,
        **changes,
    )
    return checked(Study, value, what="study")


def two_sets_open(hospitals: int, threshold: int, colluders: int) -> bool:
    """Whether two disjoint groups of honest hospitals can each make a threshold of signers.

    A hospital signs one set for one attempt, a colluder signs both. (PROTOCOL 9.2)
    """
    honest = hospitals - colluders
    needed = max(0, threshold - colluders)
    return 2 * needed <= honest


@pytest.mark.parametrize("hospitals", range(3, 13))
def test_a_study_is_refused_exactly_where_two_sets_of_survivors_could_open(hospitals: int) -> None:
    for colluders in range(hospitals):
        asked = study(colluders)
        minimum = asked.masking.minimum_hospitals
        if hospitals < minimum:
            continue
        threshold = threshold_of(Profile.DOUBLE_MASK, hospitals, minimum)
        if threshold <= colluders or two_sets_open(hospitals, threshold, colluders):
            with pytest.raises(BadInput, match="open two sums of one attempt"):
                honest_in(asked, Purpose.TRAIN, hospitals)
        else:
            assert honest_in(asked, Purpose.TRAIN, hospitals) == threshold - colluders


def test_nine_hospitals_with_five_colluders_are_refused_though_two_honest_shares_are_left() -> None:
    threshold = threshold_of(Profile.DOUBLE_MASK, 9, 6)
    assert threshold - 5 == 2
    with pytest.raises(BadInput, match=r"5 colluders of 9 hospitals .* \(threshold 7\)"):
        honest_in(study(5), Purpose.TRAIN, 9)
    assert honest_in(study(4), Purpose.TRAIN, 9) == 3


def test_with_one_trip_all_but_one_may_collude() -> None:
    one_trip = study(8, masking__profile="one-trip")
    assert honest_in(one_trip, Purpose.TRAIN, 9) == 1


def test_two_thirds_outvote_every_third_of_colluders() -> None:
    for hospitals, colluders in itertools.product(range(2, 101), range(34)):
        if 3 * colluders <= hospitals:
            threshold = threshold_of(Profile.DOUBLE_MASK, hospitals, 2)
            assert not two_sets_open(hospitals, threshold, colluders)
