"""What a formal guarantee costs in AUROC: each way to train, at four epsilons, over ten seeds.

    python -m tests.benchmarks.bench_utility [--data DIR] [--studies heart,breast] [--plot FILE]

Ways: each hospital alone with noise of its own, local noise in a federation, distributed noise in
the masked sum, a federation without noise, all patients in one place without noise. Another split
into training and held-out patients and other noise for every seed. One JSON object for each study,
way and epsilon goes to standard output, a table to standard error.

Clip norm, rounds and the rule for the learning rate are SETTINGS below. `--choose` prints which
rule is best for each way on the seeds 100 to 104: none of the seeds that are reported.
"""

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from scipy.stats import t as student
from tests.benchmarks.asked import asked, studies_parser
from tests.benchmarks.bench_utility_page import picture, table
from tests.benchmarks.bench_utility_runs import PRIVATE, WAYS, Settings, Way, auroc
from tests.benchmarks.bench_utility_studies import DATA, FOLDERS, Hospitals, opened

from wardround.canonical import Json

EPSILONS = (0.5, 1.0, 3.0, 8.0)
SEEDS = tuple(range(10))
CHOOSING_SEEDS = tuple(range(100, 105))
RATES_PER_EPSILON = (0.125, 0.5, 2.0)
RATES_AT_MOST = (1.0, 4.0, 16.0)
COMMON = Settings(
    rounds=60, clip_norm_l2=0.5, sampling_rate=0.5, rate_per_epsilon=1.0, rate_at_most=4.0
)
SETTINGS: dict[str, dict[Way, Settings]] = {
    "heart": {
        "local-only": replace(COMMON, rate_per_epsilon=0.125, rate_at_most=1.0),
        "local": replace(COMMON, rate_per_epsilon=2.0, rate_at_most=4.0),
        "distributed": replace(COMMON, rate_per_epsilon=2.0, rate_at_most=16.0),
        "none": replace(COMMON, rate_at_most=4.0),
        "pooled": replace(COMMON, rate_at_most=4.0),
    },
    "breast": {
        "local-only": replace(COMMON, rate_per_epsilon=0.125, rate_at_most=1.0),
        "local": replace(COMMON, rate_per_epsilon=0.5, rate_at_most=4.0),
        "distributed": replace(COMMON, rate_per_epsilon=0.5, rate_at_most=4.0),
        "none": replace(COMMON, rate_at_most=16.0),
        "pooled": replace(COMMON, rate_at_most=16.0),
    },
}
GOALS = {("heart", "distributed", 1.0): {"below_none_at_most": 0.02}}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean's 95 % interval over seeds, by Student's t.

    It tells how far another ten splits and noises would lie, not how far other patients would:
    the seeds share their patients. It ends where the metrics do, at 0 and 1.
    """
    if len(values) < 2:
        return values[0], values[0]
    wide = float(student.ppf(0.975, len(values) - 1))
    half = wide * statistics.stdev(values) / math.sqrt(len(values))
    middle = statistics.fmean(values)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def epsilons_of(way: Way, wanted: Sequence[float]) -> Iterable[float | None]:
    """None stands for no formal guarantee: one run for all epsilons."""
    return wanted if way in PRIVATE else (None,)


def measure(
    hospitals: Hospitals,
    *,
    ways: Sequence[Way],
    seeds: Sequence[int],
    epsilons: Sequence[float],
    rounds: int | None,
) -> Iterator[Json]:
    """One line for each way and epsilon; the gap to no noise is taken seed by seed."""
    without: list[float] = []
    for way in ("none", *(way for way in ways if way != "none")):
        settings = SETTINGS[hospitals.name][way]
        if rounds is not None:
            settings = replace(settings, rounds=rounds)
        for epsilon in epsilons_of(way, epsilons):
            started_s = time.process_time()
            found = [auroc(hospitals, way, epsilon, settings, seed=seed) for seed in seeds]
            if way == "none":
                without = found
            gaps = [best - own for best, own in zip(without, found, strict=True)]
            yield {
                "bench": "utility",
                "study": hospitals.name,
                "mechanism": way,
                "epsilon": epsilon,
                "auroc": round(statistics.fmean(found), 4),
                "interval": [round(end, 4) for end in interval(found)],
                "seeds": len(seeds),
                "below_none": round(statistics.fmean(gaps), 4),
                "below_none_interval": [round(end, 4) for end in interval(gaps)],
                "delta": hospitals.study().privacy.delta if way in PRIVATE else None,
                "settings": settings.overrides(way, epsilon),
                "each": [round(value, 4) for value in found],
                "goal": GOALS.get((hospitals.name, way, epsilon or 0.0)),
                "processor_s": round(time.process_time() - started_s, 1),
            }


def choose(hospitals: Hospitals, ways: Iterable[Way], epsilons: Sequence[float]) -> Iterator[Json]:
    """The best rule for the learning rate of each way: the mean over epsilons and seeds decides."""
    for way in ways:
        seen: dict[tuple[float | None, float], float] = {}
        rules = []
        for most in RATES_AT_MOST:
            for per_epsilon in RATES_PER_EPSILON if way in PRIVATE else (1.0,):
                rule = replace(COMMON, rate_per_epsilon=per_epsilon, rate_at_most=most)
                for epsilon in epsilons_of(way, epsilons):
                    key = (epsilon, rule.learning_rate(epsilon))
                    if key not in seen:
                        seen[key] = statistics.fmean(
                            auroc(hospitals, way, epsilon, rule, seed=seed)
                            for seed in CHOOSING_SEEDS
                        )
                reached = [seen[e, rule.learning_rate(e)] for e in epsilons_of(way, epsilons)]
                rules.append((statistics.fmean(reached), rule))
        best, rule = max(rules, key=lambda pair: pair[0])
        yield {
            "bench": "utility-choice",
            "study": hospitals.name,
            "mechanism": way,
            "rate_per_epsilon": rule.rate_per_epsilon,
            "rate_at_most": rule.rate_at_most,
            "auroc": round(best, 4),
            "seeds": list(CHOOSING_SEEDS),
            "is_setting": rule == SETTINGS[hospitals.name][way],
            "rates": {f"{e} {rate:g}": round(value, 4) for (e, rate), value in seen.items()},
        }


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _ways(text: str) -> tuple[Way, ...]:
    chosen = tuple(way for way in WAYS if way in text.split(","))
    if len(chosen) != len(text.split(",")):
        raise argparse.ArgumentTypeError(f"{text}: known are {', '.join(WAYS)}")
    return chosen


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = studies_parser("AUROC under each mechanism and epsilon.", FOLDERS, DATA)
    parser.add_argument("--ways", type=_ways, default=WAYS, help="no noise is always measured")
    parser.add_argument("--epsilons", type=_numbers, default=EPSILONS)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many, from 0")
    parser.add_argument("--rounds", type=int, help="instead of the settings'")
    parser.add_argument("--plot", type=Path, help="write the picture (SVG) there")
    parser.add_argument("--choose", action="store_true", help="choose settings, on other seeds")
    return asked(parser, arguments, FOLDERS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for, print, draw."""
    wanted = parsed(arguments)
    torch.set_num_threads(1)
    lines: list[Json] = []
    for name in wanted.studies.split(","):
        try:
            with opened(name, wanted.data) as hospitals:
                found = (
                    choose(hospitals, wanted.ways, wanted.epsilons)
                    if wanted.choose
                    else measure(
                        hospitals,
                        ways=wanted.ways,
                        seeds=SEEDS[: wanted.seeds],
                        epsilons=wanted.epsilons,
                        rounds=wanted.rounds,
                    )
                )
                for line in found:
                    lines.append(line)
                    print(json.dumps(line), flush=True)
        except FileNotFoundError:
            print(f"{name}: skipped: ../shared/data not present", file=sys.stderr)
    if wanted.choose or not lines:
        return 0
    print(
        f"settings were chosen on the seeds {CHOOSING_SEEDS[0]} to {CHOOSING_SEEDS[-1]}, "
        f"load {os.getloadavg()[0]:.1f}",
        table(lines),
        sep="\n\n",
        file=sys.stderr,
    )
    if wanted.plot is not None:
        wanted.plot.write_text(picture(lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
