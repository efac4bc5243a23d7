"""What is masked, accepted and added; and what is refused by its name."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.support.masked_hospitals import RUN, SESSION, MaskedFleet, constant_lanes, fleet

from wardround.errors import BadInput, BadSignature, ProtocolViolation, QuorumMissed, WardroundError
from wardround.masking.accumulator import Accumulator
from wardround.masking.directory import Directory
from wardround.masking.keystream import Keystream, open_keystream, self_test
from wardround.masking.quantise import choose_scale, counts_to_lanes, largest_limit, quantise
from wardround.masking.round_spec import RoundSpec
from wardround.masking.run_key import SignedRunKey
from wardround.masking.update import MaskedUpdate, check_update, mask

LANES = 6


@pytest.fixture
def three() -> MaskedFleet:
    return fleet(3)


def directory_of(entries: list[SignedRunKey], federation: MaskedFleet) -> Directory:
    return Directory.checked(
        entries, run=RUN, session=SESSION, identity_keys=federation.identity_keys
    )


# --- what may be masked -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lanes", "reason"),
    [
        (np.zeros(LANES, np.int64), r"int64 of shape \(6,\) came, int32 of shape \(6,\) was due"),
        (np.zeros(LANES, np.float32), "float32"),
        (np.zeros(LANES + 1, np.int32), r"shape \(7,\) came"),
        (np.zeros((LANES, 1), np.int32), r"shape \(6, 1\) came"),
        (np.full(LANES, -101, np.int32), "6 of 6 lanes are beyond the limit 100"),
        (np.full(LANES, -(2**31), np.int32), "6 of 6 lanes are beyond the limit 100"),
    ],
)
def test_lanes_that_are_not_what_the_spec_says_are_not_masked(
    three: MaskedFleet, lanes: Any, reason: str
) -> None:
    own, spec = three.hospitals[0], three.spec(LANES, limit=100)
    masks = own.secrets.round_masks(spec)
    with pytest.raises(ProtocolViolation, match=f"update of h000: .*{reason}"):
        mask(lanes, spec, masks, identity=own.identity, hospital=own.name)
    assert not masks.spent


def test_masks_of_another_attempt_or_hospital_are_refused(three: MaskedFleet) -> None:
    own, other = three.hospitals[:2]
    spec, later = three.spec(LANES), three.spec(LANES, attempt=2)
    for masks in (own.secrets.round_masks(later), other.secrets.round_masks(spec)):
        with pytest.raises(ProtocolViolation, match="update of h000: the masks are h00"):
            mask(constant_lanes(LANES), spec, masks, identity=own.identity, hospital=own.name)


def test_masking_leaves_the_lanes_as_they_were(three: MaskedFleet) -> None:
    lanes = constant_lanes(LANES)
    three.hospitals[0].answer(lanes, three.spec(LANES))
    assert lanes.tolist() == [7] * LANES


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

Change = Callable[[MaskedFleet, RoundSpec, dict[str, Any]], None]


def replayed(federation: MaskedFleet, _: RoundSpec, sent: dict[str, Any]) -> None:
    earlier, signature = federation.hospitals[0].answer(
        constant_lanes(LANES), federation.spec(LANES, round=0)
    )
    sent |= {
        "values": earlier.values,
        "header_json": earlier.header.to_json(),
        "signature": signature,
    }


def replayed_vector(federation: MaskedFleet, spec: RoundSpec, sent: dict[str, Any]) -> None:
    replayed(federation, spec, sent)
    sent["header_json"]["transcript"] = spec.transcript().hex()


def other_senders(federation: MaskedFleet, spec: RoundSpec, sent: dict[str, Any]) -> None:
    update, signature = federation.hospitals[1].answer(constant_lanes(LANES), spec)
    sent |= {
        "values": update.values,
        "header_json": update.header.to_json(),
        "signature": signature,
    }


def setting(name: str, value: Any) -> Change:
    return lambda _federation, _spec, sent: sent.__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        (replayed, ProtocolViolation, "its header says transcript"),
        (replayed_vector, BadSignature, "its header is not signed by the identity key"),
        (other_senders, ProtocolViolation, "its header says hospital h001, h000 was due"),
        (setting("signature", bytes(64)), BadSignature, "is not signed"),
        (setting("signature", b""), BadSignature, "is not signed"),
        (setting("hospital", "sybil"), ProtocolViolation, "it is not in the cohort of round 1"),
        (setting("values", np.zeros(LANES, np.int32)), ProtocolViolation, "int32 of shape"),
        (setting("values", np.full(LANES, np.nan, np.float32)), ProtocolViolation, "float32"),
        (setting("values", np.zeros(LANES, ">u4")), ProtocolViolation, ">u4 of shape"),
        (setting("values", np.zeros(LANES - 1, np.uint32)), ProtocolViolation, r"shape \(5,\)"),
        (setting("values", np.zeros((1, LANES), np.uint32)), ProtocolViolation, r"\(1, 6\)"),
        (setting("values", np.zeros(LANES, np.uint32)), ProtocolViolation, "update_digest"),
    ],
)
def test_an_update_that_is_not_the_hospitals_for_this_spec_is_refused_by_name(
    three: MaskedFleet, change: Change, error: type[WardroundError], reason: str
) -> None:
    own, spec = three.hospitals[0], three.spec(LANES)
    update, signature = own.answer(constant_lanes(LANES), spec)
    sent: dict[str, Any] = {
        "values": update.values,
        "header_json": update.header.to_json(),
        "signature": signature,
        "hospital": own.name,
    }
    key = own.identity.public_key
    assert check_update(**sent, spec=spec, identity_key=key).header == update.header
    change(three, spec, sent)
    with pytest.raises(error, match=f"^update of {sent['hospital']}: .*{reason}"):
        check_update(**sent, spec=spec, identity_key=key)


def test_a_header_with_a_field_more_is_refused(three: MaskedFleet) -> None:
    own, spec = three.hospitals[0], three.spec(LANES)
    update, signature = own.answer(constant_lanes(LANES), spec)
    with pytest.raises(ProtocolViolation, match="update header: unknown loss"):
        check_update(
            update.values,
            update.header.to_json() | {"loss": 0.3},
            signature,
            spec=spec,
            identity_key=own.identity.public_key,
            hospital=own.name,
        )


# --- the accumulator ----------------------------------------------------------------------------


def test_a_missing_hospital_leaves_no_sum_and_is_named(three: MaskedFleet) -> None:
    spec = three.spec(LANES)
    accumulator = Accumulator(spec)
    for each in three.hospitals[:2]:
        accumulator.add(each.name, each.answer(constant_lanes(LANES), spec)[0])
    assert accumulator.missing == ("h002",)
    with pytest.raises(
        QuorumMissed, match=r"round 1, attempt 1: 2 of 3 hospitals answered.*missing: h002"
    ):
        accumulator.sum()
    with pytest.raises(QuorumMissed, match="missing: h002"):
        _ = accumulator.sum_digest


def test_a_new_attempt_without_the_missing_hospital_gives_the_sum(three: MaskedFleet) -> None:
    spec = three.spec(LANES, attempt=2, cohort=["h000", "h001"])
    accumulator = Accumulator(spec)
    for each in three.hospitals[:2]:
        accumulator.add(each.name, each.answer(constant_lanes(LANES), spec)[0])
    assert accumulator.sum().tolist() == [14] * LANES


def test_a_second_update_of_a_hospital_is_refused(three: MaskedFleet) -> None:
    own, spec = three.hospitals[0], three.spec(LANES)
    update, _ = own.answer(constant_lanes(LANES), spec)
    accumulator = Accumulator(spec)
    accumulator.add(own.name, update)
    with pytest.raises(ProtocolViolation, match="update of h000: a second one for round 1"):
        accumulator.add(own.name, update)


def test_the_accumulator_takes_no_stranger_and_no_other_attempt(three: MaskedFleet) -> None:
    own, spec = three.hospitals[0], three.spec(LANES)
    update, _ = own.answer(constant_lanes(LANES), spec)
    accumulator = Accumulator(spec)
    with pytest.raises(ProtocolViolation, match="update of sybil: it is not in the cohort"):
        accumulator.add("sybil", update)
    with pytest.raises(ProtocolViolation, match="update of h001: its header is h000's"):
        accumulator.add("h001", update)
    with pytest.raises(ProtocolViolation, match="update of h000: its header is h000's for trans"):
        Accumulator(three.spec(LANES, attempt=2)).add("h000", update)


def test_the_sum_handed_out_does_not_change_the_accumulator(three: MaskedFleet) -> None:
    spec = three.spec(LANES)
    accumulator = Accumulator(spec)
    for each in three.hospitals:
        accumulator.add(each.name, each.answer(constant_lanes(LANES), spec)[0])
    digest = accumulator.sum_digest
    accumulator.sum()[:] = 0
    assert accumulator.sum_digest == digest
    assert accumulator.sum().tolist() == [21] * LANES


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
    self_test()


def test_a_masked_update_shows_no_values(three: MaskedFleet) -> None:
    update, _ = three.hospitals[0].answer(constant_lanes(LANES), three.spec(LANES))
    assert isinstance(update, MaskedUpdate)
    assert repr(update) == "MaskedUpdate(h000, 6 lanes)"
