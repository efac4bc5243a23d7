"""What a round costs in a stock Flower deployment, for `make bench-rounds` to stand beside.

Flower's own command-line tools of this virtual environment with their defaults: one
`flower-superlink` (TLS, state in memory), one `flower-supernode` per hospital, `flwr run` of the
app in `stock_flower/`, FedAvg, subprocess isolation. Everything runs on loopback and lives in one
directory that is removed at the end, together with every process.

A round here is one exchange: the model out, one reply per hospital back. FedAvg's default adds
a second exchange for evaluation, which costs as much again; it is switched off, so that one
exchange stands beside one exchange.

    python tests/benchmarks/stock_flower.py --hospitals 4 --parameters 122570 --rounds 3
"""

import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from wardround.errors import BadInput, DeadlineMissed, Unreachable, WardroundError
from wardround_server.authority import Authority

APP = Path(__file__).with_name("stock_flower")
HOST = "127.0.0.1"
START_LIMIT_S = 60.0
ROUND_LIMIT_S = 40.0
ROUND_LIMIT_S_PER_MILLION = 4.0  # parameters; on a busy machine too
STOP_LIMIT_S = 10.0
MARKER = "WARDROUND_STOCK_FLOWER"
LOG_TAIL_BYTES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class StockFlowerTiming:
    """Seconds of each round, from sending the messages to the last reply, seen by the ServerApp."""

    parameters: int
    hospitals: int
    round_s: tuple[float, ...]
    start_to_first_round_s: float
    flower_version: str
    tls: bool = True

    @property
    def seconds_per_round(self) -> float:
        """The median round; the first also unpacks the app at the hospitals."""
        return statistics.median(self.round_s)


class _Timings(BaseModel):
    """The file that the ServerApp writes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    error: str | None = None
    first_sent_at_s: float = 0.0
    round_s: tuple[float, ...] = ()


def measure_stock_flower(
    *, parameters: int, hospitals: int, rounds: int, work_dir: Path
) -> StockFlowerTiming:
    """Run `rounds` FedAvg rounds over `hospitals` stock SuperNodes; no training, no evaluation.

    Blocks for about 10 s and 7 s a round on two idle cores. When it returns or raises (Ctrl-C
    too), no process, port or file of it is left. `work_dir` is made if it is missing.

    Raises BadInput (a count under 1, or Flower's tools are not installed), Unreachable (a Flower
    process ended or does not listen), DeadlineMissed (60 s and 40 s a round have passed, 4 s more
    for each million parameters), and WardroundError when the app failed or something is left
    behind.
    """
    _require(parameters=parameters, hospitals=hospitals, rounds=rounds)
    work_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work_dir, prefix="stock-flower-") as folder:
        root = Path(folder).resolve()
        with _flower(root) as flower:
            started_at_s = time.monotonic()
            address = flower.start_federation(hospitals)
            timings_path = flower.submit(address, parameters, hospitals, rounds)
            round_s = ROUND_LIMIT_S + ROUND_LIMIT_S_PER_MILLION * parameters / 1e6
            limit_s = START_LIMIT_S + round_s * rounds
            timings = flower.wait_for(timings_path, deadline_s=started_at_s + limit_s)
    return StockFlowerTiming(
        parameters=parameters,
        hospitals=hospitals,
        round_s=timings.round_s,
        start_to_first_round_s=timings.first_sent_at_s - started_at_s,
        flower_version=version("flwr"),
    )


def _require(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise BadInput(f"{name}: 1 or more was due, {count} came")
    tools = _tools_dir()
    for tool in ("flwr", "flower-superlink", "flower-supernode", "flower-superexec"):
        if not (tools / tool).is_file():
            raise BadInput(f"{tool} is not installed beside this Python: install wardround[server]")
    if not Path("/proc/self/environ").exists():
        raise BadInput("the stock Flower benchmark needs Linux's /proc to end what it starts")


def _tools_dir() -> Path:
    # Not resolved: in a virtual environment the interpreter is a link out of it.
    return Path(sys.executable).parent


class _Flower:
    """Flower's processes of one measurement, all in `root`, all carrying one marker."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.marker = secrets.token_hex(16)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ports: list[int] = []
        for name in ("home", "tmp", "flwr"):
            (root / name).mkdir()
        # A copy, so that Flower cannot write into the checkout.
        shutil.copytree(APP, root / "app", ignore=shutil.ignore_patterns("__pycache__"))
        # The same authority as Wardround's own side, so that TLS costs both the same.
        self.tls = Authority.create(root / "tls").server_files([HOST])

    def environment(self) -> dict[str, str]:
        """A bare environment: Flower's defaults, minus what would leave this machine."""
        return {
            "PATH": os.pathsep.join([str(_tools_dir()), "/usr/bin", "/bin"]),
            "HOME": str(self.root / "home"),
            "TMPDIR": str(self.root / "tmp"),
            "FLWR_HOME": str(self.root / "flwr"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "LC_ALL": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            MARKER: self.marker,
        }

    def start(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        """Start a Flower tool in its own process group, with its output in `name`.log."""
        with (self.root / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [str(_tools_dir() / command[0]), *command[1:]],
                cwd=self.root,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the terminal's Ctrl-C reaches us alone; we end the group
            )
        self.processes[name] = process
        return process

    def start_federation(self, hospitals: int) -> str:
        """Start the SuperLink, wait until it listens, start the SuperNodes; its address."""
        self.ports = _free_ports(1 + hospitals)
        link_port, *node_ports = self.ports
        address = f"{HOST}:{link_port}"
        authority = str(self.tls.authority)
        tls = ["--ssl-ca-certfile", authority, "--ssl-certfile", str(self.tls.certificate)]
        tls += ["--ssl-keyfile", str(self.tls.key)]
        self.start(
            "superlink", ["flower-superlink", "--host", HOST, "--port", str(link_port), *tls]
        )
        self._wait_until_listening(link_port)
        for number, port in enumerate(node_ports, start=1):
            node = ["flower-supernode", "--superlink", address, "--root-certificates", authority]
            node += ["--host", HOST, "--port", str(port), "--node-config", f"hospital={number}"]
            self.start(f"supernode-{number}", node)
        return address

    def _wait_until_listening(self, port: int) -> None:
        give_up_at_s = time.monotonic() + START_LIMIT_S
        while not _listens(port):
            self._raise_if_ended()
            if time.monotonic() > give_up_at_s:
                raise Unreachable(
                    f"flower-superlink does not listen after {START_LIMIT_S:.0f} s: "
                    + self._log_tail("superlink")
                )
            time.sleep(0.1)

    def submit(self, address: str, parameters: int, hospitals: int, rounds: int) -> Path:
        """Submit the app with `flwr run` to this SuperLink; where its timings will appear."""
        timings_path = self.root / "timings.json"
        # json.dumps writes what TOML reads as a basic string. A `:local:` address would start
        # another SuperLink and leave it behind.
        connection = (
            '[superlink]\ndefault = "stock"\n\n[superlink.stock]\n'
            f"address = {json.dumps(address)}\n"
            f"root-certificates = {json.dumps(str(self.tls.authority))}\n"
        )
        (self.root / "flwr" / "config.toml").write_text(connection, encoding="utf-8")
        run_config = self.root / "run.toml"
        run_config.write_text(
            f"parameters = {parameters}\nhospitals = {hospitals}\nrounds = {rounds}\n"
            f"timings-path = {json.dumps(str(timings_path))}\n",
            encoding="utf-8",
        )
        command = ["flwr", "run", str(self.root / "app"), "stock", "--run-config", str(run_config)]
        process = self.start("run", command)
        try:
            code = process.wait(timeout=START_LIMIT_S)
        except subprocess.TimeoutExpired as error:
            raise DeadlineMissed(f"flwr run: no answer in {START_LIMIT_S:.0f} s") from error
        if code != 0:
            raise Unreachable(f"flwr run ended with {code}: {self._log_tail('run')}")
        del self.processes["run"]
        return timings_path

    def wait_for(self, timings_path: Path, *, deadline_s: float) -> _Timings:
        """Wait for the ServerApp's file while every process is alive."""
        while not timings_path.exists():
            self._raise_if_ended()
            if time.monotonic() > deadline_s:
                raise DeadlineMissed(
                    f"stock Flower did not finish its rounds: {self._log_tail('superlink')}"
                )
            time.sleep(0.25)
        timings = _Timings.model_validate_json(timings_path.read_bytes())
        if timings.error is not None:
            raise WardroundError(f"the stock ServerApp failed: {timings.error}")
        return timings

    def _raise_if_ended(self) -> None:
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise Unreachable(f"{name} ended with {process.returncode}: {self._log_tail(name)}")

    def _log_tail(self, name: str) -> str:
        content = (self.root / f"{name}.log").read_bytes()
        return content[-LOG_TAIL_BYTES:].decode("utf-8", "replace")

    def stop(self) -> None:
        """End every process that carries the marker. Raises when one, or a port, is left.

        Flower starts helpers in sessions of their own, so the groups alone would not reach them.
        Killed at once: nothing of this run is worth a graceful end.
        """
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        give_up_at_s = time.monotonic() + STOP_LIMIT_S
        while left := _carrying(self.marker):
            if time.monotonic() > give_up_at_s:
                raise WardroundError(f"stock Flower left processes behind: {left}")
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        if busy := [port for port in self.ports if _listens(port)]:
            raise WardroundError(f"stock Flower left ports behind: {busy}")


@contextlib.contextmanager
def _flower(root: Path) -> Iterator[_Flower]:
    flower = _Flower(root)
    try:
        yield flower
    finally:
        flower.stop()


def _carrying(marker: str) -> list[int]:
    """The living processes whose environment holds the marker; a child inherits it."""
    needle = f"{MARKER}={marker}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # Ended meanwhile, or another user's.
            with contextlib.suppress(OSError):
                if needle in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def _free_ports(count: int) -> list[int]:
    """Distinct loopback ports that nobody holds now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


def _end(_number: int, _frame: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def main() -> int:
    """Measure once and print one JSON line."""
    parser = argparse.ArgumentParser(description="Time a round of a stock Flower deployment.")
    parser.add_argument("--parameters", type=int, default=122_570)
    parser.add_argument("--hospitals", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    try:
        with tempfile.TemporaryDirectory() as folder:
            timing = measure_stock_flower(**vars(wanted), work_dir=Path(folder))
    except WardroundError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    line = {
        "bench": "stock-flower",
        "seconds_per_round": timing.seconds_per_round,
        **asdict(timing),
    }
    sys.stdout.write(json.dumps(line) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
