"""A key that is not the hospital's own is refused, whoever put it there."""

import dataclasses

import pytest
from tests.support.masked_hospitals import RUN, SESSION, MaskedFleet, fleet, seeded

from wardround.errors import BadSignature, ProtocolViolation
from wardround.identity import Identity
from wardround.masking.agreement import Agreement
from wardround.masking.directory import Directory
from wardround.masking.run_key import RunKey, SignedRunKey, sign_run_key

LANES = 6


@pytest.fixture
def three() -> MaskedFleet:
    return fleet(3)


def directory_of(entries: list[SignedRunKey], federation: MaskedFleet) -> Directory:
    return Directory.checked(
        entries, run=RUN, session=SESSION, identity_keys=federation.identity_keys
    )


# --- the directory ------------------------------------------------------------------------------


def test_a_key_that_the_coordinator_substituted_is_refused(three: MaskedFleet) -> None:
    attacker = RunKey.generate(seeded("attacker"))
    entries = list(three.directory.entries)
    entries[1] = dataclasses.replace(entries[1], public_key=attacker.public_key)
    with pytest.raises(BadSignature, match="run key of h001: not signed by the identity key"):
        directory_of(entries, three)


def test_an_ml_kem_key_that_the_coordinator_substituted_is_refused(three: MaskedFleet) -> None:
    attacker = RunKey.generate(seeded("attacker"))
    entries = list(three.directory.entries)
    entries[1] = dataclasses.replace(entries[1], kem_key=attacker.kem_key)
    with pytest.raises(BadSignature, match="run key of h001: not signed by the identity key"):
        directory_of(entries, three)


def test_a_key_signed_by_another_identity_is_refused(three: MaskedFleet) -> None:
    entries = list(three.directory.entries)
    entries[1] = sign_run_key(
        Identity.generate(),
        RunKey.generate(seeded("attacker")),
        run=RUN,
        session=SESSION,
        hospital="h001",
    )
    with pytest.raises(BadSignature, match="run key of h001"):
        directory_of(entries, three)


def test_a_hospital_that_is_not_on_the_roster_is_refused(three: MaskedFleet) -> None:
    sybil = sign_run_key(
        Identity.generate(),
        RunKey.generate(seeded("sybil")),
        run=RUN,
        session=SESSION,
        hospital="sybil",
    )
    with pytest.raises(ProtocolViolation, match="sybil is not on the roster"):
        directory_of([*three.directory.entries, sybil], three)


def test_a_hospital_listed_twice_is_refused(three: MaskedFleet) -> None:
    entries = [*three.directory.entries, three.directory.entries[0]]
    with pytest.raises(ProtocolViolation, match="h000 is listed twice"):
        directory_of(entries, three)


def test_a_run_key_copied_from_another_hospital_is_refused(three: MaskedFleet) -> None:
    first, second = three.hospitals[:2]
    mixed = RunKey(first.run_key.key, second.run_key.secret_kem_key)
    other = RunKey(second.run_key.key, first.run_key.secret_kem_key)
    for run_key in (first.run_key, mixed, other):
        copied = sign_run_key(
            second.identity, run_key, run=RUN, session=SESSION, hospital=second.name
        )
        with pytest.raises(ProtocolViolation, match="h000, h001 share one run key"):
            directory_of([first.entry, copied, three.hospitals[2].entry], three)


@pytest.mark.parametrize(("field", "value"), [("run", "aa" * 16), ("session", "bb" * 16)])
def test_a_run_key_of_another_run_or_session_is_refused(
    three: MaskedFleet, field: str, value: str
) -> None:
    other = fleet(3, **{field: value})
    with pytest.raises(ProtocolViolation, match=f"run key of h000 is for {field} {value}, this is"):
        directory_of(list(other.directory.entries), three)


def test_a_run_key_whose_run_was_rewritten_is_refused(three: MaskedFleet) -> None:
    other = fleet(3, run="aa" * 16)
    entries = [dataclasses.replace(entry, run=RUN) for entry in other.directory.entries]
    with pytest.raises(BadSignature, match="run key of h000"):
        directory_of(entries, three)


def test_a_directory_of_one_is_refused(three: MaskedFleet) -> None:
    with pytest.raises(ProtocolViolation, match="1 run keys came, 2 are the fewest"):
        directory_of([three.directory.entries[0]], three)


def test_a_forged_directory_cannot_be_built_past_the_check(three: MaskedFleet) -> None:
    attacker = RunKey.generate(seeded("attacker"))
    forged = dataclasses.replace(three.directory.entries[1], public_key=attacker.public_key)
    with pytest.raises(BadSignature):
        Directory(
            entries=(three.directory.entries[0], forged),
            run=RUN,
            session=SESSION,
            identity_keys=three.identity_keys,
        )
    with pytest.raises((TypeError, ValueError)):  # identity_keys are asked for again
        dataclasses.replace(three.directory, entries=(three.directory.entries[0], forged))


def test_a_longer_directory_than_the_roster_is_refused_before_a_signature_is_checked(
    three: MaskedFleet,
) -> None:
    with pytest.raises(ProtocolViolation, match="4 run keys came, the roster has 3"):
        Directory.from_json([{}] * 4, run=RUN, session=SESSION, identity_keys=three.identity_keys)


def test_a_directory_survives_json_and_its_order_does_not_matter(three: MaskedFleet) -> None:
    again = Directory.from_json(
        three.directory.to_json()[::-1],
        run=RUN,
        session=SESSION,
        identity_keys=three.identity_keys,
    )
    assert again == three.directory
    assert again.digest == three.directory.digest


# --- agreement ----------------------------------------------------------------------------------


def test_a_directory_without_our_own_key_is_refused(three: MaskedFleet) -> None:
    own = three.hospitals[0]
    without = directory_of(list(three.directory.entries[1:]), three)
    with pytest.raises(ProtocolViolation, match="run key of h000, our own, is missing"):
        Agreement(own.run_key, without, own.name, three.identity_keys)


def test_a_directory_with_an_older_key_of_ours_is_refused(three: MaskedFleet) -> None:
    with pytest.raises(ProtocolViolation, match="our own, is not the one we made"):
        Agreement(RunKey.generate(seeded("newer")), three.directory, "h000", three.identity_keys)


def test_a_directory_with_another_ml_kem_key_of_ours_is_refused(three: MaskedFleet) -> None:
    own = three.hospitals[0].run_key
    mixed = RunKey(own.key, RunKey.generate(seeded("newer")).secret_kem_key)
    with pytest.raises(ProtocolViolation, match="our own, is not the one we made"):
        Agreement(mixed, three.directory, "h000", three.identity_keys)


# RFC 7748 section 7 and Bernstein's list: points whose order divides 8, reduced spellings.
LOW_ORDER = {
    "zero": bytes(32),
    "one": (1).to_bytes(32, "little"),
    "order 8, first": bytes.fromhex(
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"
    ),
    "order 8, second": bytes.fromhex(
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"
    ),
    "minus one": (2**255 - 20).to_bytes(32, "little"),
}


@pytest.mark.parametrize("point", LOW_ORDER.values(), ids=LOW_ORDER)
def test_a_low_order_key_is_refused_before_it_stands_in_a_directory(
    three: MaskedFleet, point: bytes
) -> None:
    """Who puts it into a directory is refused when it comes, not when all have agreed on it."""
    bad = three.hospitals[1]
    with pytest.raises(ProtocolViolation, match="run key of h001: a low-order point came"):
        dataclasses.replace(bad.entry, public_key=point)
    with pytest.raises(ProtocolViolation, match="run key of h001: a low-order point came"):
        SignedRunKey.from_json({**bad.entry.to_json(), "public_key": point.hex()})
    with pytest.raises(ProtocolViolation, match="run key of h001: a low-order point came"):
        three.hospitals[0].run_key.agree(point, peer="h001")


def test_a_second_spelling_of_a_key_is_refused(three: MaskedFleet) -> None:
    for spelling in (2**255 - 19 + 9, 2**255 + 9):
        with pytest.raises(ProtocolViolation, match="run key of h000: not a reduced X25519"):
            dataclasses.replace(
                three.directory.entries[0], public_key=spelling.to_bytes(32, "little")
            )


def test_an_ml_kem_key_that_is_not_reduced_is_refused_though_its_hospital_signed_it(
    three: MaskedFleet,
) -> None:
    entry = three.directory.entries[1]
    bad = b"\xff" * 3 + entry.kem_key[3:]  # two coefficients of 4095, q is 3329 (FIPS 203, 7.2)
    with pytest.raises(ProtocolViolation, match="run key of h001: not an ML-KEM-768 key"):
        dataclasses.replace(entry, kem_key=bad)


@pytest.mark.parametrize(
    ("name", "size"), [("public_key", 31), ("kem_key", 1183), ("kem_key", 1568), ("signature", 63)]
)
def test_a_run_key_of_another_length_is_refused(three: MaskedFleet, name: str, size: int) -> None:
    entry = three.directory.entries[0]
    with pytest.raises(ProtocolViolation, match=f"run key of h000: {size} bytes of {name} came"):
        dataclasses.replace(entry, **{name: bytes(size)})
    value = entry.to_json() | {name: bytes(size).hex()}
    with pytest.raises(ProtocolViolation, match=f"run key: {name}: .* lower-case hex digits due"):
        SignedRunKey.from_json(value)


def test_secrets_are_silent(three: MaskedFleet) -> None:
    own = three.hospitals[0]
    secrets = own.secrets.round_secrets(three.spec(LANES))
    keys = [own.run_key.secret_kem_key.private_bytes_raw(), *own.secrets._roots.values()]
    for given in (secrets.pair_keys, secrets.share_out, secrets.share_in):
        keys += given.values()
    assert len(keys) == 1 + 2 + 3 * 2
    for secret in (own.run_key, own.secrets, secrets, own.identity):
        text = repr(secret)
        assert "private" not in text.lower()
        for key in keys:
            assert key.hex() not in text
            assert repr(key) not in text
