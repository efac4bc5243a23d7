"""Who is behind flagged groups: nobody honest is accused, whoever sends garbage is."""

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from wardround.masking.partition import partition_of
from wardround.masking.round_spec import Purpose
from wardround.robust.distances import Distances
from wardround.robust.suspicion import (
    SUSPECTED_BELOW,
    GroupedRound,
    _tested,
    suspected_of,
    tail_probability,
)

TWELVE = tuple(f"h{number:02d}" for number in range(12))
BAD = "h03"


def history(seed, *, rounds=12, spoil=None, spread=0.3, unlike=0.3, parameters=50):
    """Updates around a common one; every hospital is unlike the others in its own way."""
    random = np.random.default_rng(seed)
    own = unlike * random.normal(size=(12, parameters)) / np.sqrt(parameters)
    found = []
    for number in range(rounds):
        common = random.normal(size=parameters) / np.sqrt(parameters)
        noise = spread * random.normal(size=(12, parameters)) / np.sqrt(parameters)
        updates = dict(zip(TWELVE, common + own + noise, strict=True))
        if spoil is not None:
            updates[BAD] = spoil(updates[BAD], random)
        groups = partition_of(
            TWELVE,
            4,
            directory_digest=f"{seed:064x}",
            purpose=Purpose.TRAIN,
            round_number=number,
            attempt=1,
        )
        means = [
            np.mean([updates[n] for n in group], axis=0).astype(np.float32) for group in groups
        ]
        found.append(
            GroupedRound(
                groups,
                frozenset(Distances.of([mean.astype(np.float32) for mean in means]).far_off(1.5)),
            )
        )
    return found


def test_nobody_is_accused_in_200_honest_runs():
    for seed in range(200):
        assert suspected_of(history(seed, parameters=8), TWELVE) == ()


def test_flags_that_fall_blindly_give_small_p_values_as_seldom_as_they_say():
    """Exact: below any level with at most that probability. Chances cut by a third would show."""
    random = np.random.default_rng(5)
    right, wrong = [], []
    for seed in range(600):
        rounds = [
            GroupedRound(each.groups, frozenset(np.flatnonzero(random.random(4) < 0.3).tolist()))
            for each in history(seed, rounds=20, parameters=2)
        ]
        found = _tested(rounds, BAD, 1)
        right.append(found.p_value)
        chances = [2 / 3 * each.chance for each in rounds]
        wrong.append(tail_probability(chances, found.flagged))
    for level in (0.01, 0.05, 0.2):
        below = sum(p <= level for p in right)
        assert stats.binomtest(below, 600, level, alternative="greater").pvalue > 0.01
    below = sum(p <= 0.05 for p in wrong)
    assert stats.binomtest(below, 600, 0.05, alternative="greater").pvalue < 1e-6


@pytest.mark.parametrize(
    "spoil",
    [
        lambda update, _: 1000.0 * update,
        lambda update, _: -3.0 * update,
        lambda update, random: 3.0 * random.normal(size=update.size) / np.sqrt(update.size),
    ],
    ids=["large", "flipped", "random"],
)
def test_a_hospital_that_sends_garbage_is_named_and_no_other(spoil):
    for seed in range(20):
        (found,) = suspected_of(history(seed, spoil=spoil), TWELVE)
        assert found.hospital == BAD
        assert found.p_value < SUSPECTED_BELOW
        assert found.flagged >= 9
        assert f"{found.flagged} of 12 rounds" in found.in_words()


def flipped(update, _):
    return -1e3 * update


def test_six_rounds_are_too_few_and_seven_enough_when_one_of_four_groups_is_flagged():
    for rounds, named in ((6, ()), (7, (BAD,))):
        found = suspected_of(
            history(1, rounds=rounds, spoil=lambda update, _: -1e3 * update), TWELVE
        )
        assert tuple(each.hospital for each in found) == named


def test_the_tail_is_that_of_a_binomial_where_all_chances_are_the_same():
    for least in range(8):
        due = stats.binom.sf(least - 1, 7, 0.3)
        assert tail_probability([0.3] * 7, least) == pytest.approx(due, rel=1e-12)
    coins = [0.1, 0.5, 0.9]
    random = np.random.default_rng(2)
    seen = Counter((random.random((20_000, 3)) < coins).sum(axis=1).tolist())
    for least in range(4):
        share = sum(count for k, count in seen.items() if k >= least) / 20_000
        assert tail_probability(coins, least) == pytest.approx(share, abs=0.015)


def test_a_hospital_that_was_in_no_sum_is_not_tested():
    rounds = [GroupedRound((("a", "b", "c"), ("d", "e", "f")), frozenset({0}))] * 30
    found = {each.hospital: each for each in suspected_of(rounds, ("a", "b", "g"))}
    assert "g" not in found
    assert set(found) == {"a", "b"}
    assert _tested(rounds, "g", 3).p_value == 1.0
