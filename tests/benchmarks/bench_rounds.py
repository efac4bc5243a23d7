"""What a round costs beside training, next to the same work in a stock Flower deployment.

    python -m tests.benchmarks.bench_rounds [--hospitals 4] [--rounds 12] [--stock-rounds 3]

Wardround's side is the real thing: `rehearse` starts a coordinator and the hospitals as processes
over mutual TLS, with per-patient DP-SGD, pairwise masks, ledgers, evidence logs and checkpoints.
Each party times itself: the coordinator a whole round, from the end of the one before, each
hospital its own training alone. Overhead is the round minus the slowest hospital's training; the
first round, which warms the processes up, is left out. Stock Flower runs afterwards, never at the
same time. The breakdown goes to standard error, one JSON object to standard output.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from tests.benchmarks.image_study import write_image_study
from tests.benchmarks.stock_flower import measure_stock_flower

from wardround.canonical import Json
from wardround.errors import WardroundError
from wardround.models.networks import build
from wardround.study.files import read_study_plan
from wardround.times import read_times
from wardround_server.rehearsal.interrupt import Interruption
from wardround_server.rehearsal.run import rehearse
from wardround_server.rehearsal.script import Rehearsal

MASKING = "pairwise AES-256-CTR, X25519 per session"


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


def rounds_of(
    coordinator: Sequence[Json], hospitals: Mapping[str, Sequence[Json]]
) -> list[RoundTimes]:
    """Put the parties' own times together, round by round.

    Raises WardroundError when an attempt was repeated or a hospital is missing in a round: such a
    run says nothing about the cost of a round.
    """
    found = []
    for line in coordinator:
        attempt = ("train", line["round"], 1)
        own = [
            [t for t in times if (t["purpose"], t["round"], t["attempt"]) == attempt]
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


def measure_wardround(folder: Path, *, hospitals: int, rounds: int) -> tuple[int, list[RoundTimes]]:
    """Rehearse a federation in `folder`; the model's parameters, and each round's times."""
    write_image_study(folder, hospitals=hospitals, rounds=rounds)
    rehearsal = Rehearsal(study_folder=folder / "study", data=folder / "data", out=folder / "run")
    plan = read_study_plan(rehearsal.study_folder / "study.toml", [])
    parameters = sum(parameter.numel() for parameter in build(plan).parameters())
    rehearse(rehearsal, console=Console(stderr=True), interruption=Interruption())
    (coordinator,) = rehearsal.coordinator.glob("studies/*/times.jsonl")
    own = {
        name: read_times(rehearsal.hospital(name) / "times.jsonl")
        for name in rehearsal.descriptions()
    }
    return parameters, rounds_of(read_times(coordinator), own)


def json_line(*, parameters: int, hospitals: int, overhead_s: float, stock_flower_s: float) -> Json:
    """The benchmark's result."""
    return {
        "bench": "rounds",
        "parameters": parameters,
        "hospitals": hospitals,
        "overhead_s": round(overhead_s, 4),
        "stock_flower_s": round(stock_flower_s, 4),
        "speedup": round(stock_flower_s / overhead_s, 1),
        "masking": MASKING,
    }


def breakdown(rounds: Sequence[RoundTimes]) -> str:
    """Medians in milliseconds, and the load of the machine beside them."""

    def median_ms(values: Sequence[float]) -> str:
        return f"{1000 * statistics.median(values):7.1f} ms"

    overheads = [times.overhead_s for times in rounds]
    return "\n".join(
        [
            f"medians over {len(rounds)} rounds, load {os.getloadavg()[0]:.1f} "
            f"on {os.cpu_count()} cores",
            f"  a round, at the coordinator   {median_ms([t.round_s for t in rounds])}",
            f"  slowest hospital's answer     {median_ms([t.slowest_answer_s for t in rounds])}",
            f"  slowest hospital's training   {median_ms([t.slowest_training_s for t in rounds])}",
            f"  overhead (round - training)   {median_ms(overheads)}   "
            f"from {1000 * min(overheads):.1f} to {1000 * max(overheads):.1f} ms",
            "    of it at the hospital       "
            + median_ms([t.slowest_answer_s - t.slowest_training_s for t in rounds]),
            "    of it on the way and at the coordinator "
            + median_ms([t.round_s - t.slowest_answer_s for t in rounds]),
        ]
    )


def main() -> int:
    """Measure both, one after the other, and print."""
    parser = argparse.ArgumentParser(description="Time a round beside its training.")
    parser.add_argument("--hospitals", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--stock-rounds", type=int, default=3)
    wanted = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory() as folder:
            parameters, rounds = measure_wardround(
                Path(folder) / "wardround", hospitals=wanted.hospitals, rounds=wanted.rounds
            )
            warm = rounds[1:]
            print(breakdown(warm), file=sys.stderr)
            stock = measure_stock_flower(
                parameters=parameters,
                hospitals=wanted.hospitals,
                rounds=wanted.stock_rounds,
                work_dir=Path(folder) / "stock",
            )
    except WardroundError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    line = json_line(
        parameters=parameters,
        hospitals=wanted.hospitals,
        overhead_s=statistics.median(times.overhead_s for times in warm),
        stock_flower_s=stock.seconds_per_round,
    )
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
