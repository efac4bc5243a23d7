"""Noise in the sum, over the real path: hospitals in memory, masks, ledgers, opened sums."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2
from tests.support.hospitals import LANES, NAMES, Ward
from tests.support.masked_attempts import MaskedAttempt
from tests.support.masked_hospitals import fleet, seeded
from tests.support.memory_runs import Federation, PlainLanes, in_round, unsigned, when

from wardround.errors import BadInput, QuorumMissed, Refused
from wardround.masking.quantise import quantise
from wardround.masking.round_spec import Profile, threshold_of
from wardround.privacy.engine import DistributedEngine, parse_engine
from wardround.privacy.mechanism import SampledGaussian
from wardround.privacy.noise_shares import StepScale, noise_share
from wardround.protocol.envelope import unseal
from wardround.protocol.messages import Open, Refusal, RefusalCode
from wardround.protocol.specs import training_share
from wardround_client.training.stages import ClippedLanes, add_share

HARBOUR, _, NORTHSIDE = NAMES
DISTRIBUTED = {"privacy__mechanism": "distributed"}
SHARE_LANES = 40_000
# A hospital whose answers count for nothing from the first round on.
LOST = when(in_round(0), unsigned)


@pytest.fixture
def ward(tmp_path):
    ward = Ward.make(tmp_path)
    yield ward
    ward.close()


def engines(federation, name):
    """What a hospital logged of its training, release by release."""
    return [
        parse_engine(body["engine"])
        for kind, body in federation.ward[name].log_entries(federation.study)
        if kind == "release-sent" and body["engine"]["mechanism"] == "distributed"
    ]


def releases(federation, name):
    return federation.ward[name].hospital.sessions["ab" * 16].ledger.releases()


def test_a_run_with_noise_in_the_sum_ends_with_a_model_and_every_share_in_the_logs(ward):
    federation = Federation(ward, **DISTRIBUTED)
    model, _ = federation.run().train_and_evaluate()
    assert np.isfinite(model).all()
    assert np.abs(model).max() > 0
    due = training_share(federation.study, 3, 3)
    for name in NAMES:
        done = engines(federation, name)
        assert len(done) == federation.study.rounds.count
        assert all(isinstance(engine, DistributedEngine) for engine in done)
        assert {(e.share_variance, e.sensitivity_lanes, e.honest) for e in done} == {
            (due.variance, due.sensitivity_lanes, 2)
        }


def test_each_upload_is_charged_the_noise_of_the_sum_and_no_share_alone(ward):
    federation = Federation(ward, rounds__count=2, **DISTRIBUTED)
    federation.run().train_and_evaluate()
    trained = [r for r in releases(federation, HARBOUR) if r.purpose.value == "train"]
    planned = federation.study.release_of_one_attempt()
    assert isinstance(planned, SampledGaussian)
    assert planned.steps == 1
    assert [release.charged for release in trained] == [planned, planned]


@pytest.mark.parametrize("profile", ["double-mask", "one-trip"])
def test_a_hospital_that_is_lost_voids_the_attempt_and_the_others_add_larger_shares(ward, profile):
    """With one trip all of a cohort are due, and of three with double masks as well."""
    federation = Federation(ward, LOST, masking__profile=profile, **DISTRIBUTED)
    federation.run().train_and_evaluate()
    (void,) = federation.entries("attempt-void")
    assert NORTHSIDE in void["reason"]
    first, again, *_ = engines(federation, HARBOUR)
    assert (first.honest, again.honest) == (2, 1)
    scales = [entry["spec"]["scale"] for entry in federation.entries("round-opened")][:2]
    per_hospital = [
        math.sqrt(engine.share_variance) / scale
        for engine, scale in zip((first, again), scales, strict=True)
    ]
    # In the model's own units one honest share has to be what two were together.
    assert per_hospital[1] / per_hospital[0] == pytest.approx(math.sqrt(2), rel=1e-4)
    trained = [r for r in releases(federation, HARBOUR) if r.purpose.value == "train"]
    assert len(trained) == 1 + federation.study.rounds.count


@pytest.mark.parametrize("profile", ["double-mask", "one-trip"])
def test_an_attempt_anew_has_a_fresh_sample_and_fresh_noise(ward, monkeypatch, profile):
    plain = PlainLanes(monkeypatch)
    federation = Federation(ward, LOST, masking__profile=profile, **DISTRIBUTED)
    federation.run().train_and_evaluate()
    specs = {b["transcript"]: b["spec"] for b in federation.entries("round-opened")}
    first, again = list(specs)[:2]
    assert [specs[t]["profile"] for t in (first, again)] == [profile] * 2
    rows = [
        lanes / float(specs[transcript]["scale"])
        for transcript in (first, again)
        for lanes in plain.lanes[transcript].values()
    ]
    assert len({tuple(row.round(6)) for row in rows}) == 5  # three hospitals, two of them again
    assert plain.check(federation) == federation.study.rounds.count + 1


def test_too_many_colluders_for_the_cohort_is_no_study(ward):
    with pytest.raises(BadInput, match=r"privacy\.colluders 2 of masking\.minimum_hospitals 2"):
        ward.study(**DISTRIBUTED, privacy__colluders=2)


def test_below_the_quorum_no_sum_with_noise_is_asked_for(ward):
    whole = {"masking__minimum_hospitals": 3, "rounds__quorum": 3}
    federation = Federation(ward, LOST, **DISTRIBUTED, **whole)
    with pytest.raises(QuorumMissed):
        federation.run().train_and_evaluate()
    assert len(engines(federation, HARBOUR)) == 1


def test_a_spec_scaled_for_a_larger_cohort_is_refused_before_anything_is_charged(ward):
    talk = ward.talk(**DISTRIBUTED).open()
    spec = talk.spec()
    other = replace(spec, scale=spec.scale / 2.0)
    answer, vector = talk.ward[HARBOUR].ask(talk.work(other), talk.model)
    assert isinstance(answer, Refusal)
    assert (answer.code, vector) == (RefusalCode.SPEC, None)
    assert not talk.ward[HARBOUR].hospital.sessions["ab" * 16].ledger.releases()


def test_a_policy_without_noise_in_the_sum_refuses_the_study_when_it_opens(ward):
    talk = ward.talk(**DISTRIBUTED)
    ward[HARBOUR].set_policy(mechanisms='["local"]')
    answer, _ = ward[HARBOUR].ask(talk.open_message())
    assert isinstance(answer, Refusal)
    assert answer.code is RefusalCode.POLICY


def test_a_hospital_with_more_patients_than_the_study_counts_on_does_not_join(ward):
    refused = {}

    def reply(name, question, answer):
        body, _ = unseal(question, lanes=LANES)
        said, _ = unseal(answer, lanes=LANES)
        if isinstance(body, Open) and isinstance(said, Refusal):
            refused[name] = said.code
        return answer

    sizes = {"privacy__patients_most": 20, "privacy__batch_most": 20}
    federation = Federation(ward, reply, **DISTRIBUTED, **sizes)
    with pytest.raises(Refused, match="0 hospitals joined"):
        federation.run().train_and_evaluate()
    assert set(refused.values()) == {RefusalCode.DATA}


def opened_noise(*, variance=None, dropped=()):
    """What is left of an opened sum when the vectors of the survivors are taken off it."""
    hospitals = fleet(4)
    step = StepScale(learning_rate=0.5, clip_norm_l2=1.0, expected_batch=64.0)
    honest = threshold_of(Profile.DOUBLE_MASK, 4, 2) - 1  # one colludes
    share = noise_share(1.3, step, most_change=64.0, hospitals=4, honest=honest, lanes=SHARE_LANES)
    spec = hospitals.spec(SHARE_LANES, scale=share.scale, limit=share.limit)
    plain, noised = {}, {}
    for number, name in enumerate(hospitals.names):
        real = np.random.default_rng(number).normal(scale=0.01, size=SHARE_LANES)
        plain[name] = quantise(real, scale=share.scale, limit=share.limit)
        clipped = ClippedLanes(
            values=plain[name], sensitivity_lanes=share.sensitivity_lanes, limit=share.limit
        )
        noised[name] = add_share(
            clipped,
            share_variance=variance or share.variance,
            randomness=seeded(f"share/{name}"),
        ).values
    total = MaskedAttempt(hospitals, spec, noised).run(dropped=dropped)
    survivors = [name for name in hospitals.names if name not in dropped]
    return np.array(total) - sum(plain[name].astype(np.int64) for name in survivors), share


def consistent(noise, variance):
    """Whether a sample of noise has this variance: two-sided, at one in ten thousand."""
    statistic = float((noise.astype(np.float64) ** 2).sum()) / variance
    tail = chi2.cdf(statistic, len(noise))
    return min(tail, 1.0 - tail) > 5e-5


@pytest.mark.parametrize("dropped", [(), ("h002",)])
def test_the_noise_in_an_opened_sum_is_what_was_promised_and_three_percent_less_is_seen(dropped):
    """Nobody, or one of four, drops out; the guarantee counts on three, of whom one colludes."""
    noise, share = opened_noise(dropped=dropped)
    in_sum = 4 - len(dropped)
    promised = in_sum * share.variance
    assert share.honest == 2
    assert consistent(noise, promised)
    assert not consistent(noise, promised * 1.03**2)
    assert not consistent(noise, promised / 1.03**2)
    due = (1.3 * share.sensitivity_lanes) ** 2
    honest_part = noise.astype(np.float64).var() * share.honest / in_sum
    assert honest_part == pytest.approx(due, rel=0.03)


def test_a_hospital_that_adds_three_percent_less_than_its_share_is_seen_in_the_sum():
    _, share = opened_noise()
    short, _ = opened_noise(variance=round(share.variance * 0.97**2))
    assert not consistent(short, 4 * share.variance)
