"""Run a rehearsal from an empty folder to the report, and say how it ended in one JSON object."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from wardround.audit.check_authentic import Pins
from wardround.audit.html import render_html
from wardround.audit.pdf import can_render_pdf, render_pdf
from wardround.audit.verdicts import Verdicts
from wardround.audit.verify import verify_bundle
from wardround.canonical import Json
from wardround.durable import write_durably
from wardround.errors import BadInput, Refused, RefusedByBudget, WardroundError
from wardround.evaluation.shown import BINARY, headline, kind_of, patients_in
from wardround.study.manifest import Mechanism, Study
from wardround_server.home import CoordinatorHome
from wardround_server.rehearsal.beside import compare_first, told
from wardround_server.rehearsal.interrupt import Interruption
from wardround_server.rehearsal.processes import Processes
from wardround_server.rehearsal.script import Rehearsal, Say, Stage, read_status
from wardround_server.rehearsal.view import (
    HospitalState,
    LiveView,
    PlainView,
    Snapshot,
    View,
)

_LOOK_S = 0.1
_OUTPUTS = ("report.json", "bundle.zip")
_MODEL = "model.safetensors"


class RunFailed(WardroundError):
    """The coordinator ended the run with an error; carries its message and exit code."""

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(slots=True)
class Watch:
    """Looks at the running federation and knows when it has ended."""

    rehearsal: Rehearsal
    processes: Processes
    study: Study
    interruption: Interruption
    _trains_since: float | None = None

    @property
    def folder(self) -> Path:
        """The study's folder at the coordinator."""
        return self.rehearsal.coordinator / "studies" / self.study.digest

    def until_done(self, view: View) -> Json:
        """Show the run until it has a result. Raises WardroundError when the coordinator dies."""
        with view:
            while True:
                self.interruption.check()
                view.show(self.snapshot())
                result = read_status(self.folder / "result.json")
                if result:
                    view.show(self.snapshot())
                    return result
                if not self.processes.alive("coordinator"):
                    last = self.processes.parties["coordinator"].last_lines()
                    raise WardroundError(f"the coordinator's process has ended:\n{last}")
                time.sleep(_LOOK_S)

    def snapshot(self) -> Snapshot:
        """The federation as it is now."""
        status = read_status(self.folder / "status.json")
        if status.get("state") == "train" and self._trains_since is None:
            self._trains_since = time.monotonic()
        since = self._trains_since or time.monotonic()
        private = self.study.privacy.mechanism is not Mechanism.NONE
        hospitals = [
            HospitalState(
                name,
                self.processes.alive(f"hospital-{name}"),
                read_status(self.rehearsal.hospital(name) / "status.json"),
                self.study.privacy.epsilon if private else None,
            )
            for name in self.study.names()
        ]
        return Snapshot(
            self.study.title,
            self.study.rounds.count,
            status,
            hospitals,
            time.monotonic() - since,
        )


def rehearse(rehearsal: Rehearsal, *, console: Console, interruption: Interruption) -> Json:
    """Play the whole federation. Returns the JSON of the command line, `exit_code` included.

    Raises what a party raised: BadInput for data, study or policy (then nothing is left in the
    folder), Refused when hospitals said no.
    """
    plan, policy = rehearsal.plan(), rehearsal.policy_file()
    if policy is not None and not policy.is_file():
        raise BadInput(f"policy {policy.name}: no such file")
    with _new_folder(rehearsal.out), Processes(rehearsal.out / "logs") as processes:
        say = partial(console.print, highlight=False)
        compared = _compared(rehearsal, processes, say) if rehearsal.compare else None
        started = time.monotonic()
        study = Stage(rehearsal, processes, say, compared).open(plan)
        watch = Watch(rehearsal, processes, study, interruption)
        result = watch.until_done(LiveView(console) if console.is_terminal else PlainView(console))
    if "error" in result:
        raise _error_of(result)
    for name in (*_OUTPUTS, _MODEL) if study.rounds.count else _OUTPUTS:
        shutil.copyfile(watch.folder / name, rehearsal.out / name)
    return _summary(rehearsal, study, result, time.monotonic() - started)


def _compared(rehearsal: Rehearsal, processes: Processes, say: Say) -> Json:
    say("rehearsal: this machine has everybody's data: alone, together, pooled, each one left out")
    found = compare_first(rehearsal, processes)
    say(f"rehearsal: {len(found['ways'])} ways are compared; the coordinator will state them")
    return found


def _summary(rehearsal: Rehearsal, study: Study, result: Json, seconds: float) -> Json:
    report = json.loads((rehearsal.out / "report.json").read_text())
    verdicts = _verify(rehearsal, study)
    write_durably(rehearsal.out / "report.html", render_html(report, verdicts).encode())
    if can_render_pdf():
        write_durably(rehearsal.out / "report.pdf", render_pdf(report, verdicts))
    run = (rehearsal.coordinator / "studies" / study.digest / "run-id").read_text()
    return {
        "study": study.name,
        "hospitals_planned": result["hospitals_planned"],
        "hospitals_completed": len(result["hospitals_completed"]),
        "rounds": result["rounds"],
        "seconds": round(seconds, 2),
        "privacy": _privacy(study, report),
        "metrics": {**_pooled(report), "per_hospital": _per_hospital(rehearsal, study, run)},
        "verified": verdicts.ok,
        "report": str(rehearsal.out / "report.html"),
        **({"report_pdf": str(rehearsal.out / "report.pdf")} if can_render_pdf() else {}),
        "bundle": str(rehearsal.out / "bundle.zip"),
        "model": str(rehearsal.out / _MODEL) if study.rounds.count else None,
        "exit_code": result["exit_code"],
        **(told(rehearsal, report) if verdicts.ok else {}),
    }


def _verify(rehearsal: Rehearsal, study: Study) -> Verdicts:
    """As an auditor would who got every fingerprint over the telephone."""
    pins = Pins(
        coordinator=CoordinatorHome(rehearsal.coordinator).identity().fingerprint,
        hospitals={name: study.fingerprint_of(name) for name in study.names()},
    )
    return verify_bundle(rehearsal.out / "bundle.zip", pins=pins)


def _privacy(study: Study, report: Json) -> Json:
    guarantee = report["guarantee"]
    return {
        "mechanism": study.privacy.mechanism.value,
        "unit": study.privacy.unit,
        "guarantee": guarantee["kind"],
        "epsilon": guarantee["epsilon"]["value"],
        "delta": guarantee["delta"]["value"],
        "epsilon_per_hospital": {
            hospital["hospital"]: hospital["epsilon"]["value"]
            for hospital in guarantee["hospitals"]
        },
        "covers": "training patients" if _held_out_exact(study) else "all patients",
        "evaluation_counts": study.evaluation.counts,
    }


def _held_out_exact(study: Study) -> bool:
    """Whether held-out patients are opened without noise, beyond what epsilon covers."""
    return study.evaluation.counts == "exact" and study.rounds.count > 0


def _pooled(report: Json) -> Json:
    """The pooled metrics; None for each when a hospital was lost during the evaluation."""
    metrics = report["evaluation"]["metrics"] or {}
    if metrics and kind_of(metrics) != BINARY:
        own = {"kind": kind_of(metrics), "patients": patients_in(metrics)}
        return own | headline(metrics)
    names = ("auroc", "accuracy", "sensitivity", "specificity", "brier")
    return {name: _value(metrics.get(name)) for name in names} | {
        "auroc_bracket": [metrics.get("auroc_lower"), metrics.get("auroc_upper")],
        "patients": metrics.get("patients"),
        "threshold": report["evaluation"]["threshold"],
    }


def _per_hospital(rehearsal: Rehearsal, study: Study, run: str) -> Json:
    """What each hospital measured on its own held-out patients; it stays there in real life."""
    found: Json = {}
    for name in study.names():
        evaluation = read_status(rehearsal.hospital(name) / "models" / f"{run}.evaluation.json")
        if "kind" in evaluation:
            found[name] = {"patients": patients_in(evaluation), **headline(evaluation)}
            continue
        found[name] = {
            metric: _value(evaluation.get(metric)) for metric in ("auroc", "accuracy", "brier")
        } | {"patients": evaluation.get("patients")}
    return found


def _value(estimate: object) -> float | None:
    return estimate["value"] if isinstance(estimate, dict) else None


def _error_of(result: Json) -> WardroundError:
    """The coordinator's error, as this process raises it."""
    message = str(result["message"])
    if "epsilon_that_fits" in result:
        return RefusedByBudget(message, epsilon_that_fits=float(result["epsilon_that_fits"]))
    if result["exit_code"] == Refused.exit_code:
        return Refused(message)
    return RunFailed(message, exit_code=int(result["exit_code"]))


@contextmanager
def _new_folder(out: Path) -> Iterator[None]:
    """Make the folder; bad input before the first round leaves none, so that the next try fits."""
    there = out.exists()
    if there and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"--out {out.name}: a new or empty folder is due, nothing is overwritten")
    for name in ("logs", "hospitals"):
        (out / name).mkdir(mode=0o700, parents=True)
    try:
        yield
    except WardroundError as error:
        if error.exit_code == BadInput.exit_code:
            shutil.rmtree(out)
            if there:
                out.mkdir()
        raise
