"""A federation of real processes that runs one study after the other and says what rounds cost.

`wardround coordinator serve` and one `wardround hospital serve` for each hospital, over mutual TLS
with each hospital's own certificate; only joining and approving happen in the bench's process.
Each party times itself: the coordinator a whole round, from the end of the one before, each
hospital its training alone.
"""

import os
import socket
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.round_study import POLICY, write_data

from wardround.canonical import Json
from wardround.errors import DeadlineMissed, WardroundError
from wardround.study.files import sign_study
from wardround.study.manifest import StudyPlan
from wardround.times import read_times
from wardround_client.approval import approve, keep_study
from wardround_client.home import HospitalHome
from wardround_client.joining import join
from wardround_server.home import CoordinatorHome, CoordinatorSettings
from wardround_server.rehearsal.processes import Processes
from wardround_server.rehearsal.script import read_status
from wardround_server.roster import with_roster

_LOOK_S = 0.05
_START_S = 120.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTimes:
    """One round: at the coordinator, and at the hospital that trained or answered longest."""

    round_s: float
    slowest_training_s: float
    slowest_answer_s: float

    @property
    def overhead_s(self) -> float:
        """All that is not training: masks, TLS, disk, coding, waiting."""
        return self.round_s - self.slowest_training_s


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyTimes:
    """The rounds of a study but the first, and the processor time of one, training included.

    None where rounds passed too fast for their beginnings to be seen.
    """

    rounds: tuple[RoundTimes, ...]
    coordinator_cpu_s: float | None
    hospital_cpu_s: float | None


def rounds_of(
    coordinator: Sequence[Json], hospitals: Mapping[str, Sequence[Json]]
) -> list[RoundTimes]:
    """Put the parties' own times together, round by round.

    Raises WardroundError when an attempt was repeated or a hospital is missing in a round: such a
    run says nothing about the cost of a round.
    """
    found = []
    for line in coordinator:
        attempt = (line["run"], "train", line["round"], 1)
        own = [
            [t for t in times if (t["run"], t["purpose"], t["round"], t["attempt"]) == attempt]
            for times in hospitals.values()
        ]
        if line["attempt"] != 1 or any(len(times) != 1 for times in own):
            raise WardroundError(f"round {line['round']}: not one attempt with every hospital")
        found.append(
            RoundTimes(
                round_s=line["seconds"],
                slowest_training_s=max(times[0]["compute_s"] for times in own),
                slowest_answer_s=max(times[0]["answer_s"] for times in own),
            )
        )
    return found


class Federation:
    """Warm processes: a coordinator and its hospitals, all in `folder`."""

    def __init__(self, folder: Path, hospitals: int, processes: Processes) -> None:
        """Start everybody; all have joined when this returns."""
        self.names = [f"hospital-{number:02}" for number in range(1, hospitals + 1)]
        self._folder, self._processes = folder, processes
        port = _free_port()
        settings = CoordinatorSettings(
            port=port, address=f"127.0.0.1:{port}", join_grace_s=_START_S
        )
        self._coordinator = CoordinatorHome.create(folder / "coordinator", settings)
        processes.start("coordinator", "coordinator", "serve", str(folder / "coordinator"))
        self._wait_for_port(port)
        with ThreadPoolExecutor(4) as pool:
            self._homes = dict(zip(self.names, pool.map(self._join, self.names), strict=True))
        for name, home in self._homes.items():
            processes.start(name, "hospital", "serve", str(home.directory))

    def run(self, plan: StudyPlan, *, limit_s: float) -> StudyTimes:
        """Run a study to its end. Raises WardroundError when it failed, DeadlineMissed."""
        signed = self._approved(plan)
        study = self._coordinator.submit(signed)
        folder = self._coordinator.run_folder(study.digest)
        used = _Used({name: party.process.pid for name, party in self._processes.parties.items()})
        ends = time.monotonic() + limit_s
        while not (result := read_status(folder / "result.json")):
            used.look(read_status(folder / "status.json"))
            for name in self._processes.parties:
                if not self._processes.alive(name):
                    last = self._processes.parties[name].last_lines()
                    raise WardroundError(f"{plan.name}: the process of {name} has ended:\n{last}")
            if time.monotonic() > ends:
                raise DeadlineMissed(f"{plan.name}: no result after {limit_s:.0f} s")
            time.sleep(_LOOK_S)
        if result["exit_code"]:
            raise WardroundError(f"{plan.name}: {result}")
        rounds = rounds_of(
            read_times(folder / "times.jsonl"),
            {
                name: read_times(home.directory / "times.jsonl")
                for name, home in self._homes.items()
            },
        )
        # The first round warms up: it loads what the others have, and opens connections.
        cpu_s = used.of_a_round()
        return StudyTimes(
            rounds=tuple(rounds[1:]),
            coordinator_cpu_s=cpu_s and cpu_s["coordinator"],
            hospital_cpu_s=cpu_s and statistics.mean(cpu_s[name] for name in self.names),
        )

    def _approved(self, plan: StudyPlan) -> bytes:
        """The signed study, approved at every hospital for data of its own."""
        enrolment = self._coordinator.enrolment()
        roster = [f"{name}={enrolment.find(name).fingerprint}" for name in self.names]
        signed = sign_study(with_roster(plan, roster), self._coordinator.identity())
        data = self._folder / "data" / plan.name
        for name, home in self._homes.items():
            description = write_data(data, name, plan)
            approve(
                home,
                keep_study(home, signed),
                officer="bench",
                description=description,
                data_folder=data,
            )
        return signed

    def _join(self, name: str) -> HospitalHome:
        settings, identity = self._coordinator.settings(), self._coordinator.identity()
        ticket = self._coordinator.enrolment().invite(
            name, address=settings.address, evidence_key=identity.public_key
        )
        home = HospitalHome(self._folder / name)
        join(ticket.encode(), home.directory)
        (home.directory / "policy.toml").write_text(POLICY, encoding="utf-8")
        return home

    def _wait_for_port(self, port: int) -> None:
        ends = time.monotonic() + _START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError as error:
                if time.monotonic() > ends or not self._processes.alive("coordinator"):
                    last = self._processes.parties["coordinator"].last_lines()
                    raise WardroundError(f"the coordinator did not start:\n{last}") from error
                time.sleep(_LOOK_S)
            else:
                return


@contextmanager
def federation(folder: Path, hospitals: int) -> Iterator[Federation]:
    """A running federation; no process of it is left afterwards."""
    (folder / "logs").mkdir(parents=True)
    with Processes(folder / "logs") as processes:
        yield Federation(folder, hospitals, processes)


class _Used:
    """Processor time of the processes, between two rounds that were seen to begin (proc(5))."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._seen: list[tuple[int, dict[str, float]]] = []

    def look(self, status: Json) -> None:
        """Note the processor time when another round than the last one seen has begun."""
        # Round 0 is not counted; evaluation follows the last one and has its number.
        number = status.get("round", 0)
        if number and (not self._seen or self._seen[-1][0] != number):
            self._seen.append((number, {n: _cpu_s(pid) for n, pid in self._pids.items()}))

    def of_a_round(self) -> dict[str, float] | None:
        """Mean seconds of one round, by process; None when fewer than two were seen to begin."""
        if len(self._seen) < 2:
            return None
        (first, before), (last, after) = self._seen[0], self._seen[-1]
        return {name: (after[name] - before[name]) / (last - first) for name in self._pids}


def _cpu_s(pid: int) -> float:
    """User and system time of a process, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
