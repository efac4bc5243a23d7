"""Hospitals that lie to the coordinator about keys and shares: they are named, the others go on."""

import dataclasses

import pytest
from tests.support.hospitals import LANES, Ward
from tests.support.memory_runs import Federation, PlainLanes, asks, bending, in_round, when

from wardround.masking.agreement import ENCAPSULATION_PURPOSE, Encapsulation
from wardround.masking.commitments import pairs_root, share_leaves
from wardround.masking.update import UPDATE_PURPOSE, UpdateHeader
from wardround.protocol.envelope import seal, unseal
from wardround.protocol.messages import (
    Agree,
    Keyed,
    Refusal,
    RefusalCode,
    Reveal,
    Survivors,
)

FIVE = ("alpha", "beta", "delta", "epsilon", "gamma")
TEN = (*FIVE, "eta", "iota", "kappa", "theta", "zeta")
ALPHA, BETA, DELTA, EPSILON, GAMMA = FIVE


@pytest.fixture
def five(tmp_path):
    ward = Ward.make(tmp_path, FIVE)
    yield ward
    ward.close()


@pytest.fixture
def ten(tmp_path):
    ward = Ward.make(tmp_path, TEN)
    yield ward
    ward.close()


@pytest.fixture
def plain(monkeypatch):
    return PlainLanes(monkeypatch)


def changed(**fields):
    """The same body with other fields."""

    def then(content):
        body, vector = unseal(content, lanes=LANES)
        return seal(body.model_copy(update=fields), vector)

    return then


def other_secrets(ward, name):
    """Encapsulations that `name` signs, and whose secrets nobody but it can know."""
    identity = ward[name].home.identity()

    def then(content):
        body, _ = unseal(content, lanes=LANES)
        sent = []
        for value in body.encapsulations:
            other = dataclasses.replace(Encapsulation.from_json(value), ciphertext=b"\x5a" * 1088)
            signature = identity.sign(ENCAPSULATION_PURPOSE, other.signed_bytes())
            sent.append(dataclasses.replace(other, signature=signature).to_json())
        return seal(body.model_copy(update={"encapsulations": tuple(sent)}))

    return then


def other_commitments(ward, name):
    """An upload that `name` signs, and that commits to keys which are nobody's."""
    identity = ward[name].home.identity()

    def then(content):
        body, vector = unseal(content, lanes=LANES)
        shares = {
            peer: share.model_copy(update={"commitment": "0" * 64})
            for peer, share in body.shares.items()
        }
        header = dataclasses.replace(
            UpdateHeader.from_json(body.header), pairs_root=pairs_root(share_leaves(shares))
        )
        signature = identity.sign(UPDATE_PURPOSE, header.signed_bytes()).hex()
        changes = {"header": header.to_json(), "signature": signature, "shares": shares}
        return seal(body.model_copy(update=changes), vector)

    return then


def test_who_agrees_on_other_secrets_than_it_says_goes_alone_although_it_uploads_first(five, plain):
    lying = when(lambda body: isinstance(body, Agree), other_secrets(five, ALPHA), name=ALPHA)
    federation = Federation(five, lying, rounds__count=1)
    federation.run().train_and_evaluate()
    rejected = federation.entries("update-rejected")
    assert [body["hospital"] for body in rejected] == [BETA, DELTA, EPSILON, GAMMA]
    assert all("another key of the pair than alpha" in body["reason"] for body in rejected)
    honest = [BETA, DELTA, EPSILON, GAMMA]
    assert federation.cohorts() == [sorted(FIVE), honest, honest]
    assert plain.check(federation) == 2


def test_who_commits_to_keys_that_are_nobodys_is_left_out_and_the_attempt_opens(five, plain):
    lying = when(in_round(0), other_commitments(five, GAMMA), name=GAMMA)
    federation = Federation(five, lying, rounds__count=1)
    federation.run().train_and_evaluate()
    (rejected,) = federation.entries("update-rejected")
    assert rejected["hospital"] == GAMMA
    assert federation.entries("attempt-void") == []
    assert federation.survivors() == [[ALPHA, BETA, DELTA, EPSILON]] * 2
    assert plain.check(federation) == 2


@pytest.mark.parametrize(
    ("question", "lie", "says", "stage"),
    [
        (Reveal, {"self_key": "0" * 64}, "not the one it committed to", "revealed"),
        (Reveal, {"pair_keys": {ALPHA: "0" * 64}}, "pair keys with alpha came", "revealed"),
        (Survivors, {"signature": "0" * 128}, "not of this set", "signed"),
    ],
    ids=["self key", "pair keys", "signature"],
)
def test_a_wrong_message_names_its_hospital_and_its_update_stays_in_the_sum(
    five, plain, question, lie, says, stage
):
    federation = Federation(five, when(asks(question), changed(**lie), name=GAMMA), rounds__count=1)
    federation.run().train_and_evaluate()
    (named,) = federation.entries("share-rejected")
    assert named["hospital"] == GAMMA
    assert says in named["reason"]
    (vanished,) = federation.entries("hospital-vanished")
    assert (vanished["hospital"], vanished["stage"]) == (GAMMA, stage)
    assert federation.survivors() == [sorted(FIVE), [ALPHA, BETA, DELTA, EPSILON]]
    assert plain.check(federation) == 2


@pytest.mark.parametrize("question", [Survivors, Reveal])
def test_an_answer_of_another_kind_is_as_good_as_none(five, plain, question):
    lying = when(asks(question), lambda _: seal(Keyed(hospital=GAMMA)), name=GAMMA)
    federation = Federation(five, lying, rounds__count=1)
    federation.run().train_and_evaluate()
    assert [body["hospital"] for body in federation.entries("hospital-vanished")] == [GAMMA]
    assert plain.check(federation) == 2


def test_a_changed_share_names_its_holder_and_the_sum_is_right(ten, plain):
    def change(content):
        body, _ = unseal(content, lanes=LANES)
        words = tuple("01000000" + word[8:] for word in body.shares["kappa"])
        return seal(body.model_copy(update={"shares": {"kappa": words}}))

    gone = when(asks(Survivors), lambda _: None, name="kappa")
    lying = when(asks(Reveal), change, name=ALPHA)
    federation = Federation(ten, bending(gone, lying), rounds__count=1)
    federation.run().train_and_evaluate()
    (named,) = federation.entries("share-rejected")
    assert named["hospital"] == ALPHA
    assert "dealt wrongly by kappa or changed by it" in named["reason"]
    assert plain.check(federation) == 2
    # It may have been dealt wrongly: its holder stays.
    assert ALPHA in federation.cohorts()[1]


def test_a_single_accusation_costs_both_hospitals_since_nobody_knows_who_lies(five, plain):
    refusal = Refusal(code=RefusalCode.SURVIVORS, hospital=ALPHA)
    accusing = when(asks(Survivors), lambda _: seal(refusal), name=BETA)
    federation = Federation(five, accusing, rounds__count=1)
    federation.run().train_and_evaluate()
    (named,) = federation.entries("share-rejected")
    assert named["hospital"] == ALPHA
    assert "beta says" in named["reason"]
    (refused,) = federation.entries("hospital-refused")
    assert refused == {"hospital": BETA, "code": "survivors-not-valid"}
    assert federation.cohorts() == [sorted(FIVE), [DELTA, EPSILON, GAMMA]]
    assert plain.check(federation) == 2


def test_who_is_accused_by_several_is_left_out_and_they_are_not(ten, plain):
    refusal = Refusal(code=RefusalCode.SURVIVORS, hospital=ALPHA)
    accusing = [when(asks(Survivors), lambda _: seal(refusal), name=name) for name in (BETA, DELTA)]
    federation = Federation(ten, bending(*accusing), rounds__count=1)
    federation.run().train_and_evaluate()
    assert federation.entries("attempt-void") == []
    assert federation.cohorts() == [sorted(TEN), sorted(set(TEN) - {ALPHA})]
    assert plain.check(federation) == 2
