"""A hospital audits its engine before it joins, logs what it found, and stops when it leaks."""

from dataclasses import replace

import pytest
from tests.support.hospitals import NAMES, Ward

from wardround.audit.bodies import HOSPITAL_TYPES
from wardround.privacy.coins import coins_commitment
from wardround.protocol.messages import Joined, Refusal, RefusalCode
from wardround.study.dry_run import dry_run_rule
from wardround_client.empirical.at_opening import noise_entry
from wardround_client.training import distributed, local
from wardround_client.training.noise import NoiseProbe

HARBOUR = NAMES[0]
HONEST_NOISE = local.add_noise


@pytest.fixture
def ward(tmp_path):
    ward = Ward.make(tmp_path, NAMES[:2])
    ward[HARBOUR].set_policy(empirical_audit="true")
    yield ward
    ward.close()


def bodies(ward, study):
    """The typed bodies of the hospital's log by type; reading them is the verifier's check."""
    return {
        kind: HOSPITAL_TYPES[kind].model_validate(body)
        for kind, body in ward[HARBOUR].log_entries(study)
    }


def test_rule_and_commitment_are_logged_before_the_outcome_and_both_before_joining(ward):
    talk = ward.talk()
    answer, _ = ward[HARBOUR].ask(talk.open_message())
    assert isinstance(answer, Joined)
    kinds = [kind for kind, _ in ward[HARBOUR].log_entries(talk.study)]
    assert kinds == [
        "study-approved",
        "engine-audit-registered",
        "engine-audited",
        "run-joined",
        "network-built",
        "checkpoint-witnessed",
    ]
    found = bodies(ward, talk.study)
    registered, audited = found["engine-audit-registered"], found["engine-audited"]
    assert registered.rule.model_dump() == {
        "noise_multiplier": talk.study.noise_multiplier(),
        "sampling_rate": 0.5,
        "steps": dry_run_rule(talk.study).steps,
        "canaries": dry_run_rule(talk.study).canaries,
        "named": dry_run_rule(talk.study).named,
    }
    assert registered.coins_commitment == coins_commitment(bytes.fromhex(audited.seed))
    assert audited.verdict in {"PASS", "INCONCLUSIVE"}
    assert audited.epsilon_f_dp < audited.epsilon_claimed


def test_an_audit_spends_nothing_and_touches_no_record(ward):
    talk = ward.talk()
    (ward[HARBOUR].data / "patients.csv").unlink()
    answer, _ = ward[HARBOUR].ask(talk.open_message())
    assert answer == Refusal(code=RefusalCode.DATA)
    assert "engine-audited" in bodies(ward, talk.study)
    ward[HARBOUR].stop()
    ledger = ward[HARBOUR].home.ledger("fever-harbour")
    assert not ledger.releases()
    ledger.close()


def leaking_noise(clipped, *, noise_multiplier, **rest):
    less = HONEST_NOISE(clipped, noise_multiplier=noise_multiplier / 4, **rest)
    return replace(less, done=replace(less.done, noise_multiplier=noise_multiplier))


def test_a_hospital_whose_engine_leaks_refuses_to_take_part_and_says_so_by_a_code(
    ward, monkeypatch
):
    monkeypatch.setattr(local, "add_noise", leaking_noise)
    talk = ward.talk()
    answer, _ = ward[HARBOUR].ask(talk.open_message())
    assert answer == Refusal(code=RefusalCode.ENGINE)
    found = bodies(ward, talk.study)
    assert found["engine-audited"].verdict == "VIOLATION"
    assert "run-joined" not in found


def test_a_hospital_whose_share_of_the_noise_is_short_refuses_as_well(ward, monkeypatch):
    honest = distributed.add_share

    def short(clipped, *, share_variance, randomness):
        return honest(clipped, share_variance=share_variance // 16, randomness=randomness)

    monkeypatch.setattr(distributed, "add_share", short)
    talk = ward.talk(privacy__mechanism="distributed")
    answer, _ = ward[HARBOUR].ask(talk.open_message())
    assert answer == Refusal(code=RefusalCode.ENGINE)


def test_a_policy_may_switch_the_audit_off(ward, monkeypatch):
    ward[HARBOUR].set_policy(empirical_audit="false")
    monkeypatch.setattr(local, "add_noise", leaking_noise)
    talk = ward.talk()
    assert isinstance(ward[HARBOUR].ask(talk.open_message())[0], Joined)
    assert "engine-audited" not in bodies(ward, talk.study)


def test_a_study_without_noise_claims_nothing_and_is_not_audited(ward):
    talk = ward.talk(privacy__mechanism="none", privacy__epsilon=None, privacy__delta=None)
    assert isinstance(ward[HARBOUR].ask(talk.open_message())[0], Joined)
    assert "engine-audit-registered" not in bodies(ward, talk.study)


def test_noise_of_all_rounds_is_measured_together_and_no_noise_is_no_entry():
    one = NoiseProbe(count=512, sum_of_squares_over_variance=480.0)
    kind, body = noise_entry("ab" * 16, [one] * 100)
    measured = HOSPITAL_TYPES[kind].model_validate(body)
    assert (measured.coordinates, measured.verdict) == (51_200, "VIOLATION")
    assert noise_entry("ab" * 16, []) is None
