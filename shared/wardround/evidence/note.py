"""Signed notes as C2SP defines them: a text, an empty line, one or two signature lines.

The text is signed as it stands, since other tools that read notes (Go's `note`, `sigsum`) have to
accept it. It cannot be mistaken for what `Identity.sign` signs: that always holds a NUL, which a
note must not hold. The first line is Ed25519, type 0x01; the second, in notes that have to last,
ML-DSA-65. C2SP has no byte for that, so its type is 0xff and the algorithm's OID, as C2SP
recommends; a reader that does not know it passes over the line. (C2SP signed-note; FIPS 204)
"""

import base64
import binascii
import hashlib
import re

from cryptography.exceptions import InvalidSignature

from wardround.errors import BadInput, BadSignature
from wardround.identity import (
    ML_DSA_65_SIGNATURE_BYTES,
    SIGNATURE_BYTES,
    Identity,
    check_ed25519,
    check_ml_dsa_65,
    ed25519_of,
    ml_dsa_65_of,
)

MAX_NOTE_BYTES = 8192
KEY_ID_BYTES = 4

_ED25519 = b"\x01"
_ML_DSA_65 = b"\xff2.16.840.1.101.3.4.3.18"
_SIGNATURE_START = "\u2014 "  # an em dash and a space
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")  # but the end of a line


def sign_note(text: str, *, name: str, identity: Identity, lasting: bool = False) -> str:
    """Sign `text` (lines, each ended) under the key name `name`; `lasting` adds the second line."""
    _check_text(text)
    _check_name(name)
    ed25519, ml_dsa_65 = _key_ids(name, identity.public_key)
    lines = _line(name, ed25519 + identity.key.sign(text.encode()))
    if lasting:
        lines += _line(name, ml_dsa_65 + identity.lasting_key.sign(text.encode()))
    return f"{text}\n{lines}"


def split_note(note: str) -> tuple[str, str, bytes, bytes | None]:
    """The text, the key name, the Ed25519 blob and the other, none checked against a key.

    One signature line is due, or two under one name. Raises BadInput when the note has another
    form.
    """
    if len(note.encode("utf-8", "replace")) > MAX_NOTE_BYTES:
        raise BadInput(f"signed note: longer than {MAX_NOTE_BYTES} bytes")
    body, separator, signatures = note.rpartition("\n\n")
    lines = signatures.split("\n")
    if not separator or lines.pop() != "" or len(lines) not in (1, 2):
        raise BadInput("signed note: a text, an empty line and one or two signatures were due")
    text = body + "\n"
    _check_text(text)
    name, first = _split_line(lines[0], SIGNATURE_BYTES)
    if len(lines) == 1:
        return text, name, first, None
    second_name, second = _split_line(lines[1], ML_DSA_65_SIGNATURE_BYTES)
    if second_name != name:
        raise BadInput("signed note: two signatures under different names")
    return text, name, first, second


def open_note(note: str, public_key: bytes, *, name: str, lasting: bool = False) -> str:
    """The signed text. Raises BadInput (form) or BadSignature (other key, name or text).

    A second signature has to hold where there is one; `lasting` demands it.
    """
    text, signer, first, second = split_note(note)
    if signer != name:
        raise BadSignature(f"signed note: {name} was due as signer, {signer} came")
    if second is None and lasting:
        raise BadSignature(f"signed note of {name}: no ML-DSA-65 signature beside the Ed25519 one")
    ed25519, ml_dsa_65 = _key_ids(name, public_key)
    if first[:KEY_ID_BYTES] != ed25519 or (second and second[:KEY_ID_BYTES] != ml_dsa_65):
        raise BadSignature(f"signed note of {name}: signed with another key")
    try:
        check_ed25519(public_key, text.encode(), first[KEY_ID_BYTES:])
        if second is not None:
            check_ml_dsa_65(public_key, text.encode(), second[KEY_ID_BYTES:])
    except (InvalidSignature, ValueError) as error:
        raise BadSignature(f"signed note of {name}: the signature does not fit the text") from error
    return text


def _key_ids(name: str, public_key: bytes) -> tuple[bytes, bytes]:
    start = name.encode() + b"\n"
    ed25519 = start + _ED25519 + ed25519_of(public_key)
    ml_dsa_65 = start + _ML_DSA_65 + ml_dsa_65_of(public_key)
    ids = [hashlib.sha256(hashed).digest()[:KEY_ID_BYTES] for hashed in (ed25519, ml_dsa_65)]
    return ids[0], ids[1]


def _line(name: str, blob: bytes) -> str:
    return f"{_SIGNATURE_START}{name} {base64.b64encode(blob).decode()}\n"


def _split_line(line: str, signature_bytes: int) -> tuple[str, bytes]:
    if not line.startswith(_SIGNATURE_START):
        raise BadInput("signed note: the signature line has to begin with an em dash and a space")
    name, _, encoded = line[len(_SIGNATURE_START) :].partition(" ")
    _check_name(name)
    return name, _decode(encoded, KEY_ID_BYTES + signature_bytes)


def _check_text(text: str) -> None:
    if not text.endswith("\n") or text == "\n":
        raise BadInput("signed note: the text has to be lines, each with its end")
    if _CONTROL.search(text):
        raise BadInput("signed note: a control character in the text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInput("signed note: the text is not Unicode") from error


def _check_name(name: str) -> None:
    if not name or "+" in name or any(sign.isspace() or not sign.isprintable() for sign in name):
        raise BadInput("signed note: a key name has no space, no + and no control character")


def _decode(encoded: str, size_bytes: int) -> bytes:
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput("signed note: the signature is not base64") from error
    if base64.b64encode(blob).decode() != encoded:
        raise BadInput("signed note: the signature is base64 with stray bits")
    if len(blob) != size_bytes:
        raise BadInput(
            f"signed note: {len(blob)} bytes of key id and signature, {size_bytes} were due"
        )
    return blob
