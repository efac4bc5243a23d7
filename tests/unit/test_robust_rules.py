"""Rules that combine the means of groups: numpy says the same, each withstands what it should."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform

from wardround.robust.distances import Distances
from wardround.robust.rules import GroupMean, combine, krum, majority_cluster
from wardround.study.robust import Robust, Rule

PLANS = {
    "mean": Robust(groups=7, rule=Rule.MEAN),
    "median": Robust(groups=7, rule=Rule.MEDIAN),
    "trimmed-mean": Robust(groups=7, rule=Rule.TRIMMED_MEAN, trim=2),
    "krum": Robust(groups=7, rule=Rule.KRUM, wrong=2),
    "clustering": Robust(groups=7, rule=Rule.CLUSTERING),
}
ROBUST = sorted(set(PLANS) - {"mean"})


def means_of(values, weights=None):
    weights = weights or [1] * len(values)
    return [
        GroupMean(transcript=f"{at:02d}", values=np.asarray(value, np.float32), weight=weight)
        for at, (value, weight) in enumerate(zip(values, weights, strict=True))
    ]


def combined(rule, values, weights=None):
    groups = means_of(values, weights)
    return combine(PLANS[rule], groups, Distances.of([group.values for group in groups]))


def drawn(seed, groups=7, parameters=30, spread=0.1):
    random = np.random.default_rng(seed)
    truth = random.normal(size=parameters)
    return truth, truth + spread * random.normal(size=(groups, parameters))


def test_mean_median_and_trimmed_mean_are_those_of_numpy_and_scipy():
    weights = [3, 4, 3, 3, 4, 3, 3]
    for seed in range(5):
        # More columns than one block.
        _, values = drawn(seed, parameters=70_000)
        values = values.astype(np.float32)
        np.testing.assert_allclose(
            combined("mean", values, weights),
            np.average(values, axis=0, weights=weights),
            rtol=1e-5,
        )
        np.testing.assert_allclose(combined("median", values), np.median(values, axis=0))
        due = stats.trim_mean(values.astype(np.float64), 2.01 / 7, axis=0)
        np.testing.assert_allclose(combined("trimmed-mean", values), due, rtol=1e-5, atol=1e-6)


def test_krum_takes_the_group_that_the_definition_says():
    for seed in range(20):
        _, values = drawn(seed)
        squares = squareform(pdist(values.astype(np.float32).astype(np.float64), "sqeuclidean"))
        scores = [np.sort(row)[1 : 1 + 7 - 2 - 2].sum() for row in squares]
        distances = Distances.of(list(values.astype(np.float32)))
        assert krum(distances, wrong=2) == int(np.argmin(scores))
        chosen = combined("krum", values)
        np.testing.assert_array_equal(chosen, values[np.argmin(scores)].astype(np.float32))


def test_the_majority_cluster_is_the_first_of_single_linkage_by_cosine():
    for seed in range(40):
        _, values = drawn(seed, spread=1.0)
        values = values.astype(np.float32)
        wide = values.astype(np.float64)
        linked = linkage(pdist(wide, "cosine"), "single")
        first = next(row for row in linked if 2 * row[3] > 7)
        of = fcluster(linked, first[2], "distance")
        inside = tuple(np.flatnonzero(of == np.bincount(of).argmax()))
        assert majority_cluster(Distances.of(list(values))) == inside
        norms = np.linalg.norm(wide, axis=1)
        cut = wide * np.minimum(1.0, np.median(norms) / norms)[:, None]
        due = cut[list(inside)].mean(axis=0)
        np.testing.assert_allclose(combined("clustering", values), due, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("rule", sorted(PLANS))
@given(st.permutations(range(7)), st.integers(0, 1000))
@settings(max_examples=30)
def test_the_order_of_the_groups_changes_nothing(rule, order, seed):
    _, values = drawn(seed)
    np.testing.assert_allclose(
        combined(rule, values), combined(rule, values[list(order)]), rtol=1e-6, atol=1e-7
    )


GARBAGE = {
    "large": lambda truth, random: 1e6 * random.normal(size=truth.size),
    "flipped": lambda truth, _: -20.0 * truth,
    "random": lambda truth, random: 3.0 * random.normal(size=truth.size),
}


@pytest.mark.parametrize("garbage", sorted(GARBAGE))
@pytest.mark.parametrize("rule", ROBUST)
def test_two_wrong_groups_of_seven_move_a_robust_rule_by_less_than_the_honest_ones_differ(
    rule, garbage
):
    for seed in range(10):
        truth, values = drawn(seed)
        random = np.random.default_rng(seed + 100)
        for at in (1, 4):
            values[at] = GARBAGE[garbage](truth, random)
        error = np.linalg.norm(combined(rule, values) - truth)
        spread = max(np.linalg.norm(values[at] - truth) for at in (0, 2, 3, 5, 6))
        assert error <= spread
        assert np.linalg.norm(combined("mean", values) - truth) > 2 * spread


@pytest.mark.parametrize(
    ("rule", "most"), [("median", 3), ("trimmed-mean", 2), ("krum", 2), ("clustering", 3)]
)
def test_beyond_its_breakdown_point_a_rule_is_lost_and_up_to_it_not(rule, most):
    """The wrong groups agree with each other: the strongest they can do."""
    truth, values = drawn(7)
    far = -1e5 * truth
    values[:most] = far
    assert np.linalg.norm(combined(rule, values) - truth) < 1.0
    values[: most + 1] = far
    lost = np.linalg.norm(combined(rule, values) - truth) > 1e4
    # krum is promised to withstand two: with three wrong of seven its closest two may be wrong.
    assert lost or rule == "krum"
    values[:5] = far
    assert np.linalg.norm(combined(rule, values) - truth) > 1e4


def test_a_rule_with_fewer_groups_than_planned_leaves_out_fewer():
    _, values = drawn(3, groups=3)
    np.testing.assert_allclose(
        combined("trimmed-mean", values), np.median(values, axis=0), rtol=1e-6
    )
    assert krum(Distances.of(list(values.astype(np.float32))), wrong=2) in range(3)


def test_a_mean_of_zero_has_a_cosine_of_zero_and_one_group_is_its_own_result():
    zero = np.zeros(4, np.float32)
    distances = Distances.of([zero, np.ones(4, np.float32)])
    assert distances.cosine.tolist() == [[0.0, 0.0], [0.0, pytest.approx(1.0)]]
    assert distances.l2[0, 1] == pytest.approx(2.0)
    with pytest.raises(ValueError, match="some of one shape"):
        combine(PLANS["mean"], means_of([zero, np.ones(3)]), distances)


@pytest.mark.parametrize("groups", [3, 4, 5, 8])
def test_one_group_far_off_is_flagged_and_no_honest_one_beside_it(groups):
    for seed in range(20):
        truth, values = drawn(seed, groups=groups)
        assert len(Distances.of(list(values.astype(np.float32))).far_off(1.5)) <= 1
        values[seed % groups] = -2.0 * truth
        flagged = Distances.of(list(values.astype(np.float32))).far_off(1.5)
        assert flagged == (seed % groups,)


def test_groups_that_are_all_alike_are_not_flagged():
    same = [np.ones(5, np.float32)] * 4
    assert Distances.of(same).far_off(1.5) == ()
    assert Distances.of([*same, np.zeros(5, np.float32)]).far_off(1.5) == (4,)
