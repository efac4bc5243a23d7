"""The verdicts of attack tests in the hospital's evidence log: a release that a hospital chooses.

A verdict is a function of patients, and no noise covers it. So it is charged as what it is, a
release without noise, and written only when an officer or the policy asks for it.
"""

from datetime import UTC, datetime

from wardround.canonical import Json
from wardround_client.approval import ApprovedStudy
from wardround_client.attacks.outcome import AttackOutcome
from wardround_client.home import HospitalHome
from wardround_client.records import StudyRecords
from wardround_client.words_out import charge

ENTRY = "attack-tested"


def entry_body(outcome: AttackOutcome) -> Json:
    """What goes into the log: what was claimed and tested, and the verdicts; no other number."""
    return {
        "run": outcome.run,
        "model_sha256": outcome.model_sha256,
        "epsilon_claimed": outcome.claim.epsilon,
        "delta": outcome.claim.delta,
        "alpha": outcome.alpha,
        "tests": outcome.tests,
        "shadows": outcome.shadows,
        "noise": "none",
        "verdicts": outcome.verdicts(),
        "verdict": outcome.verdict.value,
    }


def log_verdicts(
    home: HospitalHome, approved: ApprovedStudy, records: StudyRecords, outcome: AttackOutcome
) -> None:
    """Charge the release, then write the entry.

    Raises BadInput while the hospital's daemon has the ledger: stop it first.
    """
    body, now = entry_body(outcome), datetime.now(UTC)
    with home.ledger(approved.description.dataset) as ledger:
        charge(ledger, approved, records, body, "attack-test")
        with home.log(approved.study.digest) as log:
            log.append(ENTRY, body, time=now)
