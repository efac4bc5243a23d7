"""What a rehearsal adds beside its signed report, because it alone has everybody's data.

It is computed by the hospitals' part of the software, as a process of its own: the coordinator's
part cannot even load it. None of it is evidence, and none goes into the bundle.
"""

import json

from wardround.canonical import Json
from wardround_server.rehearsal.processes import Processes
from wardround_server.rehearsal.script import Rehearsal


def beside(rehearsal: Rehearsal) -> Json:
    """Compare, or score the hospital that was left out, as the rehearsal was asked; else nothing.

    Raises what `wardround compare` raised.
    """
    words = ["compare", str(rehearsal.study_folder), "--data", str(rehearsal.data), "--json"]
    words += ["--out", str(rehearsal.out), "--run", str(rehearsal.out)]
    if rehearsal.leave_out is not None:
        found = _run(rehearsal, [*words, "--left-out", rehearsal.leave_out])
        return {"left_out": {**found, "file": str(rehearsal.out / "left-out.json")}}
    if not rehearsal.compare:
        return {}
    for override in rehearsal.overrides:
        words += ["--set", override]
    found = _run(rehearsal, words)
    ways = {line["way"]: line["whole"]["value"] for line in found["lines"]}
    return {
        "comparison": {
            "metric": found["metric"],
            "ways": ways,
            "next_hospital": found["next_hospital"],
            "file": str(rehearsal.out / "comparison.html"),
        }
    }


def _run(rehearsal: Rehearsal, words: list[str]) -> Json:
    with Processes(rehearsal.out / "logs") as processes:
        printed = processes.run_all({"comparison": words})["comparison"]
    found: Json = json.loads(printed.splitlines()[-1])
    return found
