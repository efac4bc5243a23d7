"""Canonical JSON for any value: one spelling, read back to the value."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.canonical import canonical_bytes, parse_canonical, parse_json

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
VALUES = st.dictionaries(
    TEXT,
    st.recursive(LEAVES, lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXT, v, max_size=3)),
    max_size=4,
)


@settings(max_examples=60)
@given(VALUES)
def test_what_is_written_reads_back_to_the_same_value(value):
    text = canonical_bytes(value)
    read = parse_canonical(text, what="value", limit_bytes=1 << 20)
    assert read == value
    assert canonical_bytes(read) == text


@settings(max_examples=60)
@given(VALUES, st.integers(0, 4), st.booleans())
def test_every_spelling_of_a_value_has_the_same_canonical_bytes(value, indent, ascii_only):
    spelled = json.dumps(value, indent=indent or None, ensure_ascii=ascii_only).encode()
    read = parse_json(spelled, what="value", limit_bytes=1 << 20)
    assert canonical_bytes(read) == canonical_bytes(value)
