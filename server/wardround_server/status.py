"""What the coordinator's people ask between runs: how studies stand, and a backup."""

import json
import os
import sqlite3
import tarfile
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from wardround.canonical import Json
from wardround.durable import gone_unless_whole
from wardround.errors import BadInput, why
from wardround.renewal import COORDINATOR_AUTHORITY, SERVER_FILE, certificate_of, days_left
from wardround.study.files import read_signed_study
from wardround.ticket import format_time, parse_time
from wardround_server.home import CoordinatorHome

_COUNTED = ("planned", "completed")


def study_states(home: CoordinatorHome) -> list[Json]:
    """Every submitted study, oldest first."""
    signer = home.identity().public_key
    states = []
    for folder in home.run_folders():
        study = read_signed_study((folder / "study.json").read_bytes(), signer=signer)
        row: Json = {"study": study.name, "digest": study.digest, "state": "waiting"}
        if (folder / "status.json").exists():
            row |= json.loads((folder / "status.json").read_text())
        if (folder / "result.json").exists():
            result = json.loads((folder / "result.json").read_text())
            row |= {"state": "failed" if "error" in result else "done", "result": result}
        states.append(row)
    return states


def certificate_state(home: CoordinatorHome, now: datetime | None = None) -> Json:
    """When the coordinator's own certificate ends; empty before the first start."""
    path = home.directory / COORDINATOR_AUTHORITY / SERVER_FILE
    if not path.exists():
        return {}
    held = certificate_of(path.read_bytes())
    return {
        "ends": format_time(held.not_valid_after_utc),
        "days": days_left(held, now or datetime.now(UTC)),
    }


def status_line(state: Json) -> str:
    """One study for a terminal: its state and, while it runs, who is missing or suspected."""
    text = f"{state['study']:24} {state['digest'][:16]}  {state['state']}"
    if state["state"] == "failed":
        return f"{text}: {state['result'].get('message', 'no reason was written')}"
    if "result" in state:
        planned, completed = (state["result"].get(f"hospitals_{s}") for s in _COUNTED)
        if planned and len(completed) < planned:
            text += f"; {len(completed)} of {planned} hospitals to the end: {', '.join(completed)}"
        lacking = state["result"].get("time_stamp", {}).get("missing")
        return f"{text}; NO TIME STAMP: {lacking}" if lacking else text
    if state["state"] == "train":
        text += f", round {int(state['round']) + 1}"
    for what, names in (
        ("waiting for", waiting_in(state)),
        ("out", refused_in(state)),
        ("missing", missing_of(state)),
        ("suspected", suspected_in(state)),
    ):
        text += f"; {what}: {names}" if names else ""
    return text


def waiting_in(status: Json, now: datetime | None = None) -> str:
    """For whom the opening of a session waits, why and how long; empty for nobody.

    >>> waiting_in({"waiting_for": {"harbour": "disconnected"}, "waiting_since":
    ...             "2026-01-02T03:04:05Z"}, datetime(2026, 1, 2, 3, 5, 0, tzinfo=UTC))
    'harbour (disconnected), for 55 s'
    """
    names = status.get("waiting_for")
    if not names:
        return ""
    passed = (now or datetime.now(UTC)) - parse_time(status["waiting_since"])
    who = ", ".join(f"{name} ({why})" for name, why in names.items())
    return f"{who}, for {max(0, round(passed.total_seconds()))} s"


def refused_in(status: Json) -> str:
    """Who has said no while a session opens and is not asked again, and why; empty for nobody.

    >>> refused_in({"state": "joining", "hospitals": {"harbour": "refused: policy", "lake": "ok"}})
    'harbour (refused: policy)'
    """
    if status["state"] != "joining":
        return ""
    waited_for = status.get("waiting_for", {})
    found = {
        name: said
        for name, said in status.get("hospitals", {}).items()
        if str(said).startswith("refused") and name not in waited_for
    }
    return ", ".join(f"{name} ({said})" for name, said in found.items())


def suspected_in(status: Json) -> str:
    """Who is suspected to be behind groups that lie far off, and why; empty for nobody.

    >>> suspected_in({"suspected": {"harbour": "far off"}})
    'harbour (far off)'
    """
    return ", ".join(f"{name} ({why})" for name, why in status.get("suspected", {}).items())


def missing_of(status: Json) -> str:
    """Who does not take part now, by a run's status, and why; empty when everybody does.

    >>> missing_of({"missing": {"harbour": "disconnected"}})
    'harbour (disconnected)'
    """
    return ", ".join(f"{name} ({why})" for name, why in status.get("missing", {}).items())


def study_state(home: CoordinatorHome, name: str) -> Json:
    """One study by name or by the beginning of its digest. Raises BadInput unless one fits."""
    states = study_states(home)
    found = [s for s in states if s["study"] == name or s["digest"].startswith(name)]
    if len(found) != 1:
        raise BadInput(
            f"study {name!r}: {len(found)} submitted studies fit; `wardround study list` shows them"
        )
    return found[0]


def backup(directory: Path, target: Path) -> None:
    """Write a tar archive of the coordinator's directory, databases copied consistently.

    Raises BadInput when the target exists or lies inside the directory.
    """
    if target.resolve().is_relative_to(directory.resolve()):
        raise BadInput(f"backup {target.name}: it has to lie outside {directory.name}")
    if not (directory / "coordinator.toml").exists():
        raise BadInput(f"{directory.name}: no coordinator here")
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise BadInput(f"backup {target.name} exists already") from error
    except OSError as error:
        raise BadInput(f"backup {target.name}: {why(error)}") from error
    with (
        gone_unless_whole(target),
        os.fdopen(descriptor, "wb") as file,
        tarfile.open(fileobj=file, mode="w:gz") as archive,
    ):
        for path in sorted(p for p in directory.rglob("*") if p.is_file()):
            name = str(Path(directory.name) / path.relative_to(directory))
            if path.suffix == ".sqlite":
                _add_database(archive, path, name)
            elif not path.name.endswith((".sqlite-wal", ".sqlite-shm")):
                archive.add(path, name)


def _add_database(archive: tarfile.TarFile, path: Path, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        with (
            closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        archive.add(copy, name)
