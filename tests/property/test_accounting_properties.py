"""More noise, rarer samples, fewer steps never cost more; the extremes never end in an error."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.privacy.accounting import epsilon_by_rdp, epsilon_spent
from wardround.privacy.mechanism import SampledGaussian

DELTA = 1e-5
# A schedule that costs more may be computed on a finer grid: it is off by less than that.
GRIDS_DIFFER = 1.003

releases = st.builds(
    SampledGaussian,
    st.floats(1.0, 20.0),
    st.one_of(st.floats(0.005, 0.5), st.just(1.0)),
    st.integers(1, 30),
    st.sampled_from([0.0, 1e-13]),
)


@settings(max_examples=8, deadline=None)
@given(releases, st.floats(1.01, 3.0))
def test_less_privacy_in_any_respect_never_costs_less(release, factor):
    spent = epsilon_spent([release], delta=DELTA)
    noise, rate, steps, cut = (
        release.noise_multiplier,
        release.sampling_rate,
        release.steps,
        release.truncation,
    )
    for worse in (
        SampledGaussian(noise / factor, rate, steps, cut),
        SampledGaussian(noise, min(1.0, rate * factor), steps, cut),
        SampledGaussian(noise, rate, steps + 1, cut),
        SampledGaussian(noise, rate, steps, cut + 1e-12),
    ):
        assert epsilon_spent([worse], delta=DELTA) * GRIDS_DIFFER + 1e-9 >= spent
    assert epsilon_spent([release], delta=DELTA / factor) >= spent


@settings(max_examples=6, deadline=None)
@given(st.lists(releases, min_size=2, max_size=4))
def test_a_part_never_costs_more_than_the_whole(several):
    whole = epsilon_spent(several, delta=DELTA)
    assert epsilon_spent(several[1:], delta=DELTA) <= whole * GRIDS_DIFFER + 1e-9
    assert epsilon_spent(several[::-1], delta=DELTA) == whole
    assert whole <= epsilon_by_rdp(several, delta=DELTA) + 1e-9


def powers(least, most):
    return st.floats(least, most).map(lambda exponent: 10.0**exponent)


@settings(max_examples=25, deadline=None)
@given(
    st.one_of(st.sampled_from([5e-324, 1e-160, 1e-3, 1.7e308]), powers(-1.0, 9.0)),
    st.one_of(st.sampled_from([5e-324, 1e-12, 1 - 1e-12, 1.0]), powers(-9.0, 0.0)),
    st.sampled_from([1, 1000, 10**6, 10**9]),
    st.sampled_from([1e-300, 1e-5, 0.9]),
)
def test_an_extreme_costs_an_upper_bound_and_never_an_error(noise, rate, steps, delta):
    release = SampledGaussian(noise, rate, steps)
    spent = epsilon_spent([release], delta=delta)
    assert 0.0 <= spent <= epsilon_by_rdp([release], delta=delta)
    # Whoever takes part shows with probability q: nothing below that holds for little noise.
    if noise < 0.01 and rate * 0.99 > delta:
        assert spent > 100.0 or math.isinf(spent)
