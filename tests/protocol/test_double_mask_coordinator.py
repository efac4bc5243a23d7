"""Hospitals that lie after their upload: each is named, and the sum opens while enough are left."""

from collections.abc import Callable

import pytest
from tests.support.masked_attempts import MaskedAttempt, carried
from tests.support.masked_hospitals import MaskedFleet, fleet

from wardround.canonical import Json
from wardround.errors import BadSignature, ProtocolViolation, QuorumMissed
from wardround.masking.coordinator_round import CoordinatorRound, Stage
from wardround.masking.survivors import SurvivorSet
from wardround.protocol.messages import Revealed

NAMES = [f"h{number:03d}" for number in range(10)]
U = NAMES[:9]  # t is 7 of 10; h009 never uploads


@pytest.fixture(scope="module")
def ten_enrolled() -> MaskedFleet:
    return fleet(10)


@pytest.fixture
def uploaded(ten_enrolled: MaskedFleet) -> MaskedAttempt:
    federation = ten_enrolled.renewed()
    attempt = MaskedAttempt(federation, federation.spec(5, bits=24))
    attempt.upload(*U)
    attempt.close_uploads()
    return attempt


@pytest.fixture
def signed(uploaded: MaskedAttempt) -> MaskedAttempt:
    uploaded.sign(*U)
    uploaded.close_signatures()
    return uploaded


def answer(attempt: MaskedAttempt, name: str) -> Json:
    asked = carried(attempt.reveals[name])
    return attempt.rounds[name].reveal(asked, attempt.fleet.identity_keys).model_dump(mode="json")


def take(attempt: MaskedAttempt, name: str, revealed: Json) -> None:
    attempt.coordinator.take_reveal(name, Revealed.model_validate(revealed))


def opens(attempt: MaskedAttempt) -> bool:
    while attempt.ask_again():
        attempt.reveal(*attempt.reveals)
    return attempt.coordinator.open().tolist() == attempt.plain(U)


# --- signatures ----------------------------------------------------------------------------------


def test_a_wrong_signature_names_its_hospital_and_counts_as_none(uploaded: MaskedAttempt) -> None:
    coordinator, federation = uploaded.coordinator, uploaded.fleet
    all_ten = SurvivorSet(uploaded.spec.transcript().hex(), tuple(NAMES))
    survivors = SurvivorSet(uploaded.spec.transcript().hex(), tuple(U))
    wrong = {
        "h000": all_ten.sign(federation["h000"].identity, "h000"),
        "h001": survivors.sign(federation["h002"].identity, "h001"),
    }
    for name, signature in wrong.items():
        with pytest.raises(BadSignature, match=f"signature of {name} is not of this set"):
            coordinator.take_signature(name, signature)
    uploaded.sign(*U[2:])
    assert list(coordinator.faults) == ["h000", "h001"]
    assert coordinator.vanished == ("h000", "h001")
    uploaded.close_signatures()
    uploaded.reveal(*U[2:])
    assert opens(uploaded)


def test_a_hospital_may_correct_its_signature(uploaded: MaskedAttempt) -> None:
    with pytest.raises(BadSignature):
        uploaded.coordinator.take_signature("h000", bytes(64))
    uploaded.sign(*U)
    uploaded.close_signatures()
    assert sorted(uploaded.reveals) == U
    assert list(uploaded.coordinator.faults) == ["h000"]


def test_who_is_no_survivor_cannot_sign_or_reveal(signed: MaskedAttempt) -> None:
    coordinator = CoordinatorRound(signed.spec, signed.fleet.identity_keys)
    with pytest.raises(ProtocolViolation, match="is at uploads, not at signatures"):
        coordinator.take_signature("h000", bytes(64))
    with pytest.raises(ProtocolViolation, match="reveal of h009: it was not asked"):
        take(signed, "h009", answer(signed, "h000"))
    with pytest.raises(ProtocolViolation, match=r"signature of h000: .* is at reveals"):
        signed.coordinator.take_signature("h000", bytes(64))
    assert signed.coordinator.faults == {}


def test_a_stranger_cannot_sign(uploaded: MaskedAttempt) -> None:
    with pytest.raises(ProtocolViolation, match="signature of h009: it is no survivor"):
        uploaded.coordinator.take_signature("h009", bytes(64))


def test_a_hospital_that_did_not_sign_cannot_reveal(uploaded: MaskedAttempt) -> None:
    uploaded.sign(*U[1:])
    uploaded.close_signatures()
    with pytest.raises(ProtocolViolation, match="reveal of h000: it was not asked"):
        take(uploaded, "h000", answer(uploaded, "h001"))
    uploaded.reveal(*U[1:])
    assert opens(uploaded)


# --- reveals -------------------------------------------------------------------------------------

Change = Callable[[Json], None]

WRONG_KEYS: list[tuple[Change, str]] = [
    (lambda answer: answer.update(self_key="00" * 32), "its mask key is not the one it committed"),
    (
        lambda answer: answer["pair_keys"].update(h009="00" * 32),
        "its key of the pair with h009 is not the one it committed to",
    ),
    (lambda answer: answer["pair_keys"].clear(), "with nobody came, with h009 were due"),
    (
        lambda answer: answer["pair_keys"].update(h001="00" * 32),
        "pair keys with h001, h009 came, with h009 were due",
    ),
    (
        lambda answer: answer.update(shares={"h001": ["00" * 36] * 2}),
        "shares for h001 were not asked for",
    ),
    (
        lambda answer: answer.update(shares={"h009": ["00" * 36] * 2}),
        "shares for h009 were not asked for",
    ),
]


@pytest.mark.parametrize(("change", "reason"), WRONG_KEYS, ids=[reason for _, reason in WRONG_KEYS])
def test_a_wrong_reveal_names_its_hospital_whose_keys_come_from_shares(
    signed: MaskedAttempt, change: Change, reason: str
) -> None:
    signed.reveal(*U[1:])
    revealed = answer(signed, "h000")
    change(revealed)
    with pytest.raises(ProtocolViolation, match=f"reveal of h000: .*{reason}"):
        take(signed, "h000", revealed)
    assert reason in signed.coordinator.faults["h000"]
    asked = signed.coordinator.still_needed()
    assert sorted(asked) == U[1:]
    assert {ask.vanished for ask in asked.values()} == {("h000",)}
    signed.reveals = asked
    signed.reveal(*asked)
    assert opens(signed)
    assert list(signed.coordinator.faults) == ["h000"]


def test_a_wrong_reveal_may_be_corrected(signed: MaskedAttempt) -> None:
    revealed = answer(signed, "h000")
    with pytest.raises(ProtocolViolation):
        take(signed, "h000", revealed | {"self_key": "00" * 32})
    signed.reveal(*U)
    assert signed.coordinator.still_needed() == {}
    assert opens(signed)


def test_more_liars_than_can_be_spared_leave_the_attempt_void(signed: MaskedAttempt) -> None:
    signed.reveal(*U[3:])
    for name in U[:3]:
        with pytest.raises(ProtocolViolation, match=f"reveal of {name}"):
            take(signed, name, answer(signed, name) | {"self_key": "00" * 32})
    with pytest.raises(QuorumMissed, match="6 of 10 hospitals revealed, 7 were due; without h000"):
        signed.coordinator.still_needed()
    assert signed.coordinator.stage is Stage.VOID
    assert list(signed.coordinator.faults) == U[:3]


def test_liars_at_the_bound_cost_the_round_nothing(signed: MaskedAttempt) -> None:
    signed.reveal(*U[2:])
    for name in U[:2]:
        with pytest.raises(ProtocolViolation, match=f"reveal of {name}"):
            take(signed, name, answer(signed, name) | {"self_key": "00" * 32})
    assert opens(signed)
    assert signed.coordinator.vanished == ("h000", "h001")


@pytest.fixture
def asked_for_shares(uploaded: MaskedAttempt) -> MaskedAttempt:
    """h008 has not signed, so everybody is asked for shares of its keys."""
    uploaded.sign(*U[:8])
    uploaded.close_signatures()
    return uploaded


WRONG_SHARES: list[tuple[Change, str]] = [
    (lambda answer: answer["shares"].update(h008=["00" * 36]), "1 shares of the keys of h008 came"),
    (
        lambda answer: answer["shares"].update(h008=["00" * 36] * 3),
        "3 shares of the keys of h008 came, 2 were due",
    ),
    (
        lambda answer: answer["shares"].update(h008=["ff" * 36] * 2),
        "a share of the keys of h008 is beyond the field",
    ),
    (
        lambda answer: answer["shares"].update(h001=["00" * 36] * 2),
        "shares for h001 were not asked for",
    ),
]


@pytest.mark.parametrize(
    ("change", "reason"), WRONG_SHARES, ids=[reason for _, reason in WRONG_SHARES]
)
def test_shares_of_another_form_name_their_hospital(
    asked_for_shares: MaskedAttempt, change: Change, reason: str
) -> None:
    attempt = asked_for_shares
    attempt.reveal(*U[1:8])
    revealed = answer(attempt, "h000")
    change(revealed)
    with pytest.raises(ProtocolViolation, match=f"reveal of h000: .*{reason}"):
        take(attempt, "h000", revealed)
    assert opens(attempt)
    assert attempt.coordinator.vanished == ("h000", "h008")
    assert list(attempt.coordinator.faults) == ["h000"]


def test_a_hospital_that_sends_no_share_is_no_fault_while_enough_do(
    asked_for_shares: MaskedAttempt,
) -> None:
    attempt = asked_for_shares
    attempt.reveal(*U[1:8])
    take(attempt, "h000", answer(attempt, "h000") | {"shares": {}, "unreadable": ["h008"]})
    assert attempt.coordinator.still_needed() == {}
    assert opens(attempt)
    assert attempt.coordinator.faults == {}


def test_random_shares_of_one_hospital_change_no_lane_and_name_it(
    asked_for_shares: MaskedAttempt,
) -> None:
    attempt = asked_for_shares
    attempt.reveal(*U[1:8])
    take(attempt, "h000", answer(attempt, "h000") | {"shares": {"h008": ["12" * 36, "34" * 36]}})
    assert attempt.coordinator.faults == {}  # it only shows when they are joined
    assert opens(attempt)
    assert list(attempt.coordinator.faults) == ["h000"]
    assert (
        "does not fit: dealt wrongly by h008 or changed by it"
        in (attempt.coordinator.faults["h000"])
    )


# --- the order of things --------------------------------------------------------------------------


def test_nothing_opens_before_it_is_known_that_everything_is_there(signed: MaskedAttempt) -> None:
    coordinator = signed.coordinator
    signed.reveal(*U)
    with pytest.raises(ProtocolViolation, match=r"sum: .* is at reveals, not at ready"):
        coordinator.open()
    assert coordinator.still_needed() == {}
    assert coordinator.still_needed() == {}  # asked again: the same
    for early in (lambda: coordinator.sum_digest, coordinator.mask_keys):
        with pytest.raises(ProtocolViolation, match=r"round 2, attempt 1: "):
            early()
    coordinator.open()
    with pytest.raises(ProtocolViolation, match=r"sum: .* is at opened"):
        coordinator.open()


def test_the_keys_that_opened_a_sum_are_those_that_a_replay_needs(signed: MaskedAttempt) -> None:
    signed.reveal(*U[:8])
    assert opens(signed)
    keys = signed.coordinator.mask_keys()
    assert sorted(keys["self_keys"]) == U
    assert list(keys["pair_keys"]) == [f"{name}|h009" for name in U]
    assert keys["self_keys"]["h008"] == signed.rounds["h008"]._self_key.hex()


def test_the_coordinator_without_keys_that_were_revealed_holds_no_secret_in_a_text(
    signed: MaskedAttempt,
) -> None:
    signed.reveal(*U)
    text = repr(signed.coordinator) + repr(signed.coordinator._reveals)
    text += repr(signed.coordinator._uploads)
    assert signed.rounds["h000"]._self_key.hex() not in text
    assert repr(signed.rounds["h000"]._self_key) not in text


def test_threads_change_nothing(ten_enrolled: MaskedFleet) -> None:
    federation = ten_enrolled.renewed()
    attempt = MaskedAttempt(federation, federation.spec(200_001, bits=20, cohort=NAMES[:3]))
    attempt.upload(*NAMES[:3])
    attempt.close_uploads()
    attempt.sign(*NAMES[:3])
    attempt.close_signatures()
    attempt.reveal(*NAMES[:3])
    assert not attempt.ask_again()
    assert attempt.coordinator.open(threads=2).tolist() == attempt.plain()
