"""Approval: an officer of the hospital says yes to one study digest, for one dataset.

Without it no round runs. A study that changes by one character has another digest and needs
another yes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints

from wardround.canonical import canonical_bytes
from wardround.durable import write_durably
from wardround.errors import BadInput, RefusedByPolicy
from wardround.models.registered import check_installed
from wardround.protocol.messages import Digest
from wardround.study.contract import Frozen
from wardround.study.files import STUDY_LIMIT_BYTES, checked, read_signed_study
from wardround.study.manifest import Study
from wardround_client.data.description import DatasetDescription, read_description
from wardround_client.home import HospitalHome, read_state
from wardround_client.policy import check_study

_BEGINNING_SIGNS = 16  # 64 bits
Line = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Approval(Frozen):
    """Who approved which study for which dataset, under which policy."""

    study_digest: Digest
    officer: Line
    approved_at: Line
    policy_digest: Digest
    description: str
    data_folder: str


@dataclass(frozen=True, slots=True)
class ApprovedStudy:
    """A study this hospital takes part in, and the data it uses for it."""

    study: Study
    approval: Approval
    description: DatasetDescription

    @property
    def folder(self) -> Path:
        """Where the dataset's files lie."""
        return Path(self.approval.data_folder)


def keep_study(home: HospitalHome, signed: bytes) -> Study:
    """Check a signed study against the coordinator's pinned key and keep it for review.

    Raises BadInput or BadSignature; nothing is kept then.
    """
    study = read_signed_study(signed, signer=home.coordinator_key())
    path = home.studies() / f"{study.digest}.json"
    if not path.exists():
        write_durably(path, signed)
    return study


def find_study(home: HospitalHome, name: str) -> Study:
    """A kept study by digest, by the beginning of its digest, or by name.

    Raises BadInput where none or several were shown here. A beginning has 16 signs or more: an
    officer may know it from elsewhere, and another study with the same first 8 is soon made.
    """
    signer = home.coordinator_key()
    found = []
    for path in sorted(home.studies().glob("*.json")):
        study = read_signed_study(path.read_bytes(), signer=signer)
        by_digest = len(name) >= _BEGINNING_SIGNS and study.digest.startswith(name)
        if by_digest or study.name == name:
            found.append(study)
    if not found:
        raise BadInput(
            f"study {name!r}: no file, and no study that was shown here; "
            f"`wardround review show FILE --dir {home.directory.name}` takes one in"
        )
    if len(found) > 1:
        digests = ", ".join(study.digest[:16] for study in found)
        raise BadInput(f"study {name!r}: {len(found)} were shown here: say which by {digests}")
    return found[0]


def approve(
    home: HospitalHome,
    study: Study,
    *,
    officer: str,
    description: Path,
    data_folder: Path,
    before: Callable[[ApprovedStudy], None] = lambda _approved: None,
) -> Approval:
    """Record the officer's yes: in the evidence log, and durably in the approvals.

    `before` has its turn when all is checked and nothing written: until then no run begins. Raises
    RefusedByPolicy when the policy does not allow the study, BadInput when the dataset's
    description is not for this hospital or not valid, when the same table is approved under another
    name, or the study's own model is not installed.
    """
    approved = _checked(home, study, officer, description, data_folder)
    before(approved)
    approval = approved.approval
    body = {
        "study_digest": study.digest,
        "officer": officer,
        "policy_digest": approval.policy_digest,
    }
    with home.log(study.digest) as log:
        log.append("study-approved", body, time=datetime.now(UTC))
    content = canonical_bytes(approval.model_dump(mode="json"))
    write_durably(home.approvals() / f"{study.digest}.json", content)
    return approval


def check_roster(home: HospitalHome, study: Study) -> None:
    """Raise RefusedByPolicy unless the study's roster has this hospital, by its fingerprint."""
    own = home.membership().hospital
    if own not in study.names():
        raise RefusedByPolicy(f"study {study.name}: {own} is not on its roster")
    if study.fingerprint_of(own) != home.identity().fingerprint:
        raise RefusedByPolicy(f"study {study.name}: the roster has another fingerprint for {own}")


def _checked(
    home: HospitalHome, study: Study, officer: str, description: Path, data_folder: Path
) -> ApprovedStudy:
    check_roster(home, study)
    own, policy = home.membership().hospital, home.policy()
    check_study(policy, study)
    if study.task.own is not None:
        check_installed(study.task.own)
    if is_approved(home, study):
        raise BadInput(f"study {study.name}: it is approved already; `review refuse` takes it back")
    described = read_description(description)
    if described.hospital != own:
        raise BadInput(f"{description.name}: it describes data of {described.hospital}, not {own}")
    _refuse_a_second_name(home, described, data_folder)
    approval = Approval(
        study_digest=study.digest,
        officer=officer,
        approved_at=datetime.now(UTC).isoformat(timespec="seconds"),
        policy_digest=policy.digest(),
        description=str(description.resolve()),
        data_folder=str(data_folder.resolve()),
    )
    return ApprovedStudy(study, approval, described)


def _refuse_a_second_name(home: HospitalHome, described: DatasetDescription, folder: Path) -> None:
    """Two names of one table are two ledgers: its patients would pay twice, each budget once."""
    for path in sorted(home.approvals().glob("*.json")):
        approval = checked(Approval, read_state(path) or {}, what="approval")
        try:
            other = read_description(Path(approval.description))
        except BadInput:  # gone or changed: its own study says so when it is opened
            continue
        same = _table(other, Path(approval.data_folder)) == _table(described, folder)
        if same and other.dataset != described.dataset:
            raise BadInput(
                f"dataset {described.dataset}: its table is approved as dataset {other.dataset} "
                "already; give it that name, or one budget would be counted in two ledgers"
            )


def _table(description: DatasetDescription, folder: Path) -> tuple[object, ...]:
    """Where the rows come from, and which of them are taken."""
    place = (folder / description.path).resolve()
    forms = (description.sql, description.omop, description.dicom, description.fhir)
    return (place, description.rows, *forms)


def withdraw(home: HospitalHome, study: Study) -> None:
    """Take the approval back. What was released stays in ledger and log."""
    (home.approvals() / f"{study.digest}.json").unlink(missing_ok=True)


def is_approved(home: HospitalHome, study: Study) -> bool:
    """Whether the officer's yes stands: a file for this very digest."""
    return (home.approvals() / f"{study.digest}.json").exists()


def approved_study(home: HospitalHome, study: Study) -> ApprovedStudy:
    """The approval of `study`. Raises RefusedByPolicy when there is none for its digest."""
    value = read_state(home.approvals() / f"{study.digest}.json")
    if value is None:
        raise RefusedByPolicy(
            f"study {study.name}: digest {study.digest[:16]} is not approved; "
            f"`wardround review approve --dir {home.directory.name} {study.digest[:16]}`"
        )
    approval = checked(Approval, value, what="approval")
    if approval.study_digest != study.digest:
        raise RefusedByPolicy(f"study {study.name}: its approval is for another digest")
    return ApprovedStudy(study, approval, read_description(Path(approval.description)))


def kept_studies(home: HospitalHome) -> list[tuple[Study, bool]]:
    """Every kept study, and whether it is approved."""
    signer = home.coordinator_key()
    kept = []
    for path in sorted(home.studies().glob("*.json")):
        if path.stat().st_size > STUDY_LIMIT_BYTES:
            raise BadInput(f"{path.name}: over {STUDY_LIMIT_BYTES} bytes")
        study = read_signed_study(path.read_bytes(), signer=signer)
        kept.append((study, is_approved(home, study)))
    return kept
