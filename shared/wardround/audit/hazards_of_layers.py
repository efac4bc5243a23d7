"""The hazard of layers that mix the patients of a batch, from what hospitals logged of them."""

from wardround.audit.attempts import Attempt
from wardround.audit.body_network import NetworkBuilt
from wardround.audit.evidence import Evidence, Record, hospital_place, joins
from wardround.audit.hazard_case import Case, Finding
from wardround.audit.layer_kinds import APART, MIXING
from wardround.audit.report_model import Origin, Status
from wardround.masking.round_spec import Purpose

_MOST_NAMES = 5


def no_batch_norm(case: Case) -> Finding:
    """The kinds of layers that the hospitals built.

    FAIL where one mixes patients, PASS where every hospital logged them and all are known not to;
    else a REMARK.
    """
    if not case.evidence.study.rounds.count:
        return Finding(Status.PASS, Origin.DECLARED, "The study trains no network.")
    found = _built(case.evidence)
    mixing = tuple(record for record in found if MIXING & set(record.body.layers))
    if mixing:
        text = (
            f"{len({record.log for record in mixing})} hospitals built a network with layers that "
            f"mix the patients of a batch: {_names(mixing, MIXING)}. Clipping then bounds nobody's "
            "influence."
        )
        return Finding(Status.FAIL, Origin.LOGGED, text, mixing)
    silent = _took_part(case.evidence, case.attempts) - {record.log for record in found}
    if silent or not found:
        text = (
            f"{len(silent)} hospitals' logs do not say which layers their network has: one may mix "
            "the patients of a batch."
        )
        return Finding(Status.REMARK, Origin.NOT_AVAILABLE, text, found)
    unknown = {kind for record in found for kind in record.body.layers} - APART
    if unknown:
        text = (
            "The network has layers that this verifier does not know, and one may mix the patients "
            f"of a batch: {_names(found, unknown)}."
        )
        return Finding(Status.REMARK, Origin.LOGGED, text, found)
    text = (
        f"{len({record.log for record in found})} hospitals logged the layers of their network: "
        "none mixes the patients of a batch."
    )
    return Finding(Status.PASS, Origin.LOGGED, text, found)


def _built(evidence: Evidence) -> tuple[Record[NetworkBuilt], ...]:
    logs = (log for _, log in sorted(evidence.hospitals.items()))
    return tuple(
        record for log in logs for record in log.of(NetworkBuilt) if record.body.run == evidence.run
    )


def _took_part(evidence: Evidence, attempts: tuple[Attempt, ...]) -> set[str]:
    """Places of the logs of all that joined, or whose training updates came."""
    trained = {name for each in attempts if each.purpose is Purpose.TRAIN for name in each.received}
    joined = {name for name, log in evidence.hospitals.items() if joins(log, evidence.run)}
    return {hospital_place(name) for name in trained | joined}


def _names(records: tuple[Record[NetworkBuilt], ...], among: frozenset[str] | set[str]) -> str:
    found = sorted({kind for record in records for kind in record.body.layers} & among)
    more = len(found) - _MOST_NAMES
    return ", ".join(found[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
