"""What a message holds: bit-exact there and back, strict, limited before it is read."""

import json

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from wardround.errors import BadInput
from wardround.wire import INLINE_BYTES, PARCEL, WireLimits, check_objects, pack, unpack

SMALL = WireLimits(body_bytes=1000, vector_bytes=40)
LARGE = np.arange(INLINE_BYTES // 4 + 1, dtype=np.uint32)


@given(
    st.dictionaries(st.text(max_size=5), st.integers(-(2**53) + 1, 2**53 - 1), max_size=4),
    st_numpy.arrays(
        st.sampled_from([np.float32, np.uint32, np.int32]), st.integers(0, 50), elements=None
    ),
)
def test_any_body_and_vector_come_back_bit_for_bit(body, vector):
    kind, again, arrived = unpack(pack("masked-update", body, vector))
    assert (kind, again) == ("masked-update", body)
    assert arrived.dtype == vector.dtype
    assert arrived.tobytes() == vector.tobytes()
    assert not arrived.flags.writeable


def test_a_large_body_and_a_large_vector_travel_as_arrays():
    content = pack("log", {"text": "x" * INLINE_BYTES}, LARGE)
    assert set(content) == {PARCEL, "body", "vector"}
    parcel = unpack(content)
    assert len(parcel.body["text"]) == INLINE_BYTES
    assert np.array_equal(parcel.vector, LARGE)


def test_a_message_without_a_vector_has_none():
    assert unpack(pack("open", {})).vector is None


def test_two_messages_of_the_same_content_are_two_objects():
    assert pack("open", {}).object_id != pack("open", {}).object_id


@pytest.mark.parametrize(
    "vector", [np.zeros(3), np.zeros((2, 2), np.float32), np.zeros(3, np.int64)]
)
def test_a_vector_of_another_type_or_shape_is_not_packed(vector):
    with pytest.raises(BadInput, match="vector"):
        pack("update", {}, vector)


def changed(**fields):
    content = pack("update", {"a": 1}, np.zeros(4, np.float32))
    parcel = content[PARCEL]
    for name, value in fields.items():
        if value is None:
            del parcel[name]
        else:
            parcel[name] = value
    return content


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 2},
        {"version": True},
        {"kind": ""},
        {"kind": "a b"},
        {"kind": b"update"},
        {"nonce": b"short"},
        {"nonce": None},
        {"body": None},
        {"body": b'{"a": 1}'},
        {"body": b'{"b":1,"a":1}'},
        {"body": b"[" * 900},
        {"body": b"1" * 1001},
        {"dtype": "object"},
        {"dtype": "float64"},
        {"dtype": None},
        {"vector": None},
        {"vector": b"123"},
        {"vector": "text"},
        {"vector": bytes(44)},
        {"extra": 1},
    ],
)
def test_a_parcel_that_is_not_exactly_what_is_due_is_refused(fields):
    with pytest.raises(BadInput):
        unpack(changed(**fields), limits=SMALL)


def array_record(data=bytes(INLINE_BYTES + 4), **change):
    fields = {"dtype": "uint8", "shape": (len(data),), "stype": "wardround/1 bytes", "data": data}
    return ArrayRecord({"0": Array(**(fields | change))})


@pytest.mark.parametrize(
    "record",
    [
        array_record(bytes(8)),
        array_record(stype="numpy.ndarray"),
        array_record(dtype="float32"),
        array_record(shape=(3,)),
        ArrayRecord({"1": Array(dtype="uint8", shape=(0,), stype="wardround/1 bytes", data=b"")}),
        ArrayRecord(),
        ConfigRecord({"0": 1}),
    ],
)
def test_a_vector_record_that_is_not_exactly_what_is_due_is_refused(record):
    content = pack("update", {}, LARGE)
    content["vector"] = record
    with pytest.raises(BadInput):
        unpack(content)


def test_other_records_are_refused():
    content = pack("update", {})
    content["code"] = ConfigRecord({"a": 1})
    for bad in (content, RecordDict(), RecordDict({"vector": ConfigRecord()})):
        with pytest.raises(BadInput):
            unpack(bad)


def objects_of(content):
    return {name: part.deflate() for name, part in get_all_nested_objects(content).items()}


def test_an_array_that_names_a_chunk_a_thousand_times_is_refused_before_it_is_inflated():
    objects = objects_of(pack("update", {}, LARGE))
    limits = WireLimits(body_bytes=1000, vector_bytes=8 * len(LARGE))
    check_objects(objects, limits=limits)
    (name,) = [name for name, content in objects.items() if content.startswith(b"Array ")]
    head, _, body = objects[name].partition(b"\x00")
    described = json.loads(body)
    described["arraychunk_ids"] = described["arraychunk_ids"] * 1000
    grown = json.dumps(described).encode()
    head = b" ".join([*head.split(b" ")[:2], str(len(grown)).encode()])
    with pytest.raises(BadInput, match="would need"):
        check_objects(objects | {name: head + b"\x00" + grown}, limits=limits)
    for junk in (b"{}", b"[", b'{"arraychunk_ids": 7}', b'{"arraychunk_ids": ["a"]}', b" " * 20000):
        with pytest.raises(BadInput):
            check_objects(objects | {name: head + b"\x00" + junk}, limits=limits)


def test_too_many_objects_or_bytes_are_refused():
    objects = objects_of(pack("update", {}, np.tile(LARGE, 2)))
    with pytest.raises(BadInput, match="bytes"):
        check_objects(objects, limits=SMALL)
    many = {str(index): b"" for index in range(100)}
    with pytest.raises(BadInput, match="objects"):
        check_objects(many, limits=SMALL)
