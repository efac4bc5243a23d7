"""A budget that changes while a run goes on is checked again before the next round."""

import pytest
from tests.support.hospitals import NAMES, Ward

from wardround.privacy.mechanism import SampledGaussian
from wardround.protocol.messages import Refusal, RefusalCode

HARBOUR = NAMES[0]


@pytest.fixture
def ward(tmp_path):
    ward = Ward.make(tmp_path, NAMES[:2])
    yield ward
    ward.close()


def asked_for_a_round(talk):
    """The code of the refusal; nothing was charged for it."""
    ledger = talk.ward[HARBOUR].hospital.sessions["ab" * 16].ledger
    before = len(ledger.releases())
    answer, vector = talk.ward[HARBOUR].ask(talk.work(talk.spec()), talk.model)
    assert isinstance(answer, Refusal), answer
    assert vector is None
    assert len(ledger.releases()) == before
    return answer.code


def test_what_another_study_takes_of_the_dataset_in_mid_run_counts_against_the_budget(ward):
    talk = ward.talk().open()
    session = ward[HARBOUR].hospital.sessions["ab" * 16]
    session.ledger.reserve(
        study_digest="f" * 64,
        run="cd" * 16,
        purpose="train",
        transcript="e" * 64,
        mechanism=SampledGaussian(0.6, 0.9, 20),
        units=100,
        split="another split of the same patients",
    )
    assert asked_for_a_round(talk) is RefusalCode.BUDGET


def test_a_budget_that_the_policy_lowers_in_mid_run_holds_at_once(ward):
    talk = ward.talk().open()
    ward[HARBOUR].set_policy(epsilon_budget="0.5")
    assert asked_for_a_round(talk) is RefusalCode.BUDGET
