"""Every lie that the design names, told with real bytes: who is refused, and who is named.

Of hospitals, and of a coordinator that puts other keys, rounds or models in their place.
"""

import dataclasses

import numpy as np
import pytest
from tests.support.masked_attempts import MaskedAttempt, as_update, carried, give
from tests.support.masked_hospitals import MaskedFleet, agree, fleet, seeded

from wardround.errors import BadSignature, ProtocolViolation, QuorumMissed
from wardround.identity import Identity
from wardround.masking.agreement import Agreement, encapsulate_768
from wardround.masking.coordinator_round import Stage
from wardround.masking.directory import Directory
from wardround.masking.packing import unpack
from wardround.masking.run_key import RunKey, sign_run_key
from wardround.masking.survivors import SurvivorsRefused

LANES = 33
NAMES = [f"h{number:03d}" for number in range(7)]


@pytest.fixture(scope="module")
def seven_enrolled() -> MaskedFleet:
    return fleet(7)


@pytest.fixture
def seven(seven_enrolled: MaskedFleet) -> MaskedFleet:
    """Seven hospitals, of which five have to answer at every stage."""
    return seven_enrolled.renewed()


@pytest.fixture
def attempt(seven: MaskedFleet) -> MaskedAttempt:
    return MaskedAttempt(seven, seven.spec(LANES))


# --- who is asked -------------------------------------------------------------------------------


def test_threshold_1(seven: MaskedFleet) -> None:
    for threshold in (0, 1, 2, 4):
        with pytest.raises(ProtocolViolation, match=f"{threshold} came, [25] to"):
            seven.spec(LANES, threshold=threshold)
    assert seven.spec(LANES, threshold=7).threshold == 7


def test_a_cohort_of_1(seven: MaskedFleet) -> None:
    with pytest.raises(ProtocolViolation, match="a cohort of 1 came, the minimum is 2"):
        seven.spec(LANES, cohort=["h000"])
    with pytest.raises(ProtocolViolation, match="1 run keys came, 2 are the fewest"):
        Directory.checked(
            [seven.hospitals[0].entry],
            run=seven.directory.run,
            session=seven.directory.session,
            identity_keys=seven.identity_keys,
        )


def test_a_sybil_that_is_not_on_the_roster(seven: MaskedFleet) -> None:
    run, session = seven.directory.run, seven.directory.session
    sybil = sign_run_key(
        Identity.generate(),
        RunKey.generate(seeded("sybil")),
        run=run,
        session=session,
        hospital="sybil",
    )
    entries = [*seven.directory.entries, sybil]
    with pytest.raises(ProtocolViolation, match="sybil is not on the roster"):
        Directory.checked(entries, run=run, session=session, identity_keys=seven.identity_keys)
    with pytest.raises(ProtocolViolation, match="sybil is not in the directory"):
        seven.hospitals[0].begin(seven.spec(LANES, cohort=[*NAMES, "sybil"]))


def test_a_sybil_among_the_survivors(attempt: MaskedAttempt) -> None:
    attempt.upload(*NAMES)
    attempt.close_uploads()
    ask = attempt.survivors["h000"]
    with_sybil = ask.model_copy(
        update={
            "survivors": (*NAMES, "sybil"),
            "headers": ask.headers | {"sybil": ask.headers["h001"]},
            "shares": ask.shares | {"sybil": ask.shares["h001"]},
        }
    )
    with pytest.raises(SurvivorsRefused, match="sybil is not in the cohort"):
        attempt.rounds["h000"].check_survivors(with_sybil, attempt.fleet.identity_keys)


# --- what is asked ------------------------------------------------------------------------------


def test_a_replayed_round(attempt: MaskedAttempt) -> None:
    attempt.upload("h000")
    with pytest.raises(ProtocolViolation, match="forgotten, attempt 2 at place 2 of the run"):
        attempt.fleet["h000"].begin(attempt.spec)
    attempt.fleet["h000"].begin(dataclasses.replace(attempt.spec, round=2))
    with pytest.raises(ProtocolViolation, match="forgotten, attempt 2 at place 3 of the run"):
        attempt.fleet["h000"].begin(dataclasses.replace(attempt.spec, attempt=2))


def test_a_hospital_that_crashed_has_no_masks_for_the_round_that_it_began(
    attempt: MaskedAttempt,
) -> None:
    """Its run key is gone with the process; with a new one the session does not know it."""
    attempt.upload(*NAMES[:6])
    new_key = RunKey.generate(seeded("after the crash"))
    with pytest.raises(ProtocolViolation, match="our own, is not the one we made"):
        Agreement(new_key, attempt.fleet.directory, "h006", attempt.fleet.identity_keys)
    attempt.close_uploads()
    attempt.sign(*NAMES[:6])
    attempt.close_signatures()
    attempt.reveal(*NAMES[:6])
    assert not attempt.ask_again()
    assert attempt.coordinator.open().tolist() == attempt.plain(NAMES[:6])


def sum_of(attempt: MaskedAttempt, others: MaskedAttempt) -> list[int]:
    """What a coordinator has that adds the vectors of two specs and takes off what it can."""
    total = np.zeros(LANES, np.uint32)
    for upload in (*attempt.uploads.values(), *others.uploads.values()):
        total += unpack(upload.packed, 32, LANES)
    return total.view(np.int32).tolist()


def test_a_model_whose_hash_differs(attempt: MaskedAttempt) -> None:
    """One hospital was told another model: it is named and left out, and the others' sum opens."""
    other = dataclasses.replace(attempt.spec, model_digest="ab" * 32)
    upload = attempt.fleet["h003"].begin(other).upload(attempt.lanes["h003"])
    with pytest.raises(ProtocolViolation, match="update of h003: its header says transcript"):
        give(attempt.coordinator, "h003", as_update(upload), upload.packed.tobytes())
    assert list(attempt.coordinator.faults) == ["h003"]
    rest = [name for name in NAMES if name != "h003"]
    attempt.upload(*rest)
    attempt.close_uploads()
    attempt.sign(*rest)
    attempt.close_signatures()
    attempt.reveal(*rest)
    assert not attempt.ask_again()
    assert attempt.coordinator.open().tolist() == attempt.plain(rest)


def test_two_hospitals_that_were_sent_different_models(attempt: MaskedAttempt) -> None:
    """A coordinator that hides it gets no signature, and of the vectors only noise."""
    other = MaskedAttempt(
        attempt.fleet, dataclasses.replace(attempt.spec, model_digest="ab" * 32), attempt.lanes
    )
    attempt.upload(*NAMES[:5])
    other.upload(*NAMES[5:])
    attempt.close_uploads()
    ask = attempt.survivors["h000"]
    lie = ask.model_copy(
        update={
            "survivors": tuple(NAMES),
            "headers": ask.headers
            | {
                name: ask.headers["h001"].model_copy(
                    update={
                        "header": other.uploads[name].header.to_json(),
                        "signature": other.uploads[name].signature.hex(),
                    }
                )
                for name in NAMES[5:]
            },
            "shares": ask.shares | dict.fromkeys(NAMES[5:], ask.shares["h001"]),
        }
    )
    with pytest.raises(SurvivorsRefused, match="update of h005: its header says transcript"):
        attempt.rounds["h000"].check_survivors(carried(lie), attempt.fleet.identity_keys)
    garbage = sum_of(attempt, other)
    assert max(map(abs, garbage)) > attempt.spec.largest_sum
    assert all(lane != due for lane, due in zip(garbage, attempt.plain(NAMES), strict=True))


def test_different_directories(seven: MaskedFleet) -> None:
    """The same hospitals and keys, and one more for three of them: nothing is common to both."""
    larger = fleet(8)
    assert seven.identity_keys.items() <= larger.identity_keys.items()
    spec = seven.spec(LANES)
    with pytest.raises(ProtocolViolation, match="it is for directory"):
        larger["h000"].begin(spec)
    told = dataclasses.replace(spec, directory_digest=larger.directory.digest)
    upload = larger["h000"].begin(told).upload(np.zeros(LANES, np.int32))
    attempt = MaskedAttempt(seven, spec)
    with pytest.raises(ProtocolViolation, match="its header says transcript"):
        give(attempt.coordinator, "h000", as_update(upload), upload.packed.tobytes())
    ours = seven["h001"].secrets._roots
    theirs = larger["h001"].secrets._roots
    assert not set(ours.values()) & set(theirs.values())


# --- keys and shares that are not the hospital's --------------------------------------------


def put_in(federation: MaskedFleet, **changes: bytes) -> list[object]:
    entries = list(federation.directory.entries)
    entries[2] = dataclasses.replace(entries[2], **changes)
    return [entry.to_json() for entry in entries]


def test_a_substituted_key(seven: MaskedFleet) -> None:
    attacker = RunKey.generate(seeded("attacker"))
    for changes in ({"public_key": attacker.public_key}, {"kem_key": attacker.kem_key}):
        with pytest.raises(BadSignature, match="run key of h002: not signed by the identity key"):
            Directory.from_json(
                put_in(seven, **changes),
                run=seven.directory.run,
                session=seven.directory.session,
                identity_keys=seven.identity_keys,
            )


def test_a_substituted_ciphertext(seven: MaskedFleet) -> None:
    parts = {
        each.name: Agreement(each.run_key, seven.directory, each.name, seven.identity_keys)
        for each in seven.hospitals
    }
    sent = [one for n, p in parts.items() for one in p.encapsulations(seven[n].identity)]
    mine = [one for one in sent if one.recipient == "h006"]
    _, ciphertext = encapsulate_768(seven["h006"].run_key.kem_key)
    mine[2] = dataclasses.replace(mine[2], ciphertext=ciphertext)
    with pytest.raises(BadSignature, match="encapsulation of h002: not signed by the identity key"):
        parts["h006"].finish(mine)


def lying_encapsulation(federation: MaskedFleet) -> MaskedFleet:
    """h002 has another secret with h006 than it has sent: only it can do that, not a relay."""
    parts = {
        each.name: Agreement(
            each.run_key, federation.directory, each.name, federation.identity_keys
        )
        for each in federation.hospitals
    }
    for name, part in parts.items():
        part.encapsulations(federation[name].identity)
    parts["h002"]._kem_secrets["h006"] = bytes(32)
    secrets = agree(parts, {each.name: each.identity for each in federation.hospitals})
    return dataclasses.replace(
        federation,
        hospitals=tuple(
            dataclasses.replace(each, secrets=secrets[each.name]) for each in federation.hospitals
        ),
    )


def test_a_pair_whose_secrets_differ_is_found_by_the_coordinator_before_anything_is_added(
    seven: MaskedFleet,
) -> None:
    liar = lying_encapsulation(seven)
    attempt = MaskedAttempt(liar, liar.spec(LANES))
    attempt.upload(*NAMES[:6])
    with pytest.raises(ProtocolViolation, match=r"update of h006: .* of the pair than h002"):
        attempt.upload("h006")
    attempt.close_uploads()
    attempt.sign(*NAMES[:6])
    attempt.close_signatures()
    attempt.reveal(*NAMES[:6])
    assert not attempt.ask_again()
    assert attempt.coordinator.open().tolist() == attempt.plain(NAMES[:6])


def test_a_pair_whose_secrets_differ_is_named_by_both_ends_when_the_coordinator_is_silent(
    seven: MaskedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    liar = lying_encapsulation(seven)
    attempt = MaskedAttempt(liar, liar.spec(LANES))
    monkeypatch.setattr(attempt.coordinator, "_check_shares", lambda *_args, **_named: None)
    attempt.upload(*NAMES)
    attempt.close_uploads()
    attempt.sign("h000", "h001", "h003", "h004", "h005")
    for name, named in (("h002", "h006"), ("h006", "h002")):
        with pytest.raises(SurvivorsRefused, match="another key of our pair") as raised:
            attempt.sign(name)
        assert raised.value.hospital == named
    # Who goes on all the same only finds that the masks did not cancel.
    attempt.close_signatures()
    attempt.reveal(*attempt.reveals)
    assert not attempt.ask_again()
    with pytest.raises(ProtocolViolation, match="did not cancel"):
        attempt.coordinator.open()
    assert attempt.coordinator.stage is Stage.VOID


@pytest.mark.parametrize("word", [0, 4, 8])
def test_a_corrupted_share_names_its_sender(attempt: MaskedAttempt, word: int) -> None:
    attempt.upload(*NAMES)
    attempt.close_uploads()
    attempt.sign(*NAMES[:6])
    attempt.close_signatures()
    attempt.rounds["h001"]._bundles["h006"] = corrupted(attempt, "h001", word)
    attempt.reveal(*NAMES[:6])
    assert not attempt.ask_again()
    assert attempt.coordinator.open().tolist() == attempt.plain(NAMES)
    assert list(attempt.coordinator.faults) == ["h001"]
    reason = attempt.coordinator.faults["h001"]
    assert reason.startswith("its share of the keys of h006 does not fit: dealt wrongly by h006")


def corrupted(attempt: MaskedAttempt, holder: str, word: int) -> np.ndarray:
    bundle = attempt.rounds[holder]._bundles["h006"].copy()
    bundle[0, word] ^= 1
    return bundle


def test_more_corrupted_shares_than_can_be_spared_leave_the_attempt_void(
    attempt: MaskedAttempt,
) -> None:
    attempt.upload(*NAMES)
    attempt.close_uploads()
    attempt.sign(*NAMES[:6])
    attempt.close_signatures()
    for holder in ("h001", "h002"):
        attempt.rounds[holder]._bundles["h006"] = corrupted(attempt, holder, 0)
    attempt.reveal(*NAMES[:6])
    assert not attempt.ask_again()
    with pytest.raises(QuorumMissed, match="keys of h006: shares: no 5 of 6 give"):
        attempt.coordinator.open()
    assert list(attempt.coordinator.faults) == ["h006"]
    assert attempt.coordinator.stage is Stage.VOID
