"""`wardround rehearse` as a person runs it: offline, quiet about patients, gone when it ends."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.machine import listens, living_with
from tests.support.small_federation import (
    Finished,
    read_json,
    start,
    until,
    wardround,
    write_rows,
    write_study,
)

from wardround.audit.container import read_file, unpack
from wardround.canonical import Json
from wardround.study.files import read_toml
from wardround_server.rehearsal.processes import command, environment

pytestmark = pytest.mark.federation

ROOT = Path(__file__).parents[2]
CANARIES = (b"CANARY-KEY", b"CANARY-NOTE", b"987654.25", b"7.7712345")
WATCHER = """\
import os, sys

def watch(event, args):
    if event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        address = args[1] if len(args) > 1 else None
    elif event in {"socket.getaddrinfo", "socket.gethostbyname"}:
        address = args[0]
    else:
        return
    with open(os.environ["WATCHED"], "a") as file:
        file.write(f"{event} {address!r}\\n")

sys.addaudithook(watch)
"""
LOOPBACK = re.compile(r"\('(127\.0\.0\.1|::1)', |'localhost'|'127\.0\.0\.1'|None$")
MAY_ISOLATE = (
    subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode == 0
)
needs_a_namespace = pytest.mark.skipif(
    not MAY_ISOLATE,
    reason="a network namespace of our own needs root (unshare -n)",
)


def plant_canaries(path: Path) -> None:
    """Keys, a column nobody asked for, a value out of range and one within it, all easily found."""
    header, *rows = path.read_text().split()
    lines = [header + ",note"]
    for number, row in enumerate(rows):
        _, age, marker, rest = row.split(",", 3)
        marker = {5: "987654.25", 9: "7.7712345"}.get(number, marker)
        lines.append(f"CANARY-KEY-{number},{age},{marker},{rest},CANARY-NOTE-{number}")
    path.write_text("\n".join(lines) + "\n")


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """One rehearsal that has ended, and what was seen of it from outside."""

    out: Path
    data: Path
    finished: Finished
    addresses: tuple[str, ...]
    without_route: int | None

    @property
    def json(self) -> Json:
        """The last line of standard output."""
        return self.finished.json


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Rehearsed:
    """Four hospitals, one with canaries, one with a single class; no network but loopback."""
    folder = tmp_path_factory.mktemp("rehearsed")
    write_study(folder, ["alpha", "beta", "gamma", "delta"])
    plant_canaries(folder / "data" / "alpha.csv")
    write_rows(folder / "data" / "delta.csv", seed=3, ill=1)
    (folder / "watch").mkdir()
    (folder / "watch" / "sitecustomize.py").write_text(WATCHER)
    out, data, count = folder / "out", folder / "data", folder / "without-route"
    words = command(
        *("rehearse", str(folder / "study"), "--data", str(data), "--out", str(out), "--json")
    )
    if MAY_ISOLATE:
        words = ["unshare", "-n", sys.executable, "-m", "tests.support.offline", str(count), *words]
    done = subprocess.run(
        words,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env={
            **environment(),
            "PYTHONPATH": f"{folder / 'watch'}:{ROOT}",
            "WATCHED": str(folder / "watched"),
        },
        timeout=240,
        check=False,
        text=True,
    )
    return Rehearsed(
        out,
        data,
        Finished(done.returncode, done.stdout, done.stderr),
        tuple((folder / "watched").read_text().splitlines()),
        int(count.read_text()) if MAY_ISOLATE else None,
    )


def test_a_rehearsal_ends_with_exit_code_0_and_one_json_object_as_its_last_line(
    rehearsed: Rehearsed,
) -> None:
    assert rehearsed.finished.code == 0, rehearsed.finished.err
    found = rehearsed.json
    assert {
        *("study", "hospitals_planned", "hospitals_completed", "rounds", "seconds", "privacy"),
        *("metrics", "report", "bundle", "model"),
    } <= set(found)
    assert {"mechanism", "unit", "epsilon", "delta", "epsilon_per_hospital"} <= set(
        found["privacy"]
    )
    assert {"auroc", "accuracy", "per_hospital"} <= set(found["metrics"])
    assert (found["hospitals_planned"], found["hospitals_completed"]) == (4, 4)
    assert found["verified"] is True
    for name in ("report", "bundle", "model"):
        assert Path(found[name]).stat().st_size > 0
    assert rehearsed.finished.out.count("\n") == 1  # with --json it is the only line


def test_epsilon_is_within_the_studys_for_every_hospital(rehearsed: Rehearsed) -> None:
    per_hospital = rehearsed.json["privacy"]["epsilon_per_hospital"]
    assert set(per_hospital) == {"alpha", "beta", "gamma", "delta"}
    assert all(0 < epsilon <= 3.0 for epsilon in per_hospital.values())


def test_a_hospital_with_one_class_takes_part_and_its_own_metrics_are_na(
    rehearsed: Rehearsed,
) -> None:
    metrics = rehearsed.json["metrics"]
    assert metrics["per_hospital"]["delta"]["auroc"] is None
    assert metrics["per_hospital"]["delta"]["patients"] > 0
    assert metrics["per_hospital"]["alpha"]["auroc"] is not None
    assert 0.6 < metrics["auroc"] <= 1.0


@needs_a_namespace
def test_a_rehearsal_needs_no_network_but_loopback_and_nothing_tries_to_leave_it(
    rehearsed: Rehearsed,
) -> None:
    assert rehearsed.finished.code == 0, rehearsed.finished.err
    assert rehearsed.without_route == 0


@needs_a_namespace
@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_the_kernels_counter_does_notice_who_tries_to_leave(tmp_path: Path, address: str) -> None:
    program = f"import socket; socket.create_connection(({address!r}, 443), 1)"
    count = tmp_path / "count"
    subprocess.run(
        [
            "unshare",
            "-n",
            sys.executable,
            "-m",
            "tests.support.offline",
            str(count),
            sys.executable,
            "-c",
            program,
        ],
        env={**environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert int(count.read_text()) > 0


def test_no_process_of_a_rehearsal_asks_for_an_address_outside_loopback(
    rehearsed: Rehearsed,
) -> None:
    assert any("connect ('127.0.0.1'" in line for line in rehearsed.addresses)  # it does watch
    outside = [line for line in rehearsed.addresses if not LOOPBACK.search(line)]
    assert outside == []


def test_patients_keys_and_values_appear_in_no_file_and_no_output_of_any_party(
    rehearsed: Rehearsed,
) -> None:
    said = {
        "stdout": rehearsed.finished.out.encode(),
        "stderr": rehearsed.finished.err.encode(),
        **{str(path): path.read_bytes() for path in rehearsed.out.rglob("*") if path.is_file()},
        **unpack(read_file(rehearsed.out / "bundle.zip")),
    }
    names = {Path(name).name for name in said}
    assert {"status.json", "coordinator.log", "hospital-alpha.log", "report.html"} <= names
    assert [name for name, content in said.items() if any(c in content for c in CANARIES)] == []
    planted = (rehearsed.data / "alpha.csv").read_bytes()
    assert all(canary in planted for canary in CANARIES)  # the search can find them


def test_a_value_out_of_range_is_only_counted_by_the_hospital_itself(rehearsed: Rehearsed) -> None:
    check = wardround(
        *("data", "check", rehearsed.data.parent / "study" / "hospitals" / "alpha.toml"),
        *("--study", rehearsed.data.parent / "study" / "study.toml", "--data", rehearsed.data),
        "--json",
    )
    marker = next(c for c in check.json["columns"] if c["column"] == "marker")
    assert marker["out_of_range"] == 1
    assert not any(canary in check.out.encode() for canary in CANARIES)


@contextmanager
def rehearsing(
    folder: Path, names: Sequence[str], *, rounds: int
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A rehearsal whose parties have all been started; ended afterwards if it still runs."""
    write_study(folder, names)
    out, log = folder / "out", folder / "log"
    process = start(
        *("rehearse", folder / "study", "--data", folder / "data", "--out", out),
        *("--set", f"rounds.count={rounds}"),
        log=log,
    )
    try:
        serving = [f"hospital\0serve\0{out / 'hospitals' / name}" for name in names]
        until("all have started", lambda: all(map(living_with, serving)), 120)
        yield process, out
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def until_training(out: Path) -> None:
    """Wait for the third round."""

    def trains() -> bool:
        states = [read_json(path) for path in out.glob("coordinator/studies/*/status.json")]
        return any(state.get("round", 0) >= 2 for state in states)

    until(f"training: {out.parent / 'log'}", trains, 120)


@pytest.mark.slow
def test_a_rehearsal_whose_hospital_is_killed_ends_with_exit_code_8_and_a_verified_bundle(
    tmp_path: Path,
) -> None:
    names = ["alpha", "beta", "gamma", "delta"]
    with rehearsing(tmp_path, names, rounds=15) as (process, out):
        until_training(out)
        (victim,) = living_with(str(out / "hospitals" / "beta"))
        os.kill(victim, signal.SIGKILL)
        code = process.wait(120)
    text = (tmp_path / "log").read_text()
    assert code == 8, text
    outcome = json.loads(text.splitlines()[-1])
    assert (outcome["hospitals_planned"], outcome["hospitals_completed"]) == (4, 3)
    assert outcome["verified"] is True
    assert living_with(str(out)) == []


def check_nothing_is_left(out: Path, port: int) -> None:
    until("no process is left", lambda: not living_with(str(out)), 20)
    assert not listens(port)
    logs = [out.parent / "log", *(out / "logs").iterdir()]
    assert [log.name for log in logs if "Traceback" in log.read_text()] == []


def test_a_rehearsal_that_is_interrupted_leaves_no_process_and_no_port(tmp_path: Path) -> None:
    with rehearsing(tmp_path, ["alpha", "beta", "gamma"], rounds=9000) as (process, out):
        until_training(out)
        port = read_toml(out / "coordinator" / "coordinator.toml")["port"]
        assert listens(port)
        assert len(living_with(str(out))) == 5  # itself, coordinator, three hospitals
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert living_with(str(out)) == []  # not even for a moment
    check_nothing_is_left(out, port)


@pytest.mark.slow
def test_a_rehearsal_that_is_killed_leaves_no_process_and_no_port(tmp_path: Path) -> None:
    with rehearsing(tmp_path, ["alpha", "beta", "gamma"], rounds=9000) as (process, out):
        port = read_toml(out / "coordinator" / "coordinator.toml")["port"]
        assert listens(port)
        process.kill()
        process.wait(30)
    check_nothing_is_left(out, port)


@pytest.fixture(scope="module")
def over_budget(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished]:
    folder = tmp_path_factory.mktemp("over-budget")
    write_study(folder, ["alpha", "beta", "gamma"])
    (folder / "policy.toml").write_text(
        'epsilon_budget = 1.0\ndelta_max = 1e-4\nmechanisms = ["local"]\n'
        "allow_exact_evaluation = true\n"
    )
    return folder, rehearse(folder, "first")


def rehearse(folder: Path, out: str, *more: str) -> Finished:
    return wardround(
        *("rehearse", folder / "study", "--data", folder / "data", "--out", folder / out),
        *("--policy", folder / "policy.toml", "--json", *more),
    )


def test_a_study_over_budget_ends_with_exit_code_6_and_the_epsilon_that_would_fit(
    over_budget: tuple[Path, Finished],
) -> None:
    _, found = over_budget
    assert found.code == 6, found.err
    assert found.json["exit_code"] == 6
    assert 0.5 < found.json["epsilon_that_fits"] <= 1.0
    fits = f"{found.json['epsilon_that_fits']:.3f}"
    assert f"(epsilon {fits} would fit)" in found.err


@pytest.mark.slow
def test_run_again_with_the_epsilon_that_fits_it_is_within_the_budget(
    over_budget: tuple[Path, Finished],
) -> None:
    folder, first = over_budget
    fits = first.json["epsilon_that_fits"]
    again = rehearse(folder, "again", "--set", f"privacy.epsilon={fits!r}")
    assert again.code == 0, again.err
    assert again.json["privacy"]["epsilon"] <= 1.0


@pytest.mark.slow
def test_a_policy_that_does_not_allow_a_study_ends_the_rehearsal_with_exit_code_6(
    over_budget: tuple[Path, Finished],
) -> None:
    folder, _ = over_budget
    found = rehearse(folder, "none", "--set", "privacy.mechanism=none")
    assert found.code == 6
    assert "privacy.mechanism none: the policy allows local" in json.loads(found.out)["message"]
    shutil.rmtree(folder / "none")
