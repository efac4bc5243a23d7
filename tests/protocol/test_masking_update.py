"""What is masked, accepted and added; and what is refused by its name."""

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from tests.support.masked_attempts import MaskedAttempt
from tests.support.masked_hospitals import MaskedFleet, constant_lanes, fleet

from wardround.errors import BadInput, BadSignature, ProtocolViolation, QuorumMissed, WardroundError
from wardround.masking.coordinator_round import CoordinatorRound, KeysDisputed
from wardround.masking.hospital_round import Upload
from wardround.masking.keystream import ENGINES, Keystream, open_keystream, self_test
from wardround.masking.quantise import choose_scale, counts_to_lanes, largest_limit, quantise
from wardround.masking.round_spec import RoundSpec

LANES = 6


@pytest.fixture
def three() -> MaskedFleet:
    return fleet(3)


# --- what may be masked -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros(LANES, np.int64), "int64"),
        (np.zeros(LANES, np.uint32), "uint32"),
        (np.zeros(LANES, np.complex64), "complex64"),
        (np.zeros(LANES + 1, np.int32), r"shape \(7,\) came, shape \(6,\) was due"),
        (np.zeros((LANES, 1), np.int32), r"shape \(6, 1\) came"),
        (np.full(LANES, -101, np.int32), "6 of 6 lanes are beyond the limit 100"),
        (np.full(LANES, -(2**31), np.int32), "6 of 6 lanes are beyond the limit 100"),
        (np.full(LANES, np.nan, np.float32), "6 of 6 values are NaN or infinite"),
    ],
)
def test_values_that_are_not_what_the_spec_says_are_not_masked_and_use_up_no_mask(
    three: MaskedFleet, values: Any, reason: str
) -> None:
    spec = three.spec(LANES, limit=100)
    own = three.hospitals[0].begin(spec)
    with pytest.raises(ProtocolViolation, match=f"update.*: .*{reason}"):
        own.upload(values)
    assert own.upload(constant_lanes(LANES)).header.hospital == "h000"


def test_masking_leaves_the_values_as_they_were(three: MaskedFleet) -> None:
    lanes, values = constant_lanes(LANES), np.full(LANES, 0.5, np.float32)
    three.hospitals[0].answer(lanes, three.spec(LANES))
    three.hospitals[0].answer(values, three.spec(LANES, attempt=2))
    assert lanes.tolist() == [7] * LANES
    assert values.tolist() == [0.5] * LANES


@pytest.mark.parametrize("bits", [20, 24, 32])
def test_floats_are_scaled_by_the_spec_on_their_way(three: MaskedFleet, bits: int) -> None:
    spec = three.spec(4, bits=bits, scale=1024.0)
    values = np.array([0.5, -0.25, 1e9, 1 / 3], np.float32)
    attempt = MaskedAttempt(three, spec, dict.fromkeys(three.names, values))
    lanes = quantise(values, scale=1024.0, limit=spec.limit)
    assert lanes.tolist() == [512, -256, spec.limit, 341]
    assert attempt.run() == [3 * lane for lane in lanes.tolist()]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_update_with_nan_or_infinity_is_refused_by_count_and_no_value_is_shown(
    bad: float,
) -> None:
    values = np.array([0.123456, bad, 2.0, bad], np.float32)
    with pytest.raises(ProtocolViolation) as raised:
        quantise(values, scale=2.0, limit=10)
    assert str(raised.value) == "update: 2 of 4 values are NaN or infinite, none may be"


def test_nan_in_a_later_block_is_counted_too() -> None:
    values = np.zeros(100_000)
    values[[0, 50_000, 99_999]] = np.nan
    with pytest.raises(ProtocolViolation, match="3 of 100000 values"):
        quantise(values, scale=2.0, limit=10)


def test_what_is_not_a_vector_of_floats_is_not_quantised() -> None:
    for values in (np.zeros((2, 2)), np.zeros(2, np.int64), np.zeros(2, np.complex128)):
        with pytest.raises(ProtocolViolation, match="a vector of floats was due"):
            quantise(values, scale=2.0, limit=10)


def test_counts_are_never_clipped() -> None:
    assert counts_to_lanes(np.array([0, 5], np.uint64), limit=5).tolist() == [0, 5]
    for counts in ([-1, 2], [6, 2]):
        with pytest.raises(ProtocolViolation, match="counts: 1 of 2 are not between 0 and"):
            counts_to_lanes(np.array(counts), limit=5)
    with pytest.raises(ProtocolViolation, match="a vector of integers was due"):
        counts_to_lanes(np.array([1.0]), limit=5)


def test_a_bound_or_a_cohort_without_a_scale_is_refused() -> None:
    for bound in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(BadInput, match="scale: the bound is"):
            choose_scale(bound, 4)
    with pytest.raises(BadInput, match="leaves no bit"):
        choose_scale(1e300, 4)
    for hospitals in (0, 2**31):
        with pytest.raises(BadInput, match="limit: "):
            largest_limit(hospitals)


# --- what the coordinator accepts ---------------------------------------------------------------

Sent = dict[str, Any]
Change = Callable[[MaskedFleet, RoundSpec, Sent], None]


def sent_by(upload: Upload) -> Sent:
    packed = upload.packed.tobytes()
    return {
        "hospital": upload.header.hospital,
        "header_json": upload.header.to_json(),
        "signature": upload.signature,
        "shares": upload.shares,
        "blocks": lambda: [packed[:5], packed[5:]],
        "digest": sha256(packed).hexdigest(),
        "size_bytes": len(packed),
    }


def replayed(federation: MaskedFleet, _: RoundSpec, sent: Sent) -> None:
    earlier = federation.renewed().hospitals[0]
    sent |= sent_by(earlier.answer(constant_lanes(LANES), federation.spec(LANES, attempt=7)))


def replayed_vector(federation: MaskedFleet, spec: RoundSpec, sent: Sent) -> None:
    replayed(federation, spec, sent)
    sent["header_json"]["transcript"] = spec.transcript().hex()


def another_senders(federation: MaskedFleet, spec: RoundSpec, sent: Sent) -> None:
    other = federation.hospitals[1].answer(constant_lanes(LANES), spec)
    sent |= sent_by(other) | {"hospital": "h000"}


def another_vector(_federation: MaskedFleet, _spec: RoundSpec, sent: Sent) -> None:
    packed = bytes(4 * LANES)
    sent |= {"blocks": lambda: [packed], "digest": sha256(packed).hexdigest()}


def other_shares(_federation: MaskedFleet, _spec: RoundSpec, sent: Sent) -> None:
    one, other = sent["shares"].values()
    sent["shares"] = dict(zip(sent["shares"], (other, one), strict=True))


def without_a_peer(_federation: MaskedFleet, _spec: RoundSpec, sent: Sent) -> None:
    sent["shares"] = {"h001": sent["shares"]["h001"]}


def with_itself(_federation: MaskedFleet, _spec: RoundSpec, sent: Sent) -> None:
    sent["shares"] = sent["shares"] | {"h000": sent["shares"]["h001"]}


def shorter_shares(_federation: MaskedFleet, _spec: RoundSpec, sent: Sent) -> None:
    share = sent["shares"]["h001"]
    short = share.model_copy(update={"sealed": share.sealed[:-2]})
    sent["shares"] = sent["shares"] | {"h001": short}


def setting(name: str, value: Any) -> Change:
    return lambda _federation, _spec, sent: sent.__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        (replayed, ProtocolViolation, "its header says transcript"),
        (replayed_vector, BadSignature, "its header is not signed by the identity key"),
        (another_senders, ProtocolViolation, "its header says hospital h001, h000 was due"),
        (setting("signature", bytes(64)), BadSignature, "is not signed"),
        (setting("signature", b""), BadSignature, "is not signed"),
        (another_vector, ProtocolViolation, "its header says update_digest"),
        (setting("shares", None), ProtocolViolation, "its shares are not for its peers"),
        (without_a_peer, ProtocolViolation, "its shares are not for its peers"),
        (with_itself, ProtocolViolation, "its shares are not for its peers"),
        (other_shares, ProtocolViolation, "not those of its header's pairs_root"),
        (shorter_shares, ProtocolViolation, "its sealed shares are not 124 bytes each"),
        (setting("size_bytes", 4 * LANES - 1), ProtocolViolation, "23 bytes came, 24 were due"),
    ],
)
def test_an_update_that_is_not_the_hospitals_for_this_spec_is_refused_and_it_is_named(
    three: MaskedFleet, change: Change, error: type[WardroundError], reason: str
) -> None:
    spec = three.spec(LANES)
    attempt = MaskedAttempt(three, spec)
    coordinator = attempt.coordinator
    attempt.rounds["h000"] = three.hospitals[0].begin(spec)
    right = sent_by(attempt.rounds["h000"].upload(attempt.lanes["h000"]))
    wrong = dict(right)
    change(three.renewed(), spec, wrong)
    with pytest.raises(error, match=reason):
        coordinator.take_upload(**wrong)
    assert reason.rsplit(maxsplit=1)[-1] in coordinator.faults["h000"]
    # What was refused has changed nothing: the right one is taken, and the sum is right.
    coordinator.take_upload(**right)
    attempt.upload("h001", "h002")
    attempt.close_uploads()
    attempt.sign(*three.names)
    attempt.close_signatures()
    attempt.reveal(*three.names)
    assert not attempt.ask_again()
    assert coordinator.open().tolist() == attempt.plain()


def test_a_header_with_a_field_more_or_less_is_refused(three: MaskedFleet) -> None:
    coordinator = CoordinatorRound(three.spec(LANES), three.identity_keys)
    right = sent_by(three.hospitals[0].answer(constant_lanes(LANES), coordinator.spec))
    header = right["header_json"]
    with pytest.raises(ProtocolViolation, match="update header: unknown loss"):
        coordinator.take_upload(**right | {"header_json": header | {"loss": 0.3}})
    without = {name: value for name, value in header.items() if name != "pairs_root"}
    with pytest.raises(ProtocolViolation, match="update header: missing pairs_root"):
        coordinator.take_upload(**right | {"header_json": without})
    with pytest.raises(ProtocolViolation, match="self_commitment and pairs_root come together"):
        coordinator.take_upload(**right | {"header_json": header | {"pairs_root": None}})


def test_a_header_of_the_other_profile_is_refused(three: MaskedFleet) -> None:
    own = three.hospitals[0]
    for number, (profile, other) in enumerate(
        (("one-trip", "double-mask"), ("double-mask", "one-trip"))
    ):
        right = three.spec(LANES, profile=profile, round=number)
        coordinator = CoordinatorRound(right, three.identity_keys)
        upload = own.answer(constant_lanes(LANES), three.spec(LANES, profile=other, round=number))
        header = upload.header.to_json() | {"transcript": coordinator.spec.transcript().hex()}
        with pytest.raises(ProtocolViolation, match=f"the round's profile is {profile}"):
            coordinator.take_upload(**sent_by(upload) | {"header_json": header})


def test_shares_with_a_one_trip_update_are_refused(three: MaskedFleet) -> None:
    coordinator = CoordinatorRound(three.spec(LANES, profile="one-trip"), three.identity_keys)
    right = sent_by(three.hospitals[0].answer(constant_lanes(LANES), coordinator.spec))
    assert right["shares"] is None
    with pytest.raises(ProtocolViolation, match="shares came, none were due with one trip"):
        coordinator.take_upload(**right | {"shares": {}})


def test_a_second_update_of_a_hospital_is_refused_and_no_fault(three: MaskedFleet) -> None:
    coordinator = CoordinatorRound(three.spec(LANES), three.identity_keys)
    right = sent_by(three.hospitals[0].answer(constant_lanes(LANES), coordinator.spec))
    coordinator.take_upload(**right)
    with pytest.raises(ProtocolViolation, match="update of h000: a second one"):
        coordinator.take_upload(**right)
    assert coordinator.faults == {}
    assert coordinator.survivors == ("h000",)


def test_an_upload_that_commits_to_another_key_of_a_pair_than_its_peer_is_refused(
    three: MaskedFleet,
) -> None:
    """Both together would never cancel: the second of the pair is left out, and named."""
    spec = three.spec(LANES)
    attempt = MaskedAttempt(three, spec)
    attempt.upload("h000", "h001")
    three["h002"].secrets._later["h001"] = bytes(32)
    with pytest.raises(KeysDisputed, match=r"update of h002: .* of the pair than h001") as raised:
        attempt.upload("h002")
    assert raised.value.peers == ("h001",)
    assert list(attempt.coordinator.faults) == ["h002"]


# --- one trip -----------------------------------------------------------------------------------


def one_trip(federation: MaskedFleet, *names: str, **changes: object) -> CoordinatorRound:
    attempt = MaskedAttempt(federation, federation.spec(LANES, profile="one-trip", **changes))
    attempt.lanes = dict.fromkeys(attempt.lanes, constant_lanes(LANES))
    attempt.upload(*names)
    return attempt.coordinator


def test_with_one_trip_the_sum_opens_straight_after_the_uploads(three: MaskedFleet) -> None:
    coordinator = one_trip(three, *three.names)
    assert coordinator.close_uploads() == {}
    assert coordinator.still_needed() == {}
    assert coordinator.open().tolist() == [21] * LANES
    assert coordinator.sum_digest == sha256(np.full(LANES, 21, "<i4").tobytes()).hexdigest()
    with pytest.raises(ProtocolViolation, match="no keys have opened the sum"):
        coordinator.mask_keys()


def test_with_one_trip_a_missing_hospital_leaves_no_sum_and_is_named(three: MaskedFleet) -> None:
    coordinator = one_trip(three, "h000", "h001")
    assert coordinator.missing == ("h002",)
    with pytest.raises(
        QuorumMissed,
        match="round 2, attempt 1: 2 of 3 hospitals uploaded, 3 were due; without h002",
    ):
        coordinator.close_uploads()
    for refused in (coordinator.close_uploads, coordinator.open):
        with pytest.raises(ProtocolViolation, match="is at void"):
            refused()
    with pytest.raises(ProtocolViolation, match="the sum is not open"):
        _ = coordinator.sum_digest


def test_a_new_attempt_without_the_missing_hospital_gives_the_sum(three: MaskedFleet) -> None:
    coordinator = one_trip(three, "h000", "h001", attempt=2, cohort=["h000", "h001"])
    coordinator.close_uploads()
    assert coordinator.open().tolist() == [14] * LANES


# --- the keystream's self test ------------------------------------------------------------------


class BrokenBeyondTheFirstBlocks:
    """An engine like that of openssl#32883: right for short inputs, wrong in the wide loop."""

    def __init__(self, key: bytes, *, wrong_from: int) -> None:
        self._inner, self._wrong_from = open_keystream(key), wrong_from

    def update_into(self, data: bytes | memoryview, buf: bytearray | memoryview) -> int:
        written = self._inner.update_into(data, buf)
        buf[self._wrong_from] ^= 1
        return written


@pytest.mark.parametrize("wrong_from", [0, 16, 4096, 4 * 2**16 - 1])
def test_an_engine_with_one_wrong_bit_fails_the_self_test(wrong_from: int) -> None:
    def engine(key: bytes) -> Keystream:
        return BrokenBeyondTheFirstBlocks(key, wrong_from=wrong_from)

    with pytest.raises(WardroundError, match="fails its known-answer test"):
        self_test(engine)
    for engine_here in ENGINES:
        self_test(engine_here.open)


def test_an_upload_shows_no_values_and_no_shares(three: MaskedFleet) -> None:
    upload = three.hospitals[0].answer(constant_lanes(LANES), three.spec(LANES))
    text = repr(upload)
    assert "h000" in text
    assert str(upload.packed[0]) + "," not in text
    assert not any(share.sealed[:16] in text for share in upload.shares.values())
