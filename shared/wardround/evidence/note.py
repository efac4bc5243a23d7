"""Signed notes as C2SP defines them: a text, an empty line, one signature line.

The text is signed as it stands, since other tools that read notes (Go's `note`, `sigsum`) have to
accept it. It cannot be mistaken for what `Identity.sign` signs: that always holds a NUL, which a
note must not hold. (C2SP signed-note; signature type 0x01, Ed25519)
"""

import base64
import binascii
import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from wardround.errors import BadInput, BadSignature
from wardround.identity import SIGNATURE_BYTES, Identity

MAX_NOTE_BYTES = 4096
KEY_ID_BYTES = 4

_ED25519 = b"\x01"
_SIGNATURE_START = "\u2014 "  # an em dash and a space
_FIRST_PRINTABLE = "\x20"


def sign_note(text: str, *, name: str, identity: Identity) -> str:
    """Sign `text` (lines, each ended) under the key name `name`."""
    _check_text(text)
    _check_name(name)
    signature = identity.key.sign(text.encode())
    blob = base64.b64encode(_key_id(name, identity.public_key) + signature).decode()
    return f"{text}\n{_SIGNATURE_START}{name} {blob}\n"


def split_note(note: str) -> tuple[str, str, bytes]:
    """The text, the key name and the raw signature blob, none of them checked against a key.

    Exactly one signature line is due. Raises BadInput when the note has another form.
    """
    if len(note.encode("utf-8", "replace")) > MAX_NOTE_BYTES:
        raise BadInput(f"signed note: longer than {MAX_NOTE_BYTES} bytes")
    body, separator, signature_line = note.rpartition("\n\n")
    if not separator or not signature_line.endswith("\n") or signature_line.count("\n") != 1:
        raise BadInput("signed note: a text, an empty line and one signature line were due")
    text = body + "\n"
    _check_text(text)
    if not signature_line.startswith(_SIGNATURE_START):
        raise BadInput("signed note: the signature line has to begin with an em dash and a space")
    name, _, encoded = signature_line[len(_SIGNATURE_START) : -1].partition(" ")
    _check_name(name)
    return text, name, _decode(encoded)


def open_note(note: str, public_key: bytes, *, name: str) -> str:
    """The signed text. Raises BadInput (form) or BadSignature (other key, name or text)."""
    text, signer, blob = split_note(note)
    if signer != name:
        raise BadSignature(f"signed note: {name} was due as signer, {signer} came")
    if blob[:KEY_ID_BYTES] != _key_id(name, public_key):
        raise BadSignature(f"signed note of {name}: signed with another key")
    try:
        key = Ed25519PublicKey.from_public_bytes(public_key)
        key.verify(blob[KEY_ID_BYTES:], text.encode())
    except (InvalidSignature, ValueError) as error:
        raise BadSignature(f"signed note of {name}: the signature does not fit the text") from error
    return text


def _key_id(name: str, public_key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:KEY_ID_BYTES]


def _check_text(text: str) -> None:
    if not text.endswith("\n") or text == "\n":
        raise BadInput("signed note: the text has to be lines, each with its end")
    if any(sign < _FIRST_PRINTABLE and sign != "\n" for sign in text):
        raise BadInput("signed note: a control character in the text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInput("signed note: the text is not Unicode") from error


def _check_name(name: str) -> None:
    if not name or "+" in name or any(sign.isspace() or not sign.isprintable() for sign in name):
        raise BadInput("signed note: a key name has no space, no + and no control character")


def _decode(encoded: str) -> bytes:
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput("signed note: the signature is not base64") from error
    if base64.b64encode(blob).decode() != encoded:
        raise BadInput("signed note: the signature is base64 with stray bits")
    if len(blob) != KEY_ID_BYTES + SIGNATURE_BYTES:
        raise BadInput(f"signed note: {len(blob)} bytes of key id and signature, 68 were due")
    return blob
