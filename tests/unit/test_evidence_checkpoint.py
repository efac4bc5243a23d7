"""Entries, notes and checkpoints."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from tests.support.identities import identity_of

from wardround.errors import BadInput, BadSignature
from wardround.evidence.checkpoint import (
    Checkpoint,
    checkpoint_of,
    parse_checkpoint,
    sign_checkpoint,
    verify_checkpoint,
)
from wardround.evidence.entry import FIRST_PREVIOUS, Entry
from wardround.evidence.faults import LogFault, LogReason
from wardround.evidence.merkle import EMPTY_ROOT
from wardround.evidence.note import open_note, sign_note
from wardround.identity import Identity, ed25519_of, ml_dsa_65_of

NOTE = json.loads((Path(__file__).parents[1] / "vectors/evidence_note.json").read_text())
IDENTITY = identity_of(bytes(range(32)))
TIME = datetime(2026, 3, 1, 12, tzinfo=UTC)


def entry(**changes):
    fields = {
        "seq": 0,
        "time": TIME,
        "type": "run-joined",
        "actor": "cleveland",
        "body": {"epsilon": 2.5},
        "previous": FIRST_PREVIOUS,
    }
    return Entry(**(fields | changes))


LINE = entry().to_bytes()
CHECKPOINT = checkpoint_of([entry()], actor="cleveland")
SIGNED = sign_checkpoint(IDENTITY, CHECKPOINT)


def test_an_entry_is_these_bytes():
    assert LINE == (
        b'{"actor":"cleveland","body":{"epsilon":2.5},"previous":"' + b"0" * 64 + b'","seq":0,'
        b'"time":"2026-03-01T12:00:00.000000Z","type":"run-joined"}'
    )
    assert Entry.from_bytes(LINE) == entry()


def test_a_moment_has_one_spelling_in_every_time_zone():
    east = TIME.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert entry(time=east).to_bytes() == LINE


@pytest.mark.parametrize(
    "changes",
    [
        {"seq": -1},
        {"seq": True},
        {"seq": 2**53},
        {"time": datetime(2026, 3, 1)},  # noqa: DTZ001 - the refusal of a naive time is the claim
        {"type": "Run Joined"},
        {"actor": ""},
        {"actor": "cleveland\n"},
        {"body": []},
        {"previous": "0" * 63},
        {"previous": "A" * 64},
    ],
)
def test_an_entry_with_a_wrong_field_is_not_built(changes):
    with pytest.raises(BadInput, match="evidence entry"):
        entry(**changes)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", LogReason.MALFORMED),
        (b"[]", LogReason.MALFORMED),
        (LINE.replace(b'"seq":0', b'"seq":"0"'), LogReason.MALFORMED),
        (LINE.replace(b'"seq":0', b'"seq":0.5'), LogReason.MALFORMED),
        (LINE.replace(b'"seq":0', b'"seq":0,"seq":0'), LogReason.MALFORMED),
        (LINE.replace(b"}", b'},"more":1', 1), LogReason.MALFORMED),
        (LINE.replace(b'"seq":0,', b""), LogReason.MALFORMED),
        (LINE.replace(b"2026-03-01", b"2026-02-30"), LogReason.MALFORMED),
        (LINE.replace(b".000000Z", b"Z"), LogReason.MALFORMED),
        (LINE.replace(b"2.5", b"NaN"), LogReason.MALFORMED),
        (LINE.replace(b"2.5", b"\xff"), LogReason.MALFORMED),
        (LINE.replace(b"2.5", b"[" * 100_000), LogReason.MALFORMED),
        (LINE.replace(b"2.5", b"2.50"), LogReason.NOT_CANONICAL),
        (LINE.replace(b"2.5", b"25e-1"), LogReason.NOT_CANONICAL),
        (LINE.replace(b'":', b'" :', 1), LogReason.NOT_CANONICAL),
        (LINE.replace(b"epsilon", b"\\u0065psilon"), LogReason.NOT_CANONICAL),
        (LINE.replace(b"2.5", b'"' + b"x" * (1 << 20) + b'"'), LogReason.TOO_LARGE),
    ],
)
def test_a_line_in_any_other_spelling_is_refused(line, reason):
    with pytest.raises(LogFault) as refused:
        Entry.from_bytes(line, position=7)
    assert (refused.value.reason, refused.value.seq) == (reason, 7)


def test_an_entry_that_is_too_large_is_not_written():
    with pytest.raises(BadInput, match="at most"):
        entry(body={"x": "y" * (1 << 20)}).to_bytes()


def test_a_body_without_canonical_form_is_not_written():
    with pytest.raises(BadInput):
        entry(body={"x": float("nan")}).to_bytes()


def test_the_note_of_another_implementation_is_opened():
    key = base64.b64decode(NOTE["public_key_base64"])[1:]
    assert open_note(NOTE["note"], key, name=NOTE["name"]) == NOTE["text"]


def test_the_note_of_another_implementation_with_another_word_is_refused():
    key = base64.b64decode(NOTE["public_key_base64"])[1:]
    with pytest.raises(BadSignature):
        open_note(NOTE["note"].replace("answer", "question"), key, name=NOTE["name"])


def test_a_signature_of_the_framed_kind_cannot_be_a_note():
    framed = b"wardround/1 purpose\x00message\n"
    with pytest.raises(BadInput, match="control character"):
        sign_note(framed.decode(), name="wardround/cleveland", identity=IDENTITY)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\tb"])
def test_a_key_name_that_breaks_the_line_is_refused(name):
    with pytest.raises(BadInput):
        sign_note("text\n", name=name, identity=IDENTITY)


@pytest.mark.parametrize("text", ["", "\n", "no end", "carriage\r\n", "\ud800\n"])
def test_a_text_that_is_no_note_is_not_signed(text):
    with pytest.raises(BadInput):
        sign_note(text, name="name", identity=IDENTITY)


def test_a_checkpoint_is_these_lines():
    lines = SIGNED.split("\n")
    assert lines[:2] == ["wardround/cleveland", "1"]
    assert base64.b64decode(lines[2]) == CHECKPOINT.root
    assert lines[3:5] == [f"head {CHECKPOINT.head}", ""]
    assert lines[5].startswith("\u2014 wardround/cleveland ")


def test_a_checkpoint_verifies_with_its_key_and_no_other():
    assert verify_checkpoint(SIGNED, IDENTITY.public_key) == CHECKPOINT
    with pytest.raises(BadSignature):
        verify_checkpoint(SIGNED, Identity.generate().public_key)


def test_every_changed_character_of_a_checkpoint_is_noticed():
    for at, sign in enumerate(SIGNED):
        for other in {"A", "1", "\n", " "} - {sign}:
            changed = SIGNED[:at] + other + SIGNED[at + 1 :]
            with pytest.raises((BadInput, BadSignature)):
                verify_checkpoint(changed, IDENTITY.public_key)


def test_every_cut_of_a_checkpoint_is_noticed():
    for at in range(len(SIGNED)):
        with pytest.raises((BadInput, BadSignature)):
            verify_checkpoint(SIGNED[:at], IDENTITY.public_key)


def test_a_checkpoint_signed_under_another_name_is_refused():
    renamed = sign_note(CHECKPOINT.to_text(), name="wardround/zurich", identity=IDENTITY)
    with pytest.raises(BadInput, match="origin"):
        parse_checkpoint(renamed)


@pytest.mark.parametrize("size", ["01", "+1", "1.0", "1e1", "-1", ""])
def test_a_size_has_one_spelling(size):
    text = CHECKPOINT.to_text().replace("\n1\n", f"\n{size}\n")
    note = sign_note(text, name=CHECKPOINT.origin, identity=IDENTITY)
    with pytest.raises(BadInput):
        verify_checkpoint(note, IDENTITY.public_key)


def test_a_signed_text_that_is_no_checkpoint_is_refused():
    note = sign_note("wardround/cleveland\n", name="wardround/cleveland", identity=IDENTITY)
    with pytest.raises(BadInput, match="4 lines"):
        verify_checkpoint(note, IDENTITY.public_key)


def test_a_note_larger_than_its_limit_is_refused():
    with pytest.raises(BadInput, match="longer"):
        parse_checkpoint("x" * 9000)


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": "elsewhere/cleveland"},
        {"size": -1},
        {"head": "0" * 63},
        {"root": b"short"},
        {"size": 0, "head": "1" * 64, "root": EMPTY_ROOT},
    ],
)
def test_a_checkpoint_with_a_wrong_part_is_not_built(changes):
    good = {"origin": CHECKPOINT.origin, "size": 1, "head": "1" * 64, "root": b"r" * 32}
    with pytest.raises(BadInput):
        Checkpoint(**(good | changes))


LASTING = sign_checkpoint(IDENTITY, CHECKPOINT, lasting=True)


def test_a_lasting_checkpoint_has_a_second_signature_and_verifies_either_way():
    assert len(LASTING.split("\n")) == 8
    for lasting in (False, True):
        assert verify_checkpoint(LASTING, IDENTITY.public_key, lasting=lasting) == CHECKPOINT
    with pytest.raises(BadSignature, match="no ML-DSA-65 signature"):
        verify_checkpoint(SIGNED, IDENTITY.public_key, lasting=True)


def test_the_second_signature_is_checked_where_it_is_not_demanded_too():
    other = sign_checkpoint(identity_of(bytes(32)), CHECKPOINT, lasting=True)
    lines, foreign = LASTING.split("\n"), other.split("\n")
    key = IDENTITY.public_key
    mixed = ed25519_of(key) + ml_dsa_65_of(identity_of(bytes(32)).public_key)
    swapped = "\n".join([*lines[:6], foreign[6], ""])
    with pytest.raises(BadSignature, match="another key"):
        verify_checkpoint(swapped, key)
    verify_checkpoint(swapped, mixed, lasting=True)
    older = sign_checkpoint(IDENTITY, replace(CHECKPOINT, head="1" * 64), lasting=True)
    with pytest.raises(BadSignature, match="does not fit"):
        verify_checkpoint("\n".join([*lines[:6], older.split("\n")[6], ""]), key)


def test_two_signatures_have_one_order_and_one_name():
    lines = LASTING.split("\n")
    renamed = lines[6].replace("cleveland", "zurich")
    for wrong in (
        [*lines[:5], lines[6], lines[5], ""],
        [*lines[:5], lines[6], ""],
        [*lines[:6], lines[5], ""],
        [*lines[:6], renamed, ""],
        [*lines[:7], lines[6], ""],
    ):
        with pytest.raises(BadInput):
            parse_checkpoint("\n".join(wrong))


def test_changed_characters_and_cuts_of_a_lasting_checkpoint_are_noticed():
    for at in [*range(0, 300, 7), *range(300, len(LASTING), 61), len(LASTING) - 1]:
        other = "A" if LASTING[at] != "A" else "B"
        for changed in (LASTING[:at] + other + LASTING[at + 1 :], LASTING[:at]):
            with pytest.raises((BadInput, BadSignature)):
                verify_checkpoint(changed, IDENTITY.public_key, lasting=True)
