"""The rehearsal's script: every step that the real parties would take, in their own words.

Coordinator: init, serve, invite, sign, submit. Each hospital: join, check its data, write its
policy, approve, serve. Nothing is skipped because it all happens on one machine.
"""

import json
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wardround.canonical import Json
from wardround.durable import write_durably
from wardround.errors import BadInput, DeadlineMissed, WardroundError
from wardround.identity import write_secret
from wardround.study.files import read_study_plan, sign_study
from wardround.study.manifest import HospitalName, Study, StudyPlan
from wardround_server.home import CoordinatorHome, CoordinatorSettings
from wardround_server.rehearsal.processes import Processes
from wardround_server.roster import with_roster

Say = Callable[[str], None]

_START_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What is rehearsed, where its data lie and where everything goes.

    `leave_out` names a described hospital that takes no part: the model is scored on its patients
    afterwards. `compare` asks for the ways to train beside each other. Both are possible only
    here, where one machine has everybody's data.
    """

    study_folder: Path
    data: Path
    out: Path
    overrides: Sequence[str] = ()
    policy: Path | None = None
    leave_out: HospitalName | None = None
    compare: bool = False

    def plan(self) -> StudyPlan:
        """study.toml with the overrides. Raises BadInput."""
        return read_study_plan(self.study_folder / "study.toml", self.overrides)

    def descriptions(self) -> dict[HospitalName, Path]:
        """hospitals/NAME.toml of each that takes part. Raises BadInput for fewer than two."""
        found = {path.stem: path for path in sorted(self.study_folder.glob("hospitals/*.toml"))}
        if self.leave_out is not None and found.pop(self.leave_out, None) is None:
            raise BadInput(
                f"--leave-out {self.leave_out}: {self.study_folder.name}/hospitals describes "
                f"{', '.join(found) or 'nobody'}"
            )
        if len(found) < 2:
            raise BadInput(
                f"{self.study_folder.name}/hospitals: {len(found)} descriptions came, two or "
                "more are due"
            )
        return found

    def policy_file(self) -> Path | None:
        """The policy that every hospital gets: the one given, or the study folder's."""
        beside = self.study_folder / "policy.toml"
        return self.policy or (beside if beside.exists() else None)

    @property
    def coordinator(self) -> Path:
        """The coordinator's directory."""
        return self.out / "coordinator"

    def hospital(self, name: str) -> Path:
        """One hospital's directory."""
        return self.out / "hospitals" / name


@dataclass(slots=True)
class Stage:
    """The running federation: who plays, and how to ask them.

    `stated` is a comparison that its coordinator puts into the log, as only a rehearsal's can.
    """

    rehearsal: Rehearsal
    processes: Processes
    say: Say
    stated: Json | None = None

    def open(self, plan: StudyPlan) -> Study:
        """Take every step up to the submitted study; all parties run when this returns."""
        names = self.rehearsal.descriptions()
        home = self._start_coordinator()
        self._check_data(names)  # while the coordinator's process loads
        self._wait_until_it_listens(home.settings().port)
        self._join(home, list(names))
        study = self._sign(home, plan, list(names))
        for name in names:
            self.processes.start(f"hospital-{name}", "hospital", "serve", self._dir(name))
        self._approve(names)
        signed = (self.rehearsal.out / "study.signed.json").read_bytes()
        home.submit(signed, comparison=self.stated)
        self.say("coordinator: the study is submitted; the hospitals read it, check it and begin")
        return study

    def _check_data(self, names: dict[HospitalName, Path]) -> None:
        plan_file = str(self.rehearsal.study_folder / "study.toml")
        printed = self.processes.run_all(
            {
                name: [
                    *("data", "check", str(path), "--study", plan_file),
                    *("--data", str(self.rehearsal.data), "--json"),
                ]
                for name, path in names.items()
            }
        )
        for name, out in printed.items():
            verdict = json.loads(out.splitlines()[-1])["verdict"]
            self.say(f"{name}: data check says {verdict}")

    def _start_coordinator(self) -> CoordinatorHome:
        port = _free_port()
        # All start at once: nobody begins without those whose process still loads.
        settings = CoordinatorSettings(
            port=port, address=f"127.0.0.1:{port}", join_grace_s=_START_TIMEOUT_S
        )
        home = CoordinatorHome.create(self.rehearsal.coordinator, settings)
        self.processes.start(
            "coordinator", "coordinator", "serve", str(self.rehearsal.coordinator), "--once"
        )
        self.say(f"coordinator: own authority, gateway on 127.0.0.1:{port}, mutual TLS")
        return home

    def _wait_until_it_listens(self, port: int) -> None:
        party = self.processes.parties["coordinator"]
        end = time.monotonic() + _START_TIMEOUT_S
        while not _listens(port):
            if party.process.poll() is not None:
                raise WardroundError(f"the coordinator did not start:\n{party.last_lines()}")
            if time.monotonic() > end:
                raise DeadlineMissed(f"the coordinator does not listen after {_START_TIMEOUT_S} s")
            time.sleep(0.05)

    def _join(self, home: CoordinatorHome, names: list[str]) -> None:
        enrolment, identity = home.enrolment(), home.identity()
        tickets = self.rehearsal.out / "tickets"
        tickets.mkdir(mode=0o700)
        for name in names:
            ticket = enrolment.invite(
                name, address=home.settings().address, evidence_key=identity.public_key
            )
            write_secret(tickets / name, ticket.encode().encode("ascii"))
        self.processes.run_all(
            {
                name: ["hospital", "join", f"@{tickets / name}", "--dir", self._dir(name)]
                for name in names
            }
        )
        policy = self.rehearsal.policy_file()
        for name in names:
            if policy is not None:
                shutil.copyfile(policy, self.rehearsal.hospital(name) / "policy.toml")
            fingerprint = enrolment.find(name).fingerprint
            self.say(f"{name}: joined with its own keys, identity {fingerprint[:16]}...")

    def _sign(self, home: CoordinatorHome, plan: StudyPlan, names: list[str]) -> Study:
        enrolment = home.enrolment()
        roster = [f"{name}={enrolment.find(name).fingerprint}" for name in names]
        study = with_roster(plan, roster)
        write_durably(self.rehearsal.out / "study.signed.json", sign_study(study, home.identity()))
        self.say(f"coordinator: study signed, digest {study.digest[:16]}...")
        return study

    def _approve(self, names: dict[HospitalName, Path]) -> None:
        signed = str(self.rehearsal.out / "study.signed.json")
        printed = self.processes.run_all(
            {
                name: [
                    *("review", "approve", signed, "--dir", self._dir(name)),
                    *("--dataset", str(path), "--data", str(self.rehearsal.data)),
                    *("--officer", f"privacy officer of {name} (rehearsal)"),
                ]
                for name, path in names.items()
            }
        )
        for name, out in printed.items():
            self.say(f"{name}: wardround review approve: {out.decode().strip()}")

    def _dir(self, name: str) -> str:
        return str(self.rehearsal.hospital(name))


def read_status(path: Path) -> Json:
    """A status file that its owner replaces in one step; empty before the first."""
    try:
        value: Json = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return value


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
