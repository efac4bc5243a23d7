"""Key agreement: nobody but the two of a pair gets its root, and what was changed is seen."""

import dataclasses
import hmac
from collections.abc import Callable
from hashlib import sha256

import pytest
from tests.support.masked_hospitals import MaskedFleet, agree, fleet, seeded

from wardround.errors import BadSignature, ProtocolViolation
from wardround.masking.agreement import (
    Agreement,
    Encapsulation,
    check_encapsulations,
    encapsulate_768,
)
from wardround.masking.pairs import pair_root
from wardround.masking.run_key import CIPHERTEXT_BYTES, RunKey

Sent = dict[str, tuple[Encapsulation, ...]]


@pytest.fixture(scope="module")
def three() -> MaskedFleet:
    return fleet(3)


def agreements(federation: MaskedFleet) -> dict[str, Agreement]:
    return {
        each.name: Agreement(
            each.run_key, federation.directory, each.name, federation.identity_keys
        )
        for each in federation.hospitals
    }


def sent_in(federation: MaskedFleet, parts: dict[str, Agreement]) -> Sent:
    return {name: part.encapsulations(federation[name].identity) for name, part in parts.items()}


def received_by(name: str, sent: Sent) -> list[Encapsulation]:
    return [one for each in sent.values() for one in each if one.recipient == name]


def resigned(federation: MaskedFleet, one: Encapsulation, **changes: object) -> Encapsulation:
    """As a sender that lies signs it."""
    changed = dataclasses.replace(one, **changes)
    signature = federation[one.sender].identity.sign(b"encapsulation", changed.signed_bytes())
    return dataclasses.replace(changed, signature=signature)


def test_both_ends_of_every_pair_get_one_root_and_no_two_pairs_the_same(
    three: MaskedFleet,
) -> None:
    parts = agreements(three)
    sent = sent_in(three, parts)
    assert {name: [one.recipient for one in each] for name, each in sent.items()} == {
        "h000": ["h001", "h002"],
        "h001": ["h002"],
        "h002": [],
    }
    roots = {name: part.finish(received_by(name, sent))._roots for name, part in parts.items()}
    for one in three.names:
        for other in set(three.names) - {one}:
            assert roots[one][other] == roots[other][one]
    assert len({root for own in roots.values() for root in own.values()}) == 3


def test_every_session_has_other_roots_though_all_keys_are_the_same(three: MaskedFleet) -> None:
    """The run keys are reused here, as they never are: ML-KEM alone gives fresh secrets."""
    identities = {each.name: each.identity for each in three.hospitals}
    first, second = (agree(agreements(three), identities) for _ in range(2))
    for name in three.names:
        assert not set(first[name]._roots.values()) & set(second[name]._roots.values())


def test_asked_again_a_hospital_sends_the_same_encapsulations(three: MaskedFleet) -> None:
    part = agreements(three)["h000"]
    identity = three["h000"].identity
    assert part.encapsulations(identity) == part.encapsulations(identity)
    part.finish([])
    assert len(part.encapsulations(identity)) == 2


def test_every_part_of_the_agreement_is_in_the_root() -> None:
    """Without either secret, X25519's or ML-KEM's, it cannot be had; RFC 5869 by hand."""
    x25519, kem, ciphertext, salt = b"x" * 32, b"k" * 32, b"c" * 1088, b"s" * 32

    def root(x25519: bytes, kem: bytes, ciphertext: bytes, salt: bytes, *pair: str) -> bytes:
        return pair_root(x25519 + kem, pair=(pair[0], pair[1]), ciphertext=ciphertext, salt=salt)

    right = root(x25519, kem, ciphertext, salt, "a", "b")
    info = b"wardround/1 pair\0a\0b\0" + sha256(ciphertext).digest()
    extracted = hmac.digest(salt, x25519 + kem, "sha256")
    assert right == hmac.digest(extracted, info + b"\x01", "sha256")
    assert right not in {
        root(b"X" + x25519[1:], kem, ciphertext, salt, "a", "b"),
        root(x25519, b"K" + kem[1:], ciphertext, salt, "a", "b"),
        root(x25519, kem, b"C" + ciphertext[1:], salt, "a", "b"),
        root(x25519, kem, ciphertext, b"S" + salt[1:], "a", "b"),
        root(x25519, kem, ciphertext, salt, "a", "c"),
        root(x25519, kem, ciphertext, salt, "b", "a"),
    }


# --- what the coordinator puts in its place -------------------------------------------------------

Change = Callable[[MaskedFleet, list[Encapsulation]], list[Encapsulation]]


def substituted(federation: MaskedFleet, came: list[Encapsulation]) -> list[Encapsulation]:
    """A ciphertext of the coordinator's, under the real key of the recipient."""
    _, ciphertext = encapsulate_768(federation["h002"].run_key.kem_key)
    return [dataclasses.replace(came[0], ciphertext=ciphertext), came[1]]


def swapped(federation: MaskedFleet, came: list[Encapsulation]) -> list[Encapsulation]:
    first, second = came
    return [
        dataclasses.replace(first, ciphertext=second.ciphertext, signature=second.signature),
        dataclasses.replace(second, ciphertext=first.ciphertext, signature=first.signature),
    ]


def of_another_session(federation: MaskedFleet, _: list[Encapsulation]) -> list[Encapsulation]:
    return received_by("h002", sent_in(other := fleet(3, session="99" * 16), agreements(other)))


def of_another_directory(federation: MaskedFleet, _: list[Encapsulation]) -> list[Encapsulation]:
    other = fleet(4)
    sent = sent_in(other, agreements(other))
    return [one for one in received_by("h002", sent) if one.sender in federation.names]


def anothers(federation: MaskedFleet, came: list[Encapsulation]) -> list[Encapsulation]:
    sent = sent_in(federation, agreements(federation))
    return [*received_by("h001", sent), came[1]]


def relabelled(federation: MaskedFleet, came: list[Encapsulation]) -> list[Encapsulation]:
    return [dataclasses.replace(came[0], session=federation.directory.run), came[1]]


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        (substituted, BadSignature, "encapsulation of h000: not signed by the identity key"),
        (swapped, BadSignature, "encapsulation of h000: not signed"),
        (of_another_session, ProtocolViolation, "encapsulation of h000: it is for session 99"),
        (of_another_directory, ProtocolViolation, "h000: it is for directory_digest"),
        (anothers, ProtocolViolation, "encapsulation of h000: it is for recipient h001"),
        (relabelled, ProtocolViolation, "encapsulation of h000: it is for session 11"),
        (lambda _, came: came[:1], ProtocolViolation, "from h000 came, h000, h001 was due"),
        (lambda _federation, _came: [], ProtocolViolation, "from nobody came, h000, h001 was due"),
        (lambda _, came: [*came, came[0]], ProtocolViolation, "from h000, h000, h001 came"),
        (lambda _, came: [came[0], came[0]], ProtocolViolation, "from h000, h000 came"),
    ],
)
def test_encapsulations_that_are_not_those_of_the_peers_are_refused_and_right_ones_still_taken(
    three: MaskedFleet, change: Change, error: type[ProtocolViolation], reason: str
) -> None:
    parts = agreements(three)
    sent = sent_in(three, parts)
    came = received_by("h002", sent)
    with pytest.raises(error, match=reason):
        parts["h002"].finish(change(three, came))
    roots = parts["h002"].finish(came)._roots
    assert roots["h000"] == parts["h000"].finish([])._roots["h002"]


def test_a_sender_that_gives_two_peers_different_directories_is_seen(three: MaskedFleet) -> None:
    parts = agreements(three)
    sent = sent_in(three, parts)
    lie = resigned(three, received_by("h001", sent)[0], directory_digest="77" * 32)
    with pytest.raises(ProtocolViolation, match="it is for directory_digest 7777"):
        parts["h001"].finish([lie])


def test_secrets_are_given_for_a_session_once(three: MaskedFleet) -> None:
    parts = agreements(three)
    sent = sent_in(three, parts)
    parts["h001"].finish(received_by("h001", sent))
    with pytest.raises(ProtocolViolation, match="encapsulations for h001: agreed already"):
        parts["h001"].finish(received_by("h001", sent))


def test_nobody_finishes_before_its_own_encapsulations_were_made(three: MaskedFleet) -> None:
    with pytest.raises(ProtocolViolation, match="for h000: they came before our own"):
        agreements(three)["h000"].finish([])


def test_a_ciphertext_that_was_changed_before_it_was_signed_gives_another_root(
    three: MaskedFleet,
) -> None:
    """FIPS 203 gives no error then; the commitments of the first round show it."""
    parts = agreements(three)
    sent = sent_in(three, parts)
    [right] = received_by("h001", sent)
    flipped = bytes([right.ciphertext[0] ^ 1]) + right.ciphertext[1:]
    root = parts["h001"].finish([resigned(three, right, ciphertext=flipped)])._roots["h000"]
    assert root != parts["h000"].finish([])._roots["h001"]


# --- what the coordinator checks, and bytes ------------------------------------------------------


def test_the_coordinator_relays_only_what_a_sender_owes(three: MaskedFleet) -> None:
    sent = sent_in(three, agreements(three))["h000"]

    def check(encapsulations: list[Encapsulation], sender: str = "h000") -> None:
        key = three.identity_keys[sender]
        check_encapsulations(encapsulations, three.directory, sender=sender, identity_key=key)

    check(list(sent))
    check([], sender="h002")
    for wrong, reason in (
        (sent[:1], "encapsulations of h000: to h001 came, h001, h002 was due"),
        (sent[::-1], "to h002, h001 came"),
        ((*sent, sent[1]), "to h001, h002, h002 came"),
        ((sent[0], dataclasses.replace(sent[1], sender="h001")), "one is h001's"),
        ((sent[0], dataclasses.replace(sent[1], session="aa" * 16)), "it is for session aa"),
        ((sent[0], dataclasses.replace(sent[1], signature=bytes(64))), "not signed by the"),
    ):
        with pytest.raises(ProtocolViolation, match=reason):
            check(list(wrong))


def test_an_encapsulation_survives_json_and_is_strict(three: MaskedFleet) -> None:
    one = sent_in(three, agreements(three))["h000"][0]
    value = one.to_json()
    assert Encapsulation.from_json(value) == one
    assert len(one.ciphertext) == CIPHERTEXT_BYTES
    for changes, reason in (
        ({"extra": 1}, "encapsulation: unknown extra"),
        ({"ciphertext": "00"}, "encapsulation: ciphertext: 2176 lower-case hex digits due"),
        ({"signature": value["signature"].upper()}, "encapsulation: signature"),
        ({"sender": "Mallory"}, "encapsulation: sender: a hospital's name"),
        ({"recipient": None}, "encapsulation: recipient: a hospital's name"),
        ({"directory_digest": "aa"}, "encapsulation of h000: directory_digest: 64"),
    ):
        with pytest.raises(ProtocolViolation, match=reason):
            Encapsulation.from_json(value | changes)
    del value["run"]
    with pytest.raises(ProtocolViolation, match="encapsulation: missing run"):
        Encapsulation.from_json(value)


def test_a_ciphertext_of_another_length_is_refused(three: MaskedFleet) -> None:
    one = sent_in(three, agreements(three))["h000"][0]
    with pytest.raises(ProtocolViolation, match="1087 bytes of ciphertext came, 1088 were due"):
        dataclasses.replace(one, ciphertext=one.ciphertext[1:])
    with pytest.raises(ProtocolViolation, match="encapsulation of h001: 5 bytes of ciphertext"):
        RunKey.generate(seeded("any")).decapsulate(bytes(5), peer="h001")


def test_nothing_secret_is_in_a_text(three: MaskedFleet) -> None:
    part = agreements(three)["h000"]
    text = repr(part) + repr(part.encapsulations(three["h000"].identity))
    secrets = [*part._kem_secrets.values(), *part._agreed.values()]
    assert len(secrets) == 4
    assert not any(secret.hex() in text or repr(secret) in text for secret in secrets)
    part.finish([])
    assert (part._run_key, part._agreed, part._kem_secrets) == (None, {}, {})
