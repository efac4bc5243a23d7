"""What a hospital refuses to sign and to reveal: every field of every request, changed."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.support.masked_attempts import MaskedAttempt, carried
from tests.support.masked_hospitals import MaskedFleet, fleet

from wardround.canonical import Json
from wardround.errors import QuorumMissed
from wardround.masking.survivors import SecondSurvivorSet, SurvivorSet, SurvivorsRefused
from wardround.protocol.messages import Reveal, Survivors

NAMES = [f"h{number:03d}" for number in range(5)]
U = NAMES[:4]  # t is 4 of 5; h004 never uploads
OWN = "h001"


@pytest.fixture(scope="module")
def five_enrolled() -> MaskedFleet:
    return fleet(5)


@pytest.fixture
def attempt(five_enrolled: MaskedFleet) -> MaskedAttempt:
    federation = five_enrolled.renewed()
    attempt = MaskedAttempt(federation, federation.spec(3))
    attempt.upload(*U)
    attempt.close_uploads()
    return attempt


def other_round(attempt: MaskedAttempt, /, **changes: object) -> MaskedAttempt:
    """The same hospitals in another attempt, as far as M2."""
    federation = attempt.fleet.renewed()
    other = MaskedAttempt(federation, federation.spec(3, **changes))
    other.upload(*U)
    other.close_uploads()
    return other


# --- survivors -----------------------------------------------------------------------------------

Change = Callable[[MaskedAttempt, Json], None]


def without(name: str) -> Change:
    def change(_attempt: MaskedAttempt, ask: Json) -> None:
        ask["survivors"].remove(name)
        del ask["headers"][name]
        ask["shares"].pop(name, None)

    return change


def setting(*path: Any) -> Change:
    *way, last, value = path

    def change(_attempt: MaskedAttempt, ask: Json) -> None:
        for step in way:
            ask = ask[step]
        ask[last] = value

    return change


def removing(*path: str) -> Change:
    def change(_attempt: MaskedAttempt, ask: Json) -> None:
        for step in path[:-1]:
            ask = ask[step]
        del ask[path[-1]]

    return change


def anothers_header(_attempt: MaskedAttempt, ask: Json) -> None:
    ask["headers"]["h002"] = ask["headers"]["h003"]


def header_of_another_attempt(attempt: MaskedAttempt, ask: Json) -> None:
    later = other_round(attempt, attempt=2).survivors[OWN].model_dump(mode="json")
    ask["headers"]["h002"] = later["headers"]["h002"]


def own_header_of_another_vector(attempt: MaskedAttempt, ask: Json) -> None:
    """Signed by us for the same T: as if our upload had been made twice."""
    again = other_round(attempt).survivors[OWN].model_dump(mode="json")
    ask["headers"][OWN] = again["headers"][OWN]


def second_header_of_a_peer(attempt: MaskedAttempt, ask: Json) -> None:
    again = other_round(attempt).survivors[OWN].model_dump(mode="json")
    ask["headers"]["h002"] = again["headers"]["h002"]


def edited_header(_attempt: MaskedAttempt, ask: Json) -> None:
    ask["headers"]["h002"]["header"]["update_digest"] = "ab" * 32


def unknown_field(_attempt: MaskedAttempt, ask: Json) -> None:
    ask["headers"]["h002"]["header"]["loss"] = 0.1


def share_for_another(_attempt: MaskedAttempt, ask: Json) -> None:
    ask["shares"]["h002"] = ask["shares"]["h003"]


def share_meant_for_a_peer(attempt: MaskedAttempt, ask: Json) -> None:
    ask["shares"]["h002"] = attempt.survivors["h000"].model_dump(mode="json")["shares"]["h002"]


def with_h004(_attempt: MaskedAttempt, ask: Json) -> None:
    ask["survivors"].append("h004")


def twice(_attempt: MaskedAttempt, ask: Json) -> None:
    ask["survivors"].insert(1, OWN)


def unsorted_names(_attempt: MaskedAttempt, ask: Json) -> None:
    ask["survivors"].reverse()


REFUSED = [
    (setting("run", "ab" * 16), "run ab"),
    (setting("session", "ab" * 16), "session ab"),
    (setting("transcript", "ab" * 32), "transcript ab"),
    (without(OWN), "h001 is not among them"),
    (without("h003"), "3 came, 4 were due"),
    (setting("survivors", []), "h001 is not among them"),
    (with_h004, "the headers are not those of the survivors"),
    (twice, "a hospital is named twice"),
    (unsorted_names, "not sorted"),
    (removing("headers", "h002"), "the headers are not those of the survivors"),
    (removing("shares", "h002"), "the shares are not those of the other survivors"),
    (
        lambda _attempt, ask: ask["shares"].update(h001=ask["shares"]["h002"]),
        "the shares are not those",
    ),
    (
        lambda _attempt, ask: ask["shares"].update(h004=ask["shares"]["h002"]),
        "the shares are not those",
    ),
    (anothers_header, "update of h002: its header says hospital h003, h002 was due"),
    (header_of_another_attempt, "update of h002: its header says transcript"),
    (edited_header, "update of h002: its header is not signed by the identity key"),
    (unknown_field, "update header: unknown loss"),
    (setting("headers", "h002", "signature", "00" * 64), "header is not signed by the identity"),
    (own_header_of_another_vector, "the header of h001 is not our own"),
    (second_header_of_a_peer, "the shares of h002 are not those that it signed"),
    (share_for_another, "the shares of h002 are not those that it signed"),
    (share_meant_for_a_peer, "the shares of h002 are not those that it signed"),
    (setting("shares", "h002", "commitment", "00" * 32), "the shares of h002 are not those"),
    (setting("shares", "h002", "sealed", "00" * 196), "the shares of h002 are not those"),
    (setting("shares", "h002", "proof", []), "the shares of h002 are not those"),
    (lambda _attempt, ask: ask["shares"]["h002"]["proof"].reverse(), "the shares of h002 are not"),
]


@pytest.mark.parametrize(("change", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_survivors_that_are_not_what_is_due_are_not_signed(
    attempt: MaskedAttempt, change: Change, reason: str
) -> None:
    ask = attempt.survivors[OWN].model_dump(mode="json")
    change(attempt, ask)
    own, keys = attempt.rounds[OWN], attempt.fleet.identity_keys
    with pytest.raises(SurvivorsRefused, match=reason) as raised:
        own.check_survivors(Survivors.model_validate(ask), keys)
    assert raised.value.hospital is None  # a relay can do all this: nobody is accused
    with pytest.raises(SurvivorsRefused, match="not the set that was checked"):
        own.sign(SurvivorSet(own.transcript, tuple(U)))
    # Nothing was signed by it, and the right set still is.
    attempt.sign(*U)
    assert len(attempt.coordinator.signatures) == 4


def test_survivors_without_a_pinned_key_are_refused(attempt: MaskedAttempt) -> None:
    keys = {name: key for name, key in attempt.fleet.identity_keys.items() if name != "h002"}
    with pytest.raises(SurvivorsRefused, match="h002 is not on the roster"):
        attempt.rounds[OWN].check_survivors(attempt.survivors[OWN], keys)


def test_a_sender_that_signed_for_another_key_of_the_pair_is_accused(
    attempt: MaskedAttempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = attempt.fleet.renewed()
    federation["h002"].secrets._later[OWN] = bytes(32)
    other = MaskedAttempt(federation, federation.spec(3))
    monkeypatch.setattr(other.coordinator, "_check_shares", lambda *_args, **_named: None)
    other.upload(*U)
    other.close_uploads()
    with pytest.raises(SurvivorsRefused, match="h002 has signed for another key of our") as raised:
        other.rounds[OWN].check_survivors(other.survivors[OWN], federation.identity_keys)
    assert raised.value.hospital == "h002"


def test_nothing_is_signed_without_an_upload_or_with_one_trip(attempt: MaskedAttempt) -> None:
    federation = attempt.fleet.renewed()
    begun = federation[OWN].begin(attempt.spec)
    with pytest.raises(SurvivorsRefused, match="no upload with double masks left"):
        begun.check_survivors(attempt.survivors[OWN], federation.identity_keys)
    spec = federation.spec(3, attempt=2, profile="one-trip")
    uploaded = federation[OWN].begin(spec)
    uploaded.upload(attempt.lanes[OWN])
    ask = attempt.survivors[OWN].model_copy(update={"transcript": uploaded.transcript})
    with pytest.raises(SurvivorsRefused, match="no upload with double masks left"):
        uploaded.check_survivors(ask, federation.identity_keys)


def test_only_a_checked_set_is_signed(attempt: MaskedAttempt) -> None:
    own, keys = attempt.rounds[OWN], attempt.fleet.identity_keys
    right = SurvivorSet(own.transcript, tuple(U))
    with pytest.raises(SurvivorsRefused, match="not the set that was checked"):
        own.sign(right)
    assert own.check_survivors(attempt.survivors[OWN], keys) == right
    with pytest.raises(SurvivorsRefused, match="not the set that was checked"):
        own.sign(SurvivorSet(own.transcript, tuple(NAMES)))
    signature = own.sign(right)
    right.check(OWN, signature, keys[OWN])
    with pytest.raises(SecondSurvivorSet):
        own.sign(SurvivorSet(own.transcript, tuple(NAMES)))


def test_the_same_set_again_gets_the_same_signature(attempt: MaskedAttempt) -> None:
    own, keys = attempt.rounds[OWN], attempt.fleet.identity_keys
    first = own.sign(own.check_survivors(attempt.survivors[OWN], keys))
    assert own.sign(own.check_survivors(attempt.survivors[OWN], keys)) == first


# --- reveal --------------------------------------------------------------------------------------


@pytest.fixture
def signed() -> MaskedAttempt:
    """Nine have signed, of ten that uploaded, of eleven."""
    federation = fleet(11)
    attempt = MaskedAttempt(federation, federation.spec(3))
    attempt.upload(*federation.names[:10])
    attempt.close_uploads()
    attempt.sign(*federation.names[:9])
    attempt.close_signatures()
    return attempt


def test_what_is_revealed_opens_the_sum_and_nothing_else(signed: MaskedAttempt) -> None:
    own = signed.rounds["h003"]
    revealed = own.reveal(carried(signed.reveals["h003"]), signed.fleet.identity_keys)
    assert revealed.self_key == own._self_key.hex()
    assert list(revealed.pair_keys) == ["h010"]
    assert list(revealed.shares) == ["h009"]
    assert len(revealed.shares["h009"]) == 2  # of its own mask key, and of its key with h010
    assert revealed.unreadable == ()


def invalid(_attempt: MaskedAttempt, ask: Json) -> None:
    ask["signatures"]["h002"] = ask["signatures"]["h003"]


def of_no_survivor(attempt: MaskedAttempt, ask: Json) -> None:
    stranger = SurvivorSet(ask["transcript"], tuple(attempt.coordinator.survivors))
    identity = attempt.fleet["h010"].identity
    ask["signatures"]["h010"] = stranger.sign(identity, "h010").hex()


def too_few(_attempt: MaskedAttempt, ask: Json) -> None:
    ask["signatures"] = dict(list(ask["signatures"].items())[:7])


NOT_REVEALED = [
    (setting("run", "ab" * 16), "run ab"),
    (setting("session", "ab" * 16), "session ab"),
    (setting("transcript", "ab" * 32), "transcript ab"),
    (setting("signatures", {}), "0 signatures, 8 were due"),
    (too_few, "7 signatures, 8 were due"),
    (invalid, "the signature of h002 is not of this set, or not its own"),
    (setting("signatures", "h002", "00" * 64), "the signature of h002 is not of this set"),
    (of_no_survivor, "a signature of h010, who is no survivor"),
    (setting("vanished", ["h003"]), "not all that vanished are other survivors"),
    (setting("vanished", ["h010"]), "not all that vanished are other survivors"),
    (setting("vanished", ["sybil"]), "not all that vanished are other survivors"),
    (setting("vanished", ["h009", "h008"]), "not sorted"),
    (setting("vanished", ["h009", "h009"]), "named twice"),
    (setting("vanished", ["h007", "h008", "h009"]), "3 vanished, fewer than 8 are left"),
]


@pytest.mark.parametrize(
    ("change", "reason"), NOT_REVEALED, ids=[reason for _, reason in NOT_REVEALED]
)
def test_a_request_that_is_not_what_is_due_gets_no_key(
    signed: MaskedAttempt, change: Change, reason: str
) -> None:
    ask = signed.reveals["h003"].model_dump(mode="json")
    change(signed, ask)
    with pytest.raises(SurvivorsRefused, match=reason):
        signed.rounds["h003"].reveal(Reveal.model_validate(ask), signed.fleet.identity_keys)


def test_a_larger_set_of_vanished_is_answered_again(signed: MaskedAttempt) -> None:
    own, keys = signed.rounds["h003"], signed.fleet.identity_keys
    first = own.reveal(signed.reveals["h003"], keys)
    more = signed.reveals["h003"].model_copy(update={"vanished": ("h008", "h009")})
    second = own.reveal(carried(more), keys)
    assert (first.self_key, first.pair_keys) == (second.self_key, second.pair_keys)
    assert first.shares["h009"] == second.shares["h009"]
    assert list(second.shares) == ["h008", "h009"]


@pytest.mark.parametrize("damage", ["other key", "no share"])
def test_a_bundle_that_cannot_be_read_is_said_to_be_and_stops_nothing(
    damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = fleet(8)
    names = federation.names
    attempt = MaskedAttempt(federation, federation.spec(3))
    seal_as_a_liar(monkeypatch, damage)
    attempt.upload("h007")
    monkeypatch.undo()
    attempt.upload(*names[:7])
    attempt.close_uploads()
    attempt.sign(*names[:7])
    attempt.close_signatures()
    revealed = attempt.rounds["h000"].reveal(attempt.reveals["h000"], federation.identity_keys)
    assert (revealed.shares, revealed.unreadable) == ({}, ("h007",))
    attempt.reveal(*names[:7])
    with pytest.raises(QuorumMissed, match="fewer than 6 readable shares for h007"):
        attempt.ask_again()


def seal_as_a_liar(monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    from wardround.masking import hospital_round
    from wardround.masking.sealing import seal

    def lying(bundle: bytes, *, key: bytes, transcript: bytes) -> bytes:
        if damage == "other key":
            return seal(bundle, key=bytes(32), transcript=transcript)
        if damage == "no share":
            bundle = b"\xff\xff\xff\xff" + bundle[4:]
        return seal(bundle, key=key, transcript=transcript)

    monkeypatch.setattr(hospital_round, "seal", lying)
