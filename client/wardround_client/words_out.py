"""What leaves as words or rounded counts, without noise: charged before it is written."""

from datetime import UTC, datetime
from typing import Literal

from wardround.canonical import Json, digest
from wardround.privacy.engine import ExactEvaluation
from wardround.privacy.mechanism import Exact
from wardround_client.approval import ApprovedStudy
from wardround_client.ledger import Ledger
from wardround_client.records import StudyRecords
from wardround_client.remaining import split_name


def charge(
    ledger: Ledger,
    approved: ApprovedStudy,
    records: StudyRecords,
    body: Json,
    purpose: Literal["attack-test", "datasheet"],
) -> None:
    """Spend the release of `body`, an entry of the evidence log about a run."""
    study = approved.study
    reservation = ledger.reserve(
        study_digest=study.digest,
        run=body["run"],
        purpose=purpose,
        transcript=digest({**body, "time": datetime.now(UTC).isoformat()}),
        mechanism=Exact(),
        units=records.train.patients + records.held_out.patients,
        split=split_name(approved.description, study.evaluation.held_out),
        unit=study.privacy.unit,
    )
    ledger.commit(reservation, ExactEvaluation())
