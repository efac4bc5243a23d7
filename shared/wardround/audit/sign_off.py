"""Sign-off: a hospital's officer approves a report, approves it with a remark, or refuses it.

A sign-off is a DSSE envelope of the hospital's over a statement of its own: which report, in which
bundle, decided how, by whom, when. It lies in the bundle beside what the coordinator signed, one
for each hospital, and anybody may add it: no other member changes by it.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import StringConstraints, model_validator

from wardround.audit.container import MANIFEST, SIGN_OFFS
from wardround.audit.statement import REPORT_SUBJECT, statement
from wardround.canonical import Json, parse_canonical
from wardround.errors import BadInput, VerificationFailed
from wardround.evidence.dsse import ENVELOPE_LIMIT_BYTES, Envelope, open_envelope, seal
from wardround.identity import Identity
from wardround.study.contract import Frozen
from wardround.study.files import checked
from wardround.study.manifest import HospitalName

SIGN_OFF_PREDICATE = "https://wardround.example/attestation/sign-off/v1"
ENDING = ".dsse.json"

# Shown in terminals: a line, without anything that moves a cursor.
Line = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class Decision(StrEnum):
    """What an officer says to a report."""

    APPROVE = "approve"
    REMARK = "approve-with-remark"
    REFUSE = "refuse"


class SignOff(Frozen):
    """One hospital's decision. A remark stands with `approve-with-remark` and `refuse` only."""

    hospital: HospitalName
    officer: Line
    decision: Decision
    remark: str | None
    signed_at: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT[0-9:.]{8,15}Z$")]

    @model_validator(mode="after")
    def _whole(self) -> "SignOff":
        if (self.remark is None) != (self.decision is Decision.APPROVE):
            raise ValueError("remark: due with approve-with-remark and refuse, and only there")
        if self.remark is not None and not 1 <= len(self.remark) <= 1000:
            raise ValueError("remark: 1 to 1000 characters are due")
        if any(CONTROL.search(text) for text in (self.officer, self.remark or "")):
            raise ValueError("officer and remark have to be one line each, of plain text")
        return self

    def in_words(self) -> str:
        """One line for a terminal."""
        remark = "" if self.remark is None else f": {self.remark}"
        return f"{self.hospital}, {self.officer}: {self.decision}{remark}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedBytes:
    """Which report in which bundle: SHA-256 of report.json and of manifest.json.

    The manifest names every other member, so that what is signed is the whole evidence.
    """

    report: str
    manifest: str

    @classmethod
    def of(cls, report: bytes, manifest: bytes) -> "SignedBytes":
        """Of these two members."""
        report_digest = hashlib.sha256(report).hexdigest()
        return cls(report=report_digest, manifest=hashlib.sha256(manifest).hexdigest())

    def subjects(self) -> Mapping[str, str]:
        """As an in-toto Statement names them."""
        return {REPORT_SUBJECT: self.report, MANIFEST: self.manifest}


def sign_off(identity: Identity, decided: SignOff, about: SignedBytes) -> bytes:
    """The signature file: the hospital's envelope over its decision about these bytes."""
    return seal(_statement(decided, about), identity)


def read_sign_off(content: bytes) -> SignOff:
    """The decision in a signature file, NOT checked against a key. Raises BadInput."""
    what = "sign-off"
    payload = Envelope.from_bytes(content, what=what).payload
    value = parse_canonical(payload, what=what, limit_bytes=ENVELOPE_LIMIT_BYTES)
    if value.get("predicateType") != SIGN_OFF_PREDICATE:
        raise BadInput(f"{what}: predicateType {SIGN_OFF_PREDICATE} is due")
    return checked(SignOff, _object(value.get("predicate")), what=what)


def verify_sign_off(content: bytes, *, key: bytes, hospital: str, about: SignedBytes) -> SignOff:
    """The decision of `hospital` about exactly these bytes.

    Raises BadInput (form), BadSignature (not this key's) or VerificationFailed (of another
    hospital, or about another report).
    """
    what = f"sign-off of {hospital}"
    decided = read_sign_off(content)
    payload = open_envelope(content, key, what=what)
    if decided.hospital != hospital:
        raise VerificationFailed(f"{what}: it is the word of {decided.hospital}")
    if payload != _statement(decided, about):
        raise VerificationFailed(f"{what}: it is about another report or another bundle")
    return decided


def member_of(hospital: str) -> str:
    """The name of a hospital's sign-off in a bundle.

    >>> member_of("bergen")
    'sign-offs/bergen.dsse.json'
    """
    return f"{SIGN_OFFS}{hospital}{ENDING}"


def sign_offs_of(members: Mapping[str, bytes]) -> dict[str, bytes]:
    """The sign-offs among a bundle's members, by the hospital that the name names, in order."""
    return {
        name.removeprefix(SIGN_OFFS).removesuffix(ENDING): content
        for name, content in sorted(members.items())
        if name.startswith(SIGN_OFFS) and name.endswith(ENDING)
    }


def _statement(decided: SignOff, about: SignedBytes) -> bytes:
    predicate = decided.model_dump(mode="json")
    return statement(SIGN_OFF_PREDICATE, subjects=about.subjects(), predicate=predicate)


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}
