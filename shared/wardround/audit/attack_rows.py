"""Section C in words: how the hospitals' attacks on released models went, or why none was run."""

from wardround.audit.report_model import ModelAttack, Report
from wardround.study.contract import Frozen

_POWER = {
    "PASS": (
        "a leak that lets an attacker tell nearly all patients apart (AUC 0.99) would have shown"
    ),
    "VIOLATION": "an attack shows more than was claimed",
    "INCONCLUSIVE": "with so few patients even a large leak (AUC 0.99) could have gone unseen",
}
_SKIPPED = {
    "no time": "the policy asks for it, and the study's deadline left no time",
    "failed": "the policy asks for it, and the attacks failed",
}
_BY_POLICY = "the hospital's policy does not ask for it"
_NO_MODEL = "the study trains no model"
_RECORDS = "the study protects records, and only patients are attacked"


class AttackRow(Frozen):
    """A hospital and an attack on one model; `said` and `shadows` are None where none was run."""

    hospital: str
    run: str
    verdict: str
    why: str
    shadows: int | None = None
    said: ModelAttack | None = None


def attack_rows(report: Report) -> tuple[AttackRow, ...]:
    """What each hospital's log says of this run's model, and of those of earlier runs.

    A hospital whose log has no attack on this run's model is there with the reason.
    """
    run, found = report.run.run, report.model_attacks
    attacked = {said.hospital for said in found if said.run == run}
    missing = (audit.hospital for audit in report.engine_audits if audit.hospital not in attacked)
    why = _why(report)
    rows = [
        *map(_row, found),
        *(AttackRow(hospital=name, run=run, verdict="NOT RUN", why=why) for name in missing),
    ]
    return tuple(sorted(rows, key=lambda row: (row.hospital, row.run != run)))


def _row(said: ModelAttack) -> AttackRow:
    return AttackRow(
        hospital=said.hospital,
        run=said.run,
        verdict=said.verdict,
        why=_SKIPPED[said.skipped] if said.skipped else _POWER[said.verdict],
        shadows=None if said.skipped else said.shadows,
        said=said,
    )


def _why(report: Report) -> str:
    if not report.study.rounds_planned:
        return _NO_MODEL
    return _RECORDS if report.guarantee.unit == "record" else _BY_POLICY
