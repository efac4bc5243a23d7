"""Other names for patients and UIDs, by a key that stays in the hospital.

Who has the key can tell whether a pseudonym is a certain patient's; who has not, cannot, even with
a list of all patients at hand. (RFC 2104; PS3.15 E.1.1 on unkeyed hashes)
"""

import datetime as dt
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from wardround.errors import BadInput

KEY_FILE = "deidentification.key"
KEY_BYTES = 32
MOST_DAYS = 3652


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """What a hospital's key makes of names; the same for ever, as long as the key is kept."""

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Raise BadInput for a key of another length."""
        if len(self.key) != KEY_BYTES:
            raise BadInput(f"{KEY_FILE}: {len(self.key)} bytes came, {KEY_BYTES} are due")

    def patient(self, patient_id: str) -> str:
        """32 hex digits in place of a PatientID."""
        return self._hash("patient", patient_id)[:16].hex()

    def uid(self, original: str) -> str:
        """A UID in place of another: 2.25 and a UUID of version 8 (PS3.5 B.2, RFC 9562)."""
        number = int.from_bytes(self._hash("uid", original)[:16], "big")
        number = number & ~(0xF << 76) | (8 << 76)
        number = number & ~(0x3 << 62) | (2 << 62)
        return f"2.25.{number}"

    def earlier(self, patient_id: str, day: dt.date) -> dt.date:
        """A day of a patient, moved by that patient's own 1 to 3652 days."""
        number = int.from_bytes(self._hash("days", patient_id)[:8], "big")
        return day - dt.timedelta(days=1 + number % MOST_DAYS)

    def seal(self, content: bytes) -> str:
        """A code over a report: who has the key can tell whether it was changed."""
        return self._hash("report", content.hex()).hex()

    def fingerprint(self) -> str:
        """16 hex digits that tell this key from another."""
        return self._hash("fingerprint", "").hex()[:16]

    def _hash(self, purpose: str, text: str) -> bytes:
        message = f"wardround/1 deidentify {purpose}\0{text}".encode()
        return hmac.new(self.key, message, hashlib.sha256).digest()


def pseudonyms_of(home: Path) -> Pseudonyms:
    """The key in a hospital's directory, which only its owner may read; made at the first call.

    Raises BadInput when the directory is not there, or others can read the key.
    """
    if not home.is_dir():
        raise BadInput(f"{home.name}: no such directory of a hospital")
    path = home / KEY_FILE
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return Pseudonyms(_kept(path))
    with os.fdopen(handle, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    return Pseudonyms(_kept(path))


def _kept(path: Path) -> bytes:
    if path.stat().st_mode & 0o077:
        raise BadInput(f"{KEY_FILE}: others can read it; `chmod 600` is due")
    with path.open("rb") as file:
        return file.read(KEY_BYTES + 1)
