"""What a round costs beside training, next to the same work in a stock Flower deployment.

    python -m tests.benchmarks.bench_rounds [--hospitals 4 20] [--parameters 1000 122570 ...]
        [--profiles plain one-trip double-mask] [--stock 122570 25000000] [--limit-s 840]

Wardround's side is the real thing: warm processes over mutual TLS with node certificates, masks,
ledgers, evidence logs and checkpoints (`round_federation`). Overhead is a round minus the slowest
hospital's training; the first round is left out. A parameter travels up in 20 bits, with
more than four hospitals in 24.
`plain` are the same vectors over the same transport without masks (`plain_rounds`), `stock-flower`
Flower's own tools with their defaults (`stock_flower`; four hospitals). Nothing runs at the same
time as anything else. One JSON line for each measurement as it is done, then one for each ratio and
goal that was measured whole; what fails, or does not begin within the limit, says so in a line of
its own, and the exit code is 1.
Seconds are medians; `load` is that of the last minute, so the bench's own work is in it.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.plain_rounds import measure_plain
from tests.benchmarks.round_federation import Federation, StudyTimes, federation
from tests.benchmarks.round_goals import PLAIN, STOCK, Case, goals, ratios
from tests.benchmarks.round_study import MECHANISMS, SHAPES, round_study
from tests.benchmarks.stock_flower import measure_stock_flower

from wardround.canonical import Json
from wardround.errors import WardroundError

# The order is that of importance: a limit cuts what comes last.
PARAMETERS = (122_570, 25_000_000, 1_000_000, 1_000)
PROFILES = ("double-mask", "one-trip", PLAIN)
STOCK_HOSPITALS = 4
_ROUNDS = {1_000: 21, 122_570: 21, 1_000_000: 9, 25_000_000: 5}
_STOCK_ROUNDS = {25_000_000: 2}
# Twenty hospitals of 25 million parameters need 20 GB of memory: only when they are asked for.
_MOST_PARAMETERS_BY_DEFAULT = {20: 1_000_000}
_STUDY_LIMIT_S = 300.0
_LATE = "not begun: the time limit of the whole bench was over"


@dataclass(slots=True)
class Bench:
    """Measures case after case and prints each."""

    folder: Path
    limit_s: float
    rounds: int | None = None
    overhead_s: dict[Case, float] = field(default_factory=dict)
    failed: bool = False
    _started_s: float = field(default_factory=time.monotonic)

    def masked(self, hospitals: int, cases: Sequence[Case]) -> None:
        """Measure these in one warm federation; a new one takes over after a failure."""
        left = list(cases)
        while left and not self._late():
            try:
                with self._new_folder() as folder, federation(folder, hospitals) as warm:
                    done = True
                    while left and done:
                        done = self._one(left.pop(0), lambda case: self._of_study(warm, case))
            except WardroundError as error:
                self._failure(left.pop(0), error)
        for case in left:
            self._failure(case, _LATE)

    def each(self, cases: Iterable[Case], measure: Callable[[Case], Json]) -> None:
        """Measure cases that need nothing of each other."""
        for case in cases:
            self._one(case, measure)

    def plain(self, case: Case) -> Json:
        """Rounds without masks."""
        with self._new_folder() as folder:
            seconds = measure_plain(
                folder,
                parameters=case.parameters,
                hospitals=case.hospitals,
                rounds=self._rounds(case) - 1,
            )
        return {
            "rounds": len(seconds),
            "overhead_s": statistics.median(seconds),
            "overhead_least_s": min(seconds),
            "overhead_most_s": max(seconds),
        }

    def stock(self, case: Case) -> Json:
        """Rounds of stock Flower; there is no training in them."""
        timing = measure_stock_flower(
            parameters=case.parameters,
            hospitals=case.hospitals,
            rounds=_STOCK_ROUNDS.get(case.parameters, 3),
            work_dir=self.folder,
        )
        return {
            "rounds": len(timing.round_s),
            "overhead_s": timing.seconds_per_round,
            "overhead_least_s": min(timing.round_s),
            "overhead_most_s": max(timing.round_s),
            "flower": timing.flower_version,
        }

    def _of_study(self, warm: Federation, case: Case) -> Json:
        plan = round_study(
            parameters=case.parameters,
            hospitals=case.hospitals,
            profile=case.profile,
            rounds=self._rounds(case),
        )
        return line_of(warm.run(plan, limit_s=_STUDY_LIMIT_S), MECHANISMS[case.profile])

    def _one(self, case: Case, measure: Callable[[Case], Json]) -> bool:
        """Measure and print one case; whether that went well."""
        if self._late():
            self._failure(case, _LATE)
            return False
        try:
            measured = measure(case)
        except WardroundError as error:
            self._failure(case, error)
            return False
        self.overhead_s[case] = measured["overhead_s"]
        show({**case.to_json(), **measured, "load": round(os.getloadavg()[0], 1)})
        return True

    def _late(self) -> bool:
        return time.monotonic() - self._started_s > self.limit_s

    def _failure(self, case: Case, why: object) -> None:
        self.failed = True
        show({**case.to_json(), "error": str(why)[:2000]})

    def _rounds(self, case: Case) -> int:
        return self.rounds or _ROUNDS[case.parameters]

    @contextmanager
    def _new_folder(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            yield Path(folder)


def line_of(times: StudyTimes, mechanism: str) -> Json:
    """What is printed of a study's rounds, in seconds."""
    overheads = [each.overhead_s for each in times.rounds]
    cpu_s = {"coordinator_cpu_s": times.coordinator_cpu_s, "hospital_cpu_s": times.hospital_cpu_s}
    return {
        "mechanism": mechanism,
        "rounds": len(overheads),
        "overhead_s": statistics.median(overheads),
        "overhead_least_s": min(overheads),
        "overhead_most_s": max(overheads),
        "round_s": statistics.median(each.round_s for each in times.rounds),
        "training_s": statistics.median(each.slowest_training_s for each in times.rounds),
        "answer_s": statistics.median(each.slowest_answer_s for each in times.rounds),
        **cpu_s,
    }


def show(line: Json) -> None:
    """Print one line at once; seconds and ratios with four digits that count."""
    rounded = {
        name: float(f"{value:.4g}") if isinstance(value, float) else value
        for name, value in line.items()
    }
    print(json.dumps(rounded), flush=True)


def measure(wanted: argparse.Namespace, folder: Path) -> bool:
    """Measure all that is wanted, print it with ratios and goals; whether all of it was done."""
    bench = Bench(folder, wanted.limit_s, wanted.rounds)
    plain = PLAIN in wanted.profiles
    masked = [profile for profile in wanted.profiles if profile != PLAIN]
    for hospitals in wanted.hospitals:
        sizes = sizes_for(hospitals, wanted.parameters)
        cases = [Case(profile, hospitals, size) for size in sizes for profile in masked]
        bench.masked(hospitals, cases)
        if plain:
            bench.each([Case(PLAIN, hospitals, size) for size in sizes], bench.plain)
        if hospitals == STOCK_HOSPITALS:
            bench.each([Case(STOCK, hospitals, size) for size in wanted.stock], bench.stock)
    for line in (*ratios(bench.overhead_s), *goals(bench.overhead_s)):
        show(line)
    return not bench.failed


def sizes_for(hospitals: int, wanted: Sequence[int] | None) -> list[int]:
    """The sizes of the models that so many hospitals are measured with."""
    most = _MOST_PARAMETERS_BY_DEFAULT.get(hospitals, max(PARAMETERS))
    return [size for size in PARAMETERS if (size in wanted if wanted else size <= most)]


def main() -> int:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description="Time a round beside its training.")
    parser.add_argument("--hospitals", type=int, nargs="+", default=[4, 20])
    parser.add_argument("--parameters", type=int, nargs="+", choices=sorted(SHAPES))
    parser.add_argument("--profiles", nargs="+", choices=PROFILES, default=PROFILES)
    parser.add_argument("--rounds", type=int, help="of each masked study, the first not counted")
    parser.add_argument("--stock", type=int, nargs="*", default=[122_570, 25_000_000])
    parser.add_argument("--limit-s", type=float, default=840.0)
    wanted = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"load before: {load} on {os.cpu_count()} cores", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="bench-rounds-") as folder:
        return 0 if measure(wanted, Path(folder)) else 1


if __name__ == "__main__":
    sys.exit(main())
