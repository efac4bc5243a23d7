"""A hospital's directory: where its keys, policy, approvals, ledgers, logs and status lie."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from wardround.canonical import Json, parse_canonical, parse_json
from wardround.durable import replace_file
from wardround.errors import BadInput, why
from wardround.evidence.log import EvidenceLog
from wardround.identity import Identity
from wardround.renewal import CERTIFICATE_FILE, certificate_of
from wardround_client.joining import Membership, load_membership
from wardround_client.ledger import Ledger
from wardround_client.policy import DEFAULT_POLICY, Policy, read_policy
from wardround_client.restored import refuse_a_restored_ledger

_DIGEST = re.compile(r"[0-9a-f]{64}")
_STATE_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class HospitalHome:
    """Paths, and how to open what lies there."""

    directory: Path

    def membership(self) -> Membership:
        """What joining left here: name, coordinator, TLS files, identity."""
        return load_membership(self.directory)

    def identity(self) -> Identity:
        """The hospital's identity."""
        return self.membership().identity

    def certificate(self) -> x509.Certificate:
        """What opens this hospital's connections. Raises BadInput when it cannot be read."""
        try:
            return certificate_of((self.directory / CERTIFICATE_FILE).read_bytes())
        except OSError as error:
            raise BadInput(f"{CERTIFICATE_FILE}: {why(error)}") from error

    def coordinator_key(self) -> bytes:
        """The coordinator's public keys, pinned by the join ticket."""
        return bytes.fromhex(self.membership().coordinator.evidence_key)

    def policy(self) -> Policy:
        """The policy in force."""
        return read_policy(self.directory / "policy.toml")

    def write_default_policy(self) -> None:
        """Put the default policy here unless there is one."""
        path = self.directory / "policy.toml"
        if not path.exists():
            path.write_text(DEFAULT_POLICY, encoding="utf-8")

    def studies(self) -> Path:
        """Signed studies that were shown to this hospital, approved or not."""
        return _made(self.directory / "studies")

    def approvals(self) -> Path:
        """One file for each approved study digest."""
        return _made(self.directory / "approvals")

    def ledger(self, dataset: str) -> Ledger:
        """The dataset's ledger, over all studies and for ever.

        Raises VerificationFailed when the evidence logs know of releases that no ledger has.
        """
        ledger = Ledger.open(_made(self.directory / "ledgers") / f"{dataset}.sqlite", dataset)
        try:
            self.check_ledger(ledger, dataset)
        except BaseException:
            ledger.close()
            raise
        return ledger

    def check_ledger(self, ledger: Ledger, dataset: str) -> None:
        """Refuse a ledger that forgot what the evidence logs know."""
        member = self.membership()
        refuse_a_restored_ledger(
            self.directory, dataset, ledger, actor=member.hospital, identity=member.identity
        )

    def log(self, study_digest: str) -> EvidenceLog:
        """The hospital's own evidence log of one study."""
        _check_digest(study_digest)
        path = _made(self.directory / "evidence") / f"{study_digest}.sqlite"
        membership = self.membership()
        return EvidenceLog.open(path, membership.hospital, membership.identity)

    def attempt_file(self, study_digest: str) -> Path:
        """The last attempt of a study that was answered."""
        _check_digest(study_digest)
        return _made(self.directory / "attempts") / f"{study_digest}.json"

    @property
    def paused(self) -> bool:
        """True while the hospital's IT has paused it."""
        return (self.directory / "paused").exists()

    def show(self, status: Json) -> None:
        """Replace status.json: for this hospital's own eyes, it never leaves."""
        replace_file(self.directory / "status.json", json.dumps(status).encode())

    def shown(self) -> Json:
        """What `show` wrote last; empty where no daemon has run. Raises BadInput when damaged."""
        path = self.directory / "status.json"
        if not path.exists():
            return {}
        return parse_json(path.read_bytes(), what=path.name, limit_bytes=_STATE_LIMIT_BYTES)


def read_state(path: Path) -> Json | None:
    """A small canonical JSON file, or None when there is none."""
    if not path.exists():
        return None
    return parse_canonical(path.read_bytes(), what=path.name, limit_bytes=_STATE_LIMIT_BYTES)


def _check_digest(text: str) -> None:
    if not _DIGEST.fullmatch(text):
        raise BadInput(f"study digest: 64 lower-case hex digits are due, {len(text)} signs came")


def _made(path: Path) -> Path:
    path.mkdir(mode=0o700, exist_ok=True)
    return path
