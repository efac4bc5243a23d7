"""Noise for an epsilon, rounds for a budget: to three digits, and with few convolutions."""

import pytest

from wardround.errors import BadInput
from wardround.privacy import accounting
from wardround.privacy.accounting import epsilon_spent, noise_for
from wardround.privacy.calibration import repeated, round_numbers, rounds_that_keep
from wardround.privacy.mechanism import MOST_STEPS, SampledGaussian
from wardround.privacy.search import least_that_keeps, most_that_keeps

DELTA = 1e-5
ROUND = SampledGaussian(3.0, 0.1, 5)


@pytest.mark.parametrize("epsilon", [0.02, 8.0])
def test_calibration_keeps_epsilon_to_three_digits_with_few_evaluations(monkeypatch, epsilon):
    asked = []
    real = accounting.epsilon_spent

    def counted(releases, *, delta):
        asked.append(1)
        return real(releases, delta=delta)

    monkeypatch.setattr(accounting, "epsilon_spent", counted)
    noise_for.cache_clear()
    noise = noise_for(epsilon, delta=DELTA, sampling_rate=0.1, steps=600)
    assert 0.999 * epsilon < real([SampledGaussian(noise, 0.1, 600)], delta=DELTA) <= epsilon
    assert len(asked) <= 8


def spending(*spent):
    """Epsilon after so many more rounds, on top of what was spent."""
    return lambda rounds: epsilon_spent([*spent, *repeated(ROUND, rounds)], delta=DELTA)


def test_the_rounds_that_a_budget_buys_fit_and_one_more_does_not():
    after = spending(SampledGaussian(4.0, 0.2, 30), SampledGaussian(8.0, 1.0, 1))
    rounds = rounds_that_keep(after, 2.0)
    assert rounds > 10
    assert after(rounds) <= 2.0 < after(rounds + 1)
    assert rounds_that_keep(spending(), 2.0) > rounds


def test_a_spent_budget_buys_no_round_and_an_endless_one_the_most():
    assert rounds_that_keep(spending(*[ROUND] * 99), 0.5) == 0
    assert rounds_that_keep(spending(), 100.0, most=7) == 7
    with pytest.raises(BadInput, match="epsilon"):
        rounds_that_keep(spending(), 0.0)


def test_repeated_rounds_are_as_many_and_cut_as_often_as_single_ones():
    release = SampledGaussian(9.0, 0.1, MOST_STEPS // 3, truncation=1e-20)
    parts = repeated(release, 10)
    assert sum(part.steps for part in parts) == 10 * release.steps
    assert {part.truncation for part in parts} == {1e-20}
    assert repeated(release, 0) == []


def test_round_numbers_are_round_and_hold_those_asked_for():
    assert round_numbers(120, 33) == [1, 2, 5, 10, 20, 33, 50, 100, 120]
    assert round_numbers(0, 0) == []


@pytest.mark.parametrize("due", [1, 2, 3, 50, 999, 1000])
@pytest.mark.parametrize("guess", [1, 40, 1000])
def test_the_search_finds_a_crossing_wherever_it_lies_and_where_there_is_none(due, guess):
    def jumps(place):
        return 0.0 if place >= due else float("inf")

    assert least_that_keeps(jumps, 1.0, least=1, most=1000, guess=guess) == due
    assert least_that_keeps(jumps, 1.0, least=1, most=due - 1, guess=guess) is None or due == 1
    assert most_that_keeps(lambda n: n**0.5, (due + 0.5) ** 0.5, most=10**6, guess=guess) == due
