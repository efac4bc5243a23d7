"""The report as an in-toto Statement (v1): what is attested, about which bytes.

The statement follows from the report's bytes alone, so whoever has the report writes it again and
compares. The coordinator signs it; hospitals sign statements of their own about the same subjects
(`sign_off`). (github.com/in-toto/attestation, spec/v1/statement.md)
"""

import hashlib
import re
from collections.abc import Mapping

from wardround.canonical import Json, canonical_bytes, parse_json
from wardround.errors import BadInput, VerificationFailed
from wardround.evidence.dsse import Envelope

STATEMENT = "statement.dsse.json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
# .example is nobody's and stays so (RFC 2606): the name can be no one else's.
REPORT_PREDICATE = "https://wardround.example/attestation/report/v1"
REPORT_SUBJECT, STUDY_SUBJECT, MODEL_SUBJECT = "report.json", "study", "model"

_DIGEST = re.compile(r"[0-9a-f]{64}")
_REPORT_LIMIT_BYTES = 64 << 20


def report_statement(report: bytes) -> bytes:
    """The statement's bytes for this report: report.json, the study and the model, by SHA-256.

    `study` is the study's digest, `model` the final model's as PROTOCOL 4 defines it. What the
    report does not name is left out; that such a report is no report, `check_report` says.
    """
    value = _parsed(report)
    subjects = {
        REPORT_SUBJECT: hashlib.sha256(report).hexdigest(),
        STUDY_SUBJECT: _field(value, "study", "digest"),
        MODEL_SUBJECT: _field(value, "run", "model_digest"),
    }
    known = {name: digest for name, digest in subjects.items() if _DIGEST.fullmatch(digest)}
    predicate = {"run": _field(value, "run", "run"), "study": _field(value, "study", "name")}
    return statement(REPORT_PREDICATE, subjects=known, predicate=predicate)


def statement(kind: str, *, subjects: Mapping[str, str], predicate: Json) -> bytes:
    """An in-toto Statement of predicate type `kind` as canonical JSON, subjects by name."""
    return canonical_bytes(
        {
            "_type": STATEMENT_TYPE,
            "subject": [
                {"name": name, "digest": {"sha256": digest}}
                for name, digest in sorted(subjects.items())
            ],
            "predicateType": kind,
            "predicate": predicate,
        }
    )


def check_statement(content: bytes, report: bytes) -> None:
    """Raise VerificationFailed unless this envelope is about this very report and nothing else.

    Its signature is checked elsewhere.
    """
    if Envelope.from_bytes(content, what=STATEMENT).payload != report_statement(report):
        raise VerificationFailed(f"{STATEMENT}: it is not the statement of this report.json")


def _parsed(report: bytes) -> Json:
    try:
        return parse_json(report, what=REPORT_SUBJECT, limit_bytes=_REPORT_LIMIT_BYTES)
    except BadInput:
        return {}  # `recomputed` says what is wrong with it


def _field(value: Json, section: str, name: str) -> str:
    found = value.get(section)
    text = found.get(name) if isinstance(found, dict) else None
    return text if isinstance(text, str) else ""
