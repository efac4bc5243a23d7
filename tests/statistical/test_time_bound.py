"""The lower bound on the time to the event: how often it holds, with patients lost from sight."""

import numpy as np
import pytest

from wardround.errors import BadInput
from wardround_client.prediction.time_bound import time_bound

EDGES = (1.0, 2.0, 3.0, 5.0, 8.0)
RUNS = 80
ERROR = 0.1


def drawn(random, patients, lost):
    """Exponential times that depend on x; `lost` is the rate of being lost from sight."""
    x = random.normal(0, 0.7, patients)
    rate = 0.12 * np.exp(x)
    times = random.exponential(1 / rate)
    gone = random.exponential(1 / lost, patients) if lost else np.full(patients, np.inf)
    return x, times, np.minimum(times, gone), times <= gone


def said(x, *, sharp, bias):
    """What a model says until each edge: as sharp as `sharp` times the truth, `bias` times it."""
    rate = bias * 0.12 * np.exp(sharp * x)
    return 1 - np.exp(-rate[:, None] * np.array(EDGES)[None, :])


def coverage(*, sharp=1.0, bias=1.0, lost=0.1, patients=250, honest=True, seed=11):
    """How often the bound held, over many hospitals: of all patients, their true times known."""
    random, held = np.random.default_rng(seed), []
    for _ in range(RUNS):
        x, _, seen, events = drawn(random, patients, lost)
        # Whoever does not know of censoring takes the lost for patients without the event.
        known = seen if honest else np.where(events, seen, EDGES[-1])
        bound = time_bound(known, events, said(x, sharp=sharp, bias=bias), EDGES, error=ERROR)
        x, times, _, _ = drawn(random, 200, lost)
        least = [bound.of(risks) for risks in said(x, sharp=sharp, bias=bias)]
        held.append(np.mean(times >= np.array(least)))
    return float(np.mean(held))


CASES = [(1.0, 1.0, 0.0), (0.3, 2.5, 0.15), (2.0, 0.4, 0.3), (1.0, 1.0, 1.0)]


@pytest.mark.parametrize(("sharp", "bias", "lost"), CASES)
def test_nine_in_ten_patients_are_without_the_event_until_their_bound(sharp, bias, lost):
    """Whatever the model says, and however many are lost from sight: .87 to .95 are the claim."""
    assert 0.87 < coverage(sharp=sharp, bias=bias, lost=lost) < 0.95


def test_who_takes_the_lost_for_survivors_claims_too_much():
    assert coverage(lost=1.0, honest=False) < 0.80


def test_a_bound_is_longer_for_whom_the_model_says_less_risk():
    random = np.random.default_rng(2)
    x, _, seen, events = drawn(random, 400, 0.1)
    bound = time_bound(seen, events, said(x, sharp=1.0, bias=1.0), EDGES, error=ERROR)
    low, high = (bound.of(said(np.array([at]), sharp=1.0, bias=1.0)[0]) for at in (-1.5, 1.5))
    assert high < low <= EDGES[-1]


def test_few_patients_and_short_follow_up_promise_nothing_beyond_themselves():
    random = np.random.default_rng(3)
    x, _, seen, events = drawn(random, 8, 0.0)
    risks = said(x, sharp=1.0, bias=1.0)
    assert time_bound(seen, events, risks, EDGES, error=ERROR) is None
    x, _, seen, events = drawn(random, 300, 0.1)
    cut = np.minimum(seen, 0.5)
    bound = time_bound(cut, events & (seen < 0.5), said(x, sharp=1.0, bias=1.0), EDGES, error=ERROR)
    assert bound.until == 0.5
    assert max(bound.of(risks) for risks in said(x, sharp=1.0, bias=1.0)) <= 0.5
    with pytest.raises(BadInput, match="between 0 and 1"):
        time_bound(cut, events, said(x, sharp=1.0, bias=1.0), EDGES, error=1.0)


def test_without_anybody_lost_the_level_is_the_rank_that_conformal_prediction_takes():
    """Ties aside: the floor(error x (n + 1))-th smallest of the levels."""
    random = np.random.default_rng(4)
    x, _, seen, events = drawn(random, 199, 0.0)
    risks = said(x, sharp=1.0, bias=1.0)
    bound = time_bound(seen, events, risks, EDGES, error=ERROR)
    levels = [np.interp(t, [0, *EDGES], [0, *r]) for t, r in zip(seen, risks, strict=True)]
    early = np.sort([level for level, t in zip(levels, seen, strict=True) if t < EDGES[-1]])
    assert bound.level == pytest.approx(early[int(ERROR * 200) - 1])
