"""Section E as people read it: whether choosing the treatment by this model would help."""

from collections.abc import Iterator
from typing import Any

from wardround.audit.group_tables import with_ends
from wardround.audit.report_evaluation import EstimateFacts
from wardround.audit.report_model import Report
from wardround.audit.words import Words
from wardround.canonical import Json
from wardround.study.treatment import CAVEATS

BETTER = "Choosing by the model spares more patients than treating everybody, and than nobody."
WORSE_THAN_ALL = "Treating everybody alike with {treated} does better than choosing by the model."
WORSE_THAN_NONE = (
    "Treating everybody alike with {untreated} does better than choosing by the model."
)
NOT_SHOWN = (
    "Nothing shows that choosing by the model does better than the same treatment for everybody: "
    "that it can tell whom {treated} helps was not found."
)
UNKNOWN = "What choosing by the model would do is not available: too few patients."
CONTRADICTED = (
    "The arms are not those that chance gives: {treated} of {patients} patients were treated, "
    "{declared} of them were due. Nothing below may be read as an effect of treatment."
)
EVERYBODY = "{arm} for everybody"
PICKED = (
    "{treated} for whom a benefit of {worth} or more is predicted ({share}), {untreated} for the "
    "others"
)
EFFECT = "Benefit of {treated} over {untreated}, for all patients: {benefit}"


def treatment_table(report: Report, t: Words) -> dict[str, Any]:
    """`chosen`: policies and strata of predicted benefit; None in a study without a treatment."""
    told = (report.evaluation.metrics or {}).get("treatment")
    if told is None:
        return {"chosen": None}
    names = {"treated": told["treated"], "untreated": told["untreated"]}
    benefit = _estimate(told["benefit"], "{:+.1f} %", t)
    return {
        "chosen": {
            "verdict": t.plain(_verdict(told), **names),
            "alarm": _alarm(told, t),
            "assumed": told["assignment"] == "assumed",
            "effect": t.plain(EFFECT, benefit=benefit, **names),
            "caveat": t.plain(CAVEATS[told["assignment"]], basis=told["basis"]),
            "policies": list(_policies(told, t)),
            "strata": [_stratum(each, t) for each in told["strata"]],
        }
    }


def _verdict(told: Json) -> str:
    policy = told["policy"]
    over_all, over_none = policy["less_than_treated"], policy["less_than_untreated"]
    if over_all is None or over_none is None:
        return UNKNOWN
    if over_all["low"] > 0 and over_none["low"] > 0:
        return BETTER
    if over_all["high"] < 0:
        return WORSE_THAN_ALL
    return WORSE_THAN_NONE if over_none["high"] < 0 else NOT_SHOWN


def _alarm(told: Json, t: Words) -> str | None:
    arms = told["allocation"]
    if not arms["contradicts"]:
        return None
    patients = arms["treated"] + arms["untreated"]
    due = f"{patients * arms['declared']:.0f}"
    return t.plain(CONTRADICTED, treated=arms["treated"], patients=patients, declared=due)


def _policies(told: Json, t: Words) -> Iterator[dict[str, str]]:
    policy = told["policy"]
    share = "NA" if policy["treats"] is None else f"{100 * policy['treats']:.0f} %"
    picked = t.plain(
        PICKED,
        treated=told["treated"],
        untreated=told["untreated"],
        worth=f"{100 * told['worth']:g} %",
        share=share,
    )
    for name, risk, less in (
        (t.plain(EVERYBODY, arm=told["untreated"]), told["risk_untreated"], "less_than_untreated"),
        (t.plain(EVERYBODY, arm=told["treated"]), told["risk_treated"], "less_than_treated"),
        (picked, policy["risk"], None),
    ):
        yield {
            "name": name,
            "risk": _estimate(risk, "{:.1f} %", t),
            "spared": "" if less is None else _estimate(policy[less], "{:+.1f} %", t),
        }


def _stratum(each: Json, t: Words) -> dict[str, str]:
    shown = each["standing"] == "shown"
    patients = f"{each['untreated']} / {each['treated']}" if shown else t.word(each["standing"])
    return {
        "benefit": each["benefit"],
        "patients": patients,
        "observed": _estimate(each["observed"], "{:+.1f} %", t),
    }


def _estimate(found: Json | None, pattern: str, t: Words) -> str:
    return with_ends(None if found is None else EstimateFacts(**found), pattern, t)
