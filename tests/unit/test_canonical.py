"""One byte string for one value (RFC 8785), and a parser that takes no other."""

import hashlib
import json
import time

import pytest

from wardround.canonical import canonical_bytes, digest, parse_canonical, parse_json
from wardround.errors import BadInput

LIMIT = 1 << 16


def parse(text, *, limit=LIMIT):
    return parse_json(text, what="note", limit_bytes=limit)


# RFC 8785, appendix B: the IEEE 754 pattern and its text.
NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@pytest.mark.parametrize("bits", NUMBERS)
def test_numbers_are_written_as_in_appendix_b_of_rfc_8785(bits):
    import struct

    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_bytes({"n": number}) == b'{"n":' + NUMBERS[bits].encode() + b"}"


def test_keys_are_sorted_by_utf16_units_as_in_rfc_8785_section_3_2_3():
    value = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    order = ["\\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    text = canonical_bytes(value).decode()
    places = [text.index(f'"{key}":') for key in order]
    assert places == sorted(places)


def test_strings_are_escaped_as_in_rfc_8785_section_3_2_2():
    value = {"string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/"}
    assert canonical_bytes(value) == '{"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'.encode()


def test_the_digest_is_sha256_of_the_canonical_bytes():
    assert digest({"b": 1.0, "a": "x"}) == hashlib.sha256(b'{"a":"x","b":1}').hexdigest()


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 2**53 + 1, -(2**60), {1, 2}, b"x", {1: "x"}, "\ud800"]
)
def test_what_rfc_8785_has_no_form_for_is_refused(value):
    with pytest.raises(BadInput, match="no canonical JSON form"):
        canonical_bytes({"value": value})


@pytest.mark.parametrize(
    "text",
    [rb'{"a":"\ud800"}', rb'{"\ud800":1}', rb'{"a":[{"b":["\uDFFF"]}]}', rb'{"\udc00\ud800":{}}'],
)
def test_half_of_a_surrogate_pair_is_refused_as_a_value_and_as_a_key(text):
    for read in (parse_json, parse_canonical):
        with pytest.raises(BadInput, match="note: a text is not Unicode"):
            read(text, what="note", limit_bytes=100)
    with pytest.raises(BadInput, match="no canonical JSON form"):
        canonical_bytes(json.loads(text))
    whole = rb'{"a":"\ud83d\ude00"}'
    assert parse_json(whole, what="note", limit_bytes=100) == {"a": "\U0001f600"}


def test_a_value_that_is_nested_too_deeply_is_refused_and_not_a_crash():
    value = {}
    for _ in range(100_000):
        value = {"a": value}
    with pytest.raises(BadInput, match="nested too deeply"):
        canonical_bytes(value)
    with pytest.raises(BadInput, match="note"):
        parse(b'{"a":' * 5000 + b"1" + b"}" * 5000, limit=1 << 20)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e999"])
def test_a_number_that_is_not_finite_is_refused(number):
    with pytest.raises(BadInput, match="note: not JSON"):
        parse(b'{"a":' + number + b"}")


def test_a_whole_float_beyond_2_to_the_53_reads_back_and_an_inexact_integer_is_refused():
    value = {"range": 1e18, "limit": 2.0**53}
    text = canonical_bytes(value)
    assert text == b'{"limit":9007199254740992,"range":1000000000000000000}'
    assert parse_canonical(text, what="note", limit_bytes=LIMIT) == value
    with pytest.raises(BadInput, match="no float is written as"):
        parse(b'{"a":9007199254740993}')


@pytest.mark.parametrize("text", [b'{"a":1,"a":1}', b'{"x":{"a":1,"b":2,"a":3}}'])
def test_a_duplicate_key_is_refused_by_name_at_every_depth(text):
    with pytest.raises(BadInput, match="duplicate key a"):
        parse(text)


def test_half_a_million_duplicates_are_refused_as_fast_as_they_are_read():
    """Compared with each other, they would take a coordinator a quarter of an hour."""
    text = b"{" + b",".join([b'"a":1'] * 500_000) + b"}"
    started_s = time.process_time()
    with pytest.raises(BadInput, match="duplicate key a"):
        parse(text, limit=len(text))
    assert time.process_time() - started_s < 20


def test_the_names_that_came_twice_do_not_fill_a_log():
    text = b'{"' + b"a" * 5000 + b'":1,"' + b"a" * 5000 + b'":1}'
    with pytest.raises(BadInput, match=r"duplicate key a{200}\)$"):
        parse(text)


def test_what_is_too_large_is_refused_before_it_is_parsed():
    with pytest.raises(BadInput, match="note: 11 bytes came, at most 10"):
        parse(b"x" * 11, limit=10)
    assert parse(b'{"a":1234}', limit=10) == {"a": 1234}


@pytest.mark.parametrize("text", [b"", b"[]", b"1", b"{} {}", b"\xff{}", b"{'a':1}", b'{"a":1,}'])
def test_what_is_no_single_json_object_is_refused(text):
    with pytest.raises(BadInput, match="note"):
        parse(text)


@pytest.mark.parametrize(
    "text", [b'{"a": 1}', b'{"b":1,"a":1}', b'{"a":1.0}', b'{"a":"\\u0041"}', b'{"a":1}\n']
)
def test_another_spelling_of_the_same_value_is_refused(text):
    parse(text)
    with pytest.raises(BadInput, match="not canonical JSON"):
        parse_canonical(text, what="note", limit_bytes=LIMIT)
