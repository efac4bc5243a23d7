"""A tiny generated study, and a standing federation of real processes that plays several."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tests.support.machine import free_port, is_connected, listens

from wardround.audit.container import read_file, unpack
from wardround.canonical import Json
from wardround.study.files import read_study_plan, sign_study
from wardround.study.manifest import Study
from wardround_client.approval import approve, keep_study
from wardround_client.home import HospitalHome
from wardround_client.joining import join
from wardround_server.home import CoordinatorHome, CoordinatorSettings
from wardround_server.rehearsal.processes import Party, Processes, command, environment
from wardround_server.roster import with_roster

ROWS = 160
START_TIMEOUT_S = 90.0
RUN_TIMEOUT_S = 90.0

STUDY = """\
schema = "wardround.study/1"
name = "small"
title = "A small generated study"
purpose = "Shown by the deployment tests."
contact = "tests@example.org"

[task]
family = "risk"
model = "logistic-regression"

[contract]
patient_key = "patient"

[contract.label]
name = "ill"
description = "Generated outcome"
positive = "ill = 1"

[[contract.columns]]
name = "age"
kind = "continuous"
description = "Age"
unit = "a"
range = [18, 90]

[[contract.columns]]
name = "marker"
kind = "continuous"
description = "A laboratory value"
unit = "mg/dL"
range = [0, 10]
may_be_missing = true

[[contract.columns]]
name = "smoker"
kind = "binary"
description = "Smokes"

[privacy]
unit = "patient"
mechanism = "local"
epsilon = 3.0
delta = 1e-4
clip_norm_l2 = 1.0
sampling_rate = 0.5

[training]
local_steps = 2
learning_rate = 1.0
expected_batch = 60.0

[rounds]
count = 3
spare_attempts = 2
quorum = 3
deadline_s = 60.0

[masking]
minimum_hospitals = 3

[evaluation]
registered = 2025-11-22
held_out = 0.25
threshold = 0.5
counts = "exact"
"""

DESCRIPTION = """\
schema = "wardround.dataset/1"
hospital = "{hospital}"
dataset = "{dataset}"
title = "Generated patients of {hospital}"
path = "{path}"

[patient]
source = "patient"

[label]
source = "ill"
positive_when = "> 0"

[[columns]]
column = "age"
source = "age"
unit = "a"

[[columns]]
column = "marker"
source = "marker"
unit = "mg/dL"
out_of_range = "missing"

[[columns]]
column = "smoker"
source = "smoker"
"""


def write_study(folder: Path, hospitals: Sequence[str]) -> None:
    """`folder`/study and `folder`/data: a study with 3 rounds that each hospital is ready for."""
    (folder / "study" / "hospitals").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "study" / "study.toml").write_text(STUDY)
    for number, hospital in enumerate(hospitals):
        write_rows(folder / "data" / f"{hospital}.csv", seed=number)
        write_description(folder, hospital)


def write_description(
    folder: Path, hospital: str, *, dataset: str = "", path: str = "", name: str = ""
) -> Path:
    """hospitals/NAME.toml of one data set; returns its path."""
    target = folder / "study" / "hospitals" / f"{name or hospital}.toml"
    dataset, path = dataset or f"small-{hospital}", path or f"{hospital}.csv"
    target.write_text(DESCRIPTION.format(hospital=hospital, dataset=dataset, path=path))
    return target


def write_rows(path: Path, *, seed: int, ill: int | None = None) -> None:
    """`ROWS` generated patients; `ill` gives all of them the same label."""
    draw = np.random.default_rng(seed)
    lines = ["patient,age,marker,smoker,ill"]
    for number in range(ROWS):
        age, smoker = draw.uniform(20, 88), draw.integers(2)
        marker = draw.uniform(0, 10)
        risk = (age - 54) / 10 + (marker - 5) + smoker - 0.5
        label = int(risk + draw.normal() > 0) if ill is None else ill
        lines.append(f"key-{seed}-{number},{age:.1f},{marker:.2f},{smoker},{label}")
    path.write_text("\n".join(lines) + "\n")


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Json:
        """The last line of standard output."""
        value: Json = json.loads(self.out.splitlines()[-1])
        return value


def wardround(*words: object, timeout_s: float = 120.0, **variables: str) -> Finished:
    """Run `wardround WORDS` as a process of its own."""
    done = subprocess.run(
        command(*map(str, words)),
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env={**environment(), **variables},
        timeout=timeout_s,
        check=False,
        text=True,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def until(what: str, condition: Callable[[], object], timeout_s: float = RUN_TIMEOUT_S) -> None:
    """Wait for `condition`. Raises AssertionError naming `what` after the time."""
    ends = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.02)


def read_json(path: Path) -> Json:
    """A status file, or nothing before it is there."""
    return json.loads(path.read_text()) if path.exists() else {}


def bundle_log(bundle: Path, party: str = "coordinator") -> list[Json]:
    """The entries of one party's log in a bundle."""
    name = party if party == "coordinator" else f"hospitals/{party}"
    lines = unpack(read_file(bundle))[f"logs/{name}.jsonl"].splitlines()
    return [json.loads(line) for line in lines]


@dataclass(slots=True)
class Federation:
    """One coordinator process that serves study after study, and a process for each hospital."""

    folder: Path
    names: tuple[str, ...]
    processes: Processes
    home: CoordinatorHome

    def hospital(self, name: str) -> HospitalHome:
        """The directory of one hospital."""
        return HospitalHome(self.folder / "hospitals" / name)

    def start_coordinator(self) -> Party:
        """Start or restart the coordinator; returns when it listens."""
        directory = str(self.home.directory)
        party = self.processes.start("coordinator", "coordinator", "serve", directory)
        port = self.home.settings().port
        until(f"the coordinator listens: {party.log}", lambda: listens(port), START_TIMEOUT_S)
        return party

    def start_hospital(self, name: str) -> Party:
        """Start or restart a hospital's daemon."""
        directory = str(self.hospital(name).directory)
        return self.processes.start(f"hospital-{name}", "hospital", "serve", directory)

    def until_connected(self, name: str) -> None:
        """Wait until a hospital has a connection to the coordinator."""
        pid = self.pid(f"hospital-{name}")
        until(f"{name} is connected", lambda: is_connected(pid), START_TIMEOUT_S)

    def pid(self, name: str) -> int:
        """The process of one party: coordinator or hospital-NAME."""
        return self.processes.parties[name].process.pid

    def kill(self, name: str) -> None:
        """End a party as a power cut does."""
        process = self.processes.parties[name].process
        process.kill()
        process.wait()

    @contextmanager
    def stopped(self, *names: str) -> Iterator[None]:
        """Freeze parties, as on a machine that hangs; those still alive go on afterwards."""
        pids = [self.pid(name) for name in names]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def enrol(self, name: str) -> str:
        """Invite and join over TLS; returns the hospital's fingerprint."""
        ticket = self.home.enrolment().invite(
            name,
            address=self.home.settings().address,
            evidence_key=self.home.identity().public_key,
        )
        membership = join(ticket.encode(), self.hospital(name).directory)
        self.hospital(name).write_default_policy()
        self.set_policy(name, empirical_audit=False)  # a second or so for each hospital and run
        return membership.identity.fingerprint

    def set_policy(self, name: str, **values: object) -> None:
        """Replace lines of a hospital's policy.toml."""
        path = self.hospital(name).directory / "policy.toml"
        lines = path.read_text().splitlines()
        for key, value in values.items():
            lines = [line for line in lines if not line.startswith(f"{key} ")]
            lines.append(f"{key} = {json.dumps(value)}")
        path.write_text("\n".join(lines) + "\n")

    def sign(self, study_name: str, *overrides: str, names: Sequence[str] = ()) -> Study:
        """A study of its own name, with these hospitals on its roster."""
        changes = [f'name="{study_name}"', *overrides]
        plan = read_study_plan(self.folder / "study" / "study.toml", changes)
        enrolment = self.home.enrolment()
        roster = [f"{name}={enrolment.find(name).fingerprint}" for name in names or self.names]
        return with_roster(plan, roster)

    def approve(self, study: Study, descriptions: Mapping[str, Path] | None = None) -> None:
        """Every hospital of the roster approves, for its own data set or the one given."""
        signed = sign_study(study, self.home.identity())
        for name in study.names():
            home = self.hospital(name)
            given = descriptions or {}
            approve(
                home,
                keep_study(home, signed),
                officer="officer",
                description=given.get(name, self.folder / "study" / "hospitals" / f"{name}.toml"),
                data_folder=self.folder / "data",
            )

    def submit(self, study: Study) -> Path:
        """Queue a study; returns its folder at the coordinator."""
        self.home.submit(sign_study(study, self.home.identity()))
        return self.run_folder(study)

    def run_folder(self, study: Study) -> Path:
        """Where the coordinator keeps status.json, result.json and the bundle of a study."""
        return self.home.run_folder(study.digest)

    def until_training(self, study: Study, *, rounds: int = 1) -> None:
        """Wait until so many rounds of the study are closed."""
        path = self.run_folder(study) / "status.json"
        until(
            f"round {rounds} of {study.name}: {self.processes.logs}",
            lambda: read_json(path).get("state") == "train" and read_json(path)["round"] >= rounds,
        )

    def result(self, study: Study) -> Json:
        """Wait for the end of a study; returns result.json."""
        path = self.run_folder(study) / "result.json"
        until(f"end of {study.name}: {self.processes.logs}", path.exists)
        return read_json(path)


@contextmanager
def standing_federation(
    folder: Path, names: Sequence[str], *, others: Sequence[str] = ()
) -> Iterator[Federation]:
    """Coordinator and hospitals `names` as processes; `others` have joined and have no process."""
    write_study(folder, [*names, *others])
    (folder / "logs").mkdir()
    (folder / "hospitals").mkdir()
    port = free_port()
    # Hospitals that a test starts late are in the first session all the same.
    settings = CoordinatorSettings(port=port, address=f"127.0.0.1:{port}", join_grace_s=120.0)
    home = CoordinatorHome.create(folder / "coordinator", settings)
    with Processes(folder / "logs") as processes:
        federation = Federation(folder, tuple(names), processes, home)
        federation.start_coordinator()
        for name in (*names, *others):
            federation.enrol(name)
        for name in names:
            federation.start_hospital(name)
        for name in names:
            federation.until_connected(name)
        yield federation


def start(*words: object, log: Path, **variables: str) -> subprocess.Popen[bytes]:
    """Start `wardround WORDS` and go on; its output goes to `log`."""
    with log.open("wb") as out:
        return subprocess.Popen(
            command(*map(str, words)),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**environment(), **variables},
        )
