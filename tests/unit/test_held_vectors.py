"""Large vectors beside their messages: not copied, referred to strictly, and Flower's as well."""

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from hypothesis import given
from hypothesis import strategies as st

from wardround.canonical import canonical_bytes
from wardround.errors import BadInput
from wardround.framing import frame, unframe
from wardround.held import HeldVector, attach, detach, references_of
from wardround.vectors import SpooledVector, blocks_of, bytes_of, digest_of, in_memory
from wardround.wire import INLINE_BYTES, PARCEL, WireLimits, pack, unpack

LIMIT = 10 * INLINE_BYTES
LIMITS = WireLimits(body_bytes=3 * INLINE_BYTES, vector_bytes=LIMIT)
LOG = {"log": "x" * 2 * INLINE_BYTES}
PACKED = np.random.default_rng(1).integers(0, 256, 2 * INLINE_BYTES + 1, dtype=np.uint8)


def spooled(content, dtype="uint8"):
    import os
    import tempfile

    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return SpooledVector(os.dup(file.fileno()), dtype=dtype, nbytes=len(content), digest="x")


def test_a_large_vector_is_not_copied_into_its_message():
    content = pack("update", {}, PACKED)
    held = content["vector"]
    assert isinstance(held, HeldVector)
    assert np.shares_memory(held.vector, PACKED)
    assert np.shares_memory(unpack(content).vector, PACKED)
    assert not unpack(content).vector.flags.writeable
    assert PACKED.flags.writeable


def test_a_stock_flower_carries_the_same_message_in_its_own_objects():
    content = pack("update", {"a": 1}, PACKED)
    objects = {name: part.deflate() for name, part in get_all_nested_objects(content).items()}
    assert len(objects) > 4
    again = inflate_object_from_contents(content.object_id, objects)
    assert isinstance(again, RecordDict)
    assert type(again["vector"]).__name__ == "ArrayRecord"
    parcel = unpack(again)
    assert (parcel.kind, parcel.body) == ("update", {"a": 1})
    assert parcel.vector.tobytes() == PACKED.tobytes()


def test_a_detached_message_is_small_and_attached_it_is_the_same():
    content = pack("update", {"a": 1}, PACKED)
    slim, (held,) = detach(content)
    assert "vector" in content
    assert set(slim) == {PARCEL}
    with pytest.raises(BadInput, match="unknown field"):
        unpack(slim)
    (reference,) = references_of(slim, limits=LIMITS)
    assert (reference.dtype, reference.nbytes) == ("uint8", PACKED.nbytes)
    assert reference.digest == held.vector_digest == digest_of(PACKED)
    attach(slim, reference, PACKED)
    assert unpack(slim).vector.tobytes() == PACKED.tobytes()


def test_a_large_body_goes_beside_its_message():
    content = pack("closed", LOG)
    slim, (held,) = detach(content)
    assert set(slim) == {PARCEL}
    (reference,) = references_of(slim, limits=LIMITS)
    assert (reference.dtype, reference.nbytes) == ("uint8", len(canonical_bytes(LOG)))
    assert reference.digest == held.vector_digest
    for arrived in (held.vector, spooled(bytes(held.vector))):
        attach(slim, reference, arrived)
        assert unpack(slim).body == LOG
        assert unpack(slim).vector is None
        slim, _ = detach(content)
    with pytest.raises(BadInput, match="at most 2000 bytes"):
        unpack(content, limits=WireLimits(body_bytes=2000, vector_bytes=LIMIT))


def test_a_large_body_is_what_a_stock_flower_carries_in_its_own_objects():
    content = pack("closed", LOG)
    objects = {name: part.deflate() for name, part in get_all_nested_objects(content).items()}
    again = inflate_object_from_contents(content.object_id, objects)
    assert type(again["body"]).__name__ == "ArrayRecord"
    assert unpack(again).body == LOG


@pytest.mark.parametrize("vector", [PACKED, PACKED[:100]])
def test_a_large_body_goes_beside_its_message_with_any_vector(vector):
    content = pack("close", LOG, vector)
    slim, pieces = detach(content)
    assert set(slim) == {PARCEL}
    references = references_of(slim, limits=LIMITS)
    assert [each.place for each in references] == ["vector", "body"][2 - len(pieces) :]
    assert [each.digest for each in references] == [each.vector_digest for each in pieces]
    for reference, piece in reversed(list(zip(references, pieces, strict=True))):
        attach(slim, reference, piece.vector)
    for message in (slim, content):
        assert unpack(message).body == LOG
        assert unpack(message).vector.tobytes() == vector.tobytes()


def test_where_one_piece_goes_beside_a_message_it_is_the_vector():
    content = pack("closed", LOG, PACKED)
    slim, (piece,) = detach(content, most=1)
    assert piece.vector_digest == digest_of(PACKED)
    (reference,) = references_of(slim, limits=LIMITS)
    attach(slim, reference, PACKED)
    assert unpack(slim).body == LOG
    assert unpack(slim).vector.tobytes() == PACKED.tobytes()


def test_a_body_over_its_own_limit_is_refused_before_it_is_fetched():
    slim, _ = detach(pack("closed", {"log": "x" * (3 * INLINE_BYTES)}))
    with pytest.raises(BadInput, match=f"to {3 * INLINE_BYTES} bytes"):
        references_of(slim, limits=LIMITS)


@pytest.mark.parametrize("inside", [PARCEL, "content"])
def test_a_reference_to_a_body_beside_a_body_that_is_there_is_refused(inside):
    content = pack("closed", LOG)
    slim, _ = detach(content)
    if inside == PARCEL:
        slim[PARCEL]["body"] = b"{}"
    else:
        slim["body"] = content["body"]
    with pytest.raises(BadInput, match="a body and a reference to one"):
        references_of(slim, limits=LIMITS)


def test_a_small_vector_stays_in_its_message():
    content = pack("update", {}, PACKED[:INLINE_BYTES])
    assert detach(content) == (content, ())
    assert references_of(content, limits=LIMITS) == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"size": INLINE_BYTES},
        {"size": LIMIT + 1},
        {"size": -1},
        {"size": True},
        {"size": "9999999"},
        {"size": None},
        {"digest": "ab" * 31},
        {"digest": "AB" * 32},
        {"digest": b"ab" * 32},
        {"digest": None},
        {"dtype": "float64"},
        {"dtype": 8},
        {"dtype": None},
        {"vector": b"1234"},
        {"body_size": INLINE_BYTES},
        {"body_size": 3 * INLINE_BYTES + 1},
        {"body_size": True},
        {"body_size": None},
        {"body_digest": "AB" * 32},
        {"body_digest": None},
    ],
)
def test_a_reference_that_is_not_exactly_what_is_due_is_refused(fields):
    slim, _ = detach(pack("close", LOG, PACKED))
    assert len(references_of(slim, limits=LIMITS)) == 2
    for name, value in fields.items():
        if value is None:
            del slim[PARCEL][name]
        else:
            slim[PARCEL][name] = value
    with pytest.raises(BadInput):
        references_of(slim, limits=LIMITS)


def test_a_large_vector_inside_its_message_is_refused_where_a_reference_is_due():
    whole = pack("update", {}, PACKED)
    with pytest.raises(BadInput, match="inside its message"):
        references_of(whole, limits=LIMITS)
    assert references_of(RecordDict({"other": ConfigRecord()}), limits=LIMITS) == ()


def test_another_type_than_the_message_says_is_refused():
    content = pack("update", {}, PACKED)
    content[PARCEL]["dtype"] = "int32"
    with pytest.raises(BadInput, match="vector"):
        unpack(content)


@given(st.binary(max_size=200), st.integers(1, 70))
def test_blocks_of_a_vector_in_memory_or_in_a_file_are_its_bytes(content, block_bytes):
    array = np.frombuffer(content, dtype=np.uint8)
    stored = spooled(content)
    for vector in (array, stored):
        assert b"".join(bytes(block) for block in blocks_of(vector, block_bytes)) == content
    assert in_memory(stored).tobytes() == content
    assert in_memory(array) is array
    assert in_memory(None) is None
    assert (stored.size, stored.shape, stored.nbytes) == (len(content), array.shape, array.nbytes)


def test_the_bytes_of_an_array_that_lies_in_pieces_are_in_its_order():
    array = np.arange(10, dtype=np.uint32)
    assert bytes(bytes_of(array[::2])) == array[::2].tobytes()


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_parts_come_out_of_a_frame_as_they_went_in(parts):
    assert unframe(frame(parts), most_parts=5) == parts


@given(st.binary(max_size=40))
def test_any_bytes_are_the_frame_of_what_is_read_from_them_or_refused(framed):
    try:
        parts = unframe(framed, most_parts=5)
    except BadInput:
        return
    assert frame(parts) == framed


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=4), st.data())
def test_a_frame_that_was_cut_or_grew_is_refused(parts, data):
    framed = frame(parts)
    cut = framed[: data.draw(st.integers(0, len(framed) - 1))]
    for wrong in (cut, framed + b"x"):
        with pytest.raises(BadInput):
            unframe(wrong, most_parts=4)
    with pytest.raises(BadInput, match="at most"):
        unframe(framed, most_parts=len(parts) - 1)
