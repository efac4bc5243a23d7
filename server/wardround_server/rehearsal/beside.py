"""What a rehearsal can tell because it alone has everybody's data.

It is computed by the hospitals' part of the software, as a process of its own: the coordinator's
part cannot even load it. The comparison is made before the study is submitted, so that what cannot
be compared is said before anybody trains; the coordinator then states it in its log. How the model
does at a hospital that was left out is known only afterwards, and is no evidence.
"""

import json

from wardround.audit.body_comparison import ONE_PLACE, ComparisonStated
from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.protocol.specs import evaluation_layout
from wardround_server.rehearsal.processes import Processes
from wardround_server.rehearsal.script import Rehearsal

_NO_RUN = "0" * 32
_NUMBERS = ("patients", "value", "low", "high")
FILE = "comparison.html"


def compare_first(rehearsal: Rehearsal, processes: Processes) -> Json:
    """Train every way, write the three files, and return what the coordinator will state.

    Raises what `wardround compare` raised, BadInput for a study that cannot be compared.
    """
    plan = rehearsal.plan()
    if not plan.rounds.count:
        raise BadInput("--compare: the study trains nothing that could be compared")
    evaluation_layout(plan)  # what the run would end with is said before all this is trained
    words = [*_words(rehearsal), *(w for each in rehearsal.overrides for w in ("--set", each))]
    return stated(_printed(processes, words))


def stated(found: Json) -> Json:
    """The body of the coordinator's entry, but for the run, from what `compare` printed."""
    coming = found["next_hospital"]
    body: Json = {
        "made_of": ONE_PLACE,
        "metric": found["metric"],
        "ways": [_way(line) for line in found["lines"]],
        "next_hospital": None if coming is None else _coming(coming),
    }
    ComparisonStated.model_validate({**body, "run": _NO_RUN})
    return body


def told(rehearsal: Rehearsal, report: Json) -> Json:
    """For the last line of a rehearsal: the ways, or how the hospital that was left out fares."""
    if rehearsal.leave_out is not None:
        with Processes(rehearsal.out / "logs") as processes:
            words = [*_words(rehearsal), "--run", str(rehearsal.out)]
            found = _printed(processes, [*words, "--left-out", rehearsal.leave_out])
        return {"left_out": {**found, "file": str(rehearsal.out / "left-out.json")}}
    facts = report.get("comparison")
    if facts is None:
        return {}
    return {
        "comparison": {
            "metric": facts["metric"],
            "ways": {each["way"]: each["whole"]["value"] for each in facts["ways"]},
            "next_hospital": facts["next_hospital"],
            "file": str(rehearsal.out / FILE),
        }
    }


def _words(rehearsal: Rehearsal) -> list[str]:
    words = ["compare", str(rehearsal.study_folder), "--data", str(rehearsal.data), "--json"]
    return [*words, "--out", str(rehearsal.out)]


def _way(line: Json) -> Json:
    return {
        "way": line["way"],
        "epsilon": line["epsilon"],
        "whole": _number(line["whole"]),
        "hospitals": {name: _number(own) for name, own in line["hospitals"].items()},
    }


def _number(figure: Json) -> Json:
    return {name: figure[name] for name in _NUMBERS}


def _coming(found: Json) -> Json:
    (low, high), (least, most) = found["interval"], found["prediction"]
    return {
        "hospitals": found["hospitals"],
        "mean": found["mean"],
        "low": low,
        "high": high,
        "prediction_low": least,
        "prediction_high": most,
    }


def _printed(processes: Processes, words: list[str]) -> Json:
    printed = processes.run_all({"comparison": words})["comparison"]
    found: Json = json.loads(printed.splitlines()[-1])
    return found
