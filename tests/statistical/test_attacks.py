"""Error rates of the attack tests by simulation, and the trainings that they have to tell apart."""

import numpy as np
import pytest
from scipy import stats
from tests.support.attacked_study import (
    attacked_study,
    of_two_groups,
    released,
    remembering_mlp,
    seeded,
)

from wardround.models.networks import build
from wardround.privacy.attack_bounds import (
    LEAST_POWER,
    NO_LEAK,
    advantage,
    clopper_pearson,
    naming_rule,
    operating_point,
)
from wardround.privacy.mechanism import SampledGaussian
from wardround.privacy.trade_off import trade_off
from wardround.privacy.verdict import Verdict
from wardround_client.attacks.at_hospital import attack, bounds_of
from wardround_client.attacks.messages import Sender
from wardround_client.attacks.reconstruction import read_messages
from wardround_client.attacks.shadows import trained_alone

ALPHA, REPEATS = 0.05, 2000
# Without a claim twelve patients are enough to see a perfect leak, but one side alone never is.
TOO_FEW = [(attacked_study, 6, 6), (remembering_mlp, 6, 0), (remembering_mlp, 0, 6)]


def patients(count, shift, draw):
    """Who is in by a fair coin, and scores that tell it by a Gaussian shift."""
    members = draw.random(count) < 0.5
    return members, draw.normal(size=count) + shift * members


def at_most(hits, share):
    """Whether so many hits of REPEATS fit a probability of `share` or less."""
    return stats.binomtest(hits, REPEATS, share, alternative="greater").pvalue > 1e-3


def test_intervals_of_a_proportion_cover_it_and_narrower_ones_do_not():
    draw = np.random.default_rng(0)
    for share in (0.01, 0.1, 0.5):
        counts, times = np.unique(draw.binomial(60, share, REPEATS), return_counts=True)
        missed = sum(
            int(n)
            for count, n in zip(counts, times, strict=True)
            if not _covers(count, share, alpha=ALPHA)
        )
        assert at_most(missed, ALPHA)
    narrow = sum(not _covers(count, 0.5, alpha=0.2) for count in draw.binomial(60, 0.5, REPEATS))
    assert not at_most(narrow, ALPHA)


def _covers(count, share, *, alpha):
    low, high = clopper_pearson(int(count), 60, alpha=alpha)
    return low <= share <= high


def test_the_rate_behind_a_threshold_chosen_by_the_same_scores_is_covered():
    draw = np.random.default_rng(1)
    missed, naive = 0, 0
    for _ in range(REPEATS):
        others = draw.random(100)
        point = operating_point(np.ones(1), others, NO_LEAK, rate=0.1, alpha=2 * ALPHA)
        behind = 1.0 - np.sort(others)[100 - 1 - 10]
        missed += behind > point.false_positive_high
        naive += behind > point.false_positives / 100
    assert at_most(missed, ALPHA)
    assert not at_most(naive, ALPHA)


@pytest.mark.parametrize("shift", [0.5, 1.0])
def test_an_attack_that_uses_the_whole_claim_is_no_violation_more_often_than_alpha(shift):
    claim = trade_off(SampledGaussian(1 / shift, 1.0, 1))
    rule = naming_rule(120, claim, alpha=ALPHA)
    draw = np.random.default_rng(2)
    named = points = low = 0
    for _ in range(REPEATS):
        members, scores = patients(120, shift, draw)
        named += rule.right(scores, members) >= rule.critical
        inside, outside = scores[members], scores[~members]
        points += operating_point(inside, outside, claim, rate=0.1, alpha=ALPHA).violates
        true = 2 * stats.norm.cdf(shift / 2) - 1
        low += advantage(inside, outside, alpha=ALPHA).low > true
    assert all(at_most(hits, ALPHA) for hits in (named, points, low))


def test_a_leak_against_no_claim_is_found_as_often_as_the_power_says():
    rule = naming_rule(200, NO_LEAK, alpha=ALPHA)
    draw = np.random.default_rng(3)

    def found(shift):
        drawn = (patients(200, shift, draw) for _ in range(REPEATS))
        return sum(rule.right(scores, members) >= rule.critical for members, scores in drawn)

    assert found(rule.unseen_shift) / REPEATS == pytest.approx(LEAST_POWER, abs=0.03)
    assert found(0.8 * rule.unseen_shift) / REPEATS < LEAST_POWER - 0.06
    assert at_most(found(0.0), ALPHA)


def test_an_mlp_that_remembers_its_patients_is_a_violation():
    study, records = remembering_mlp(), of_two_groups(60, 60)
    leaky = trained_alone(study, records.train, seeded(1))
    outcome = attack(study, "lakeside", records, released(leaky), shadow_models=2, trials=20)
    assert outcome.verdict is Verdict.VIOLATION
    assert {test.attack: test.verdict for test in outcome.membership} == {
        "loss threshold": Verdict.VIOLATION,
        "likelihood ratio": Verdict.VIOLATION,
        "reconstruction": Verdict.VIOLATION,
    }


def test_an_engine_that_skips_its_noise_is_a_violation_and_one_that_adds_it_passes():
    claims = {"privacy__mechanism": "local", "privacy__epsilon": 1.0, "privacy__delta": 1e-4}
    honest = remembering_mlp(**claims, privacy__clip_norm_l2=1.0)
    records = of_two_groups(60, 60)
    skipping = trained_alone(remembering_mlp(), records.train, seeded(1))
    noised = trained_alone(honest, records.train, seeded(1))
    verdicts = [
        attack(
            honest,
            "lakeside",
            records,
            released(network),
            shadow_models=0,
            trials=20,
            randomness=seeded(2),
        ).verdict
        for network in (skipping, noised)
    ]
    assert verdicts == [Verdict.VIOLATION, Verdict.PASS]


@pytest.mark.parametrize(("study_of", "train", "held_out"), TOO_FEW)
def test_too_few_patients_are_inconclusive(study_of, train, held_out):
    study, records = study_of(), of_two_groups(train, held_out)
    model = released(build(study))
    outcome = attack(study, "lakeside", records, model, shadow_models=0, trials=4)
    assert {test.verdict for test in outcome.membership} == {Verdict.INCONCLUSIVE}
    assert outcome.verdict is Verdict.INCONCLUSIVE


def readings(study, *, trials, seed=0):
    bounds = bounds_of(study, shadow_models=0)
    found = read_messages(
        Sender(study, "lakeside", seeded(seed)),
        of_two_groups(40, 0).train,
        claims={"raw": None, "noised": bounds.message, "masked": NO_LEAK},
        alpha=bounds.alpha_of_reading,
        randomness=seeded(seed + 1),
        trials=trials,
    )
    return {reading.stage: reading for reading in found}


@pytest.mark.parametrize("mechanism", ["local", "distributed"])
def test_a_record_is_read_off_a_raw_message_and_not_off_a_noised_or_masked_one(mechanism):
    study = attacked_study(privacy__mechanism=mechanism, privacy__epsilon=1.0)
    found = readings(study, trials=60)
    raw, noised, masked = (found[stage] for stage in ("raw", "noised", "masked"))
    assert raw.right == raw.trials
    assert raw.relative_error < 1e-5
    assert raw.correlation > 0.999
    for reading in (noised, masked):
        assert reading.verdict is Verdict.PASS
        assert reading.relative_error > 0.5
    assert abs(masked.correlation) < 3 * masked.correlation_error < 0.1


def test_noise_that_is_left_out_is_seen_in_the_noised_message(monkeypatch):
    """The positive control of the test above: the same readings, of an engine without its noise."""
    study = attacked_study(privacy__epsilon=1.0, privacy__sampling_rate=0.9)
    monkeypatch.setattr(
        "wardround_client.training.stages.gaussian",
        lambda count, **_: np.zeros(count),
    )
    found = readings(study, trials=40)
    assert found["noised"].verdict is Verdict.VIOLATION
    assert found["masked"].verdict is Verdict.PASS


def test_patients_who_look_the_same_are_not_told_from_a_masked_message():
    """Ties must not go to the patient who is looked for."""
    study = attacked_study()
    twins = of_two_groups(1, 0).train
    alike = type(twins)(
        features=twins.features.repeat(20, 1), labels=twins.labels.repeat(20), offsets=np.arange(21)
    )
    found = read_messages(
        Sender(study, "lakeside", seeded(0)),
        alike,
        claims={"raw": None, "noised": NO_LEAK, "masked": NO_LEAK},
        alpha=0.01,
        randomness=seeded(1),
        trials=20,
    )
    assert [reading.right for reading in found] == [0, 0, 0]
    assert [reading.verdict for reading in found] == [None, *[Verdict.INCONCLUSIVE] * 2]
