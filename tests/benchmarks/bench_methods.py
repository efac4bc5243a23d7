"""Five ways to keep hospitals that differ together, after many local steps in every round.

    python -m tests.benchmarks.bench_methods [--data DIR] [--studies heart,skew] [--choose]

Plain FedAvg, FedProx, SCAFFOLD, FedAdam and FedYogi: without noise, and with mechanism local at two
epsilons, over five seeds. `heart` is the shipped study on its four real hospitals, another split
for every seed; `skew` is generated, each hospital sees mostly two of six diagnoses, other patients
for every seed. One JSON object for each line goes to standard output, tables to standard error.

Step sizes are SETTINGS below: one choice without noise, one with. `--choose` prints which are best
for each way without noise and at epsilon 3, on the seeds 100 and 101: none of those that are
reported.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tests.benchmarks.asked import asked, studies_parser
from tests.benchmarks.bench_utility import interval
from tests.benchmarks.bench_utility_studies import DATA, FOLDERS
from tests.support.masked_hospitals import seeded
from tests.support.study_plans import study_plan

from wardround.canonical import Json
from wardround.evaluation.layouts import exact_layout_of
from wardround.study.manifest import Study, StudyPlan
from wardround_client.comparison.sites import Site, Sites, gather, study_of
from wardround_client.comparison.training import trained
from wardround_client.comparison.ways import counts_of
from wardround_client.training.plan import PatientRecords

METHODS = ("fedavg", "fedprox", "scaffold", "fedadam", "fedyogi")
LEVELS: tuple[float | None, ...] = (None, 3.0, 8.0)
CHOSEN_AT: tuple[float | None, ...] = (None, 3.0)
SEEDS, CHOOSING_SEEDS = tuple(range(5)), (100, 101)
LOCAL_STEPS, ROUNDS = 20, 10
RATES = (0.2, 0.8, 2.0)
# What a way has beside the learning rate: mu of FedProx, the server's learning rate.
OWN = {"fedprox": (0.1, 0.5), "fedadam": (0.03, 0.1, 0.3)}
SAME_AS = {"fedyogi": "fedadam"}  # takes the other's choice
DIAGNOSES, MEASURED, PATIENTS = 6, 8, 240
# The two diagnoses that each hospital sees nine times in ten.
USUAL = ((0, 1), (2, 3), (4, 5), (0, 2))

Choice = tuple[float, float | None]  # learning rate, and what the way has beside it
# By study, and whether there is noise.
SETTINGS: dict[tuple[str, bool], dict[str, Choice]] = {
    ("heart", False): {
        "fedavg": (0.8, None),
        "fedprox": (0.8, 0.1),
        "scaffold": (0.8, None),
        "fedadam": (0.2, 0.1),
    },
    ("heart", True): {
        "fedavg": (0.2, None),
        "fedprox": (0.8, 0.1),
        "scaffold": (0.2, None),
        "fedadam": (0.2, 0.1),
    },
    ("skew", False): {
        "fedavg": (2.0, None),
        "fedprox": (2.0, 0.1),
        "scaffold": (2.0, None),
        "fedadam": (2.0, 0.3),
    },
    ("skew", True): {
        "fedavg": (0.8, None),
        "fedprox": (2.0, 0.1),
        "scaffold": (0.8, None),
        "fedadam": (0.2, 0.1),
    },
}


@dataclass(frozen=True, slots=True)
class Case:
    """A study, its hospitals for a seed, and what it is judged by."""

    name: str
    metric: str
    plan: StudyPlan
    sites: Callable[[int], Sites] = field(repr=False)
    value_of: Callable[[Json], float] = field(repr=False)


def heart(data: Path) -> Case:
    """Raises FileNotFoundError where the data are not there."""
    folder = data / "heart_disease_uci"
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    found = gather(FOLDERS["heart"], folder)
    return Case(
        "heart",
        "AUROC",
        found.plan,
        lambda seed: found.sites(lambda dataset: f"{dataset} {seed}"),
        lambda metrics: metrics["auroc"]["value"],
    )


def skew(data: Path) -> Case:
    """Four hospitals of which each sees two diagnoses of six nine times in ten."""
    del data
    return Case("skew", "balanced accuracy", _plan_of_skew(), _sites_of_skew, _balanced)


CASES: Mapping[str, Callable[[Path], Case]] = {"heart": heart, "skew": skew}


def _balanced(metrics: Json) -> float:
    value: float = metrics["balanced_accuracy"]["value"]
    return value


def _plan_of_skew() -> StudyPlan:
    label = {
        "name": "diagnosis",
        "description": "generated",
        "kind": "classes",
        "classes": [f"diagnosis_{number}" for number in range(DIAGNOSES)],
    }
    columns = [
        {
            "name": f"value_{number}",
            "kind": "continuous",
            "description": "generated",
            "unit": "1",
            "range": [-4, 4],
        }
        for number in range(MEASURED)
    ]
    privacy = {"mechanism": "local", "epsilon": 3.0, "delta": 1e-4}
    sizes = {"clip_norm_l2": 1.0, "sampling_rate": 0.5}
    return study_plan(
        "risk",
        "mlp",
        label=label,
        columns=columns,
        hidden=(16,),
        privacy=privacy | sizes,
        training={"local_steps": 2, "learning_rate": 1.0, "expected_batch": 90.0},
    )


def _sites_of_skew(seed: int) -> Sites:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(DIAGNOSES, MEASURED))
    found = {}
    for hospital, usual in enumerate(USUAL):
        share = np.full(DIAGNOSES, 0.1 / (DIAGNOSES - len(usual)))
        share[list(usual)] = 0.9 / len(usual)
        labels = random.choice(DIAGNOSES, size=PATIENTS, p=share)
        values = centres[labels] + random.normal(size=(PATIENTS, MEASURED))
        held_out = PATIENTS // 4
        found[f"hospital-{hospital}"] = Site(
            _records(values[held_out:], labels[held_out:]),
            _records(values[:held_out], labels[:held_out]),
        )
    return found


def _records(values: np.ndarray, labels: np.ndarray) -> PatientRecords:
    # As the encoder scales a range to -1 to 1.
    features = torch.from_numpy((values / 4).astype(np.float32))
    return PatientRecords(
        features=features,
        labels=torch.from_numpy(labels.astype(np.float32)),
        offsets=np.arange(len(values) + 1),
    )


def training_of(method: str, choice: Choice) -> Json:
    """The keys of [training] that make a way."""
    rate, own = choice
    common = {"local_steps": LOCAL_STEPS, "learning_rate": rate}
    if method == "fedprox":
        return common | {"proximal": own}
    if method == "scaffold":
        return common | {"control": "scaffold"}
    if method == "fedavg":
        return common
    return common | {"server": {"name": method, "learning_rate": own}}


def study_for(case: Case, level: float | None, method: str, choice: Choice) -> Study:
    """The study of one line, with a roster of four."""
    noise = {"mechanism": "none"} if level is None else {"mechanism": "local", "epsilon": level}
    return study_of(
        case.plan,
        sorted(case.sites(0)),
        privacy=noise,
        training=training_of(method, choice),
        rounds={"count": ROUNDS},
    )


def reached(case: Case, level: float | None, method: str, choice: Choice, *, seed: int) -> float:
    """Train on the seed's patients and score all held-out ones, from their exact counts."""
    study, sites = study_for(case, level, method, choice), case.sites(seed)
    patients = {name: site.train for name, site in sites.items()}
    # The same batches and noise for every way: what differs is the way.
    model = trained(study, patients, seeded(f"methods {case.name} {level} {seed}"))
    layout = exact_layout_of(study)
    counts = [counts_of(study, model, site.held_out, layout) for site in sites.values()]
    return case.value_of(layout.metrics(np.sum(counts, axis=0), cell_noise_sd=0.0))


def measure(
    case: Case, seeds: Sequence[int], levels: Sequence[float | None] = LEVELS
) -> Iterator[Json]:
    """A line for each level and way; the gain over FedAvg is taken seed by seed."""
    for level in levels:
        plain: list[float] = []
        for method in METHODS:
            started_s = time.process_time()
            choice = SETTINGS[case.name, level is not None][SAME_AS.get(method, method)]
            found = [reached(case, level, method, choice, seed=seed) for seed in seeds]
            plain = plain or found
            gains = [own - other for own, other in zip(found, plain, strict=True)]
            yield {
                "bench": "methods",
                "study": case.name,
                "mechanism": "none" if level is None else "local",
                "epsilon": level,
                "method": method,
                "metric": case.metric,
                "value": round(statistics.fmean(found), 4),
                "interval": [round(end, 4) for end in interval(found)],
                "over_fedavg": round(statistics.fmean(gains), 4),
                "over_fedavg_interval": [round(end, 4) for end in gain_interval(gains)],
                "seeds": len(seeds),
                "each": [round(value, 4) for value in found],
                "training": training_of(method, choice),
                "rounds": ROUNDS,
                "processor_s": round(time.process_time() - started_s, 1),
            }


def gain_interval(gains: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of a mean that may be below zero: `interval`, about one half."""
    low, high = interval([0.5 + gain / 2 for gain in gains])
    return 2 * low - 1, 2 * high - 1


def choose(case: Case) -> Iterator[Json]:
    """The best sizes for each level and way, by the mean over the choosing seeds."""
    for level in CHOSEN_AT:
        for method in (each for each in METHODS if each not in SAME_AS):
            tried = {
                (rate, own): statistics.fmean(
                    reached(case, level, method, (rate, own), seed=seed) for seed in CHOOSING_SEEDS
                )
                for rate in RATES
                for own in OWN.get(method, (None,))
            }
            best = max(tried, key=lambda choice: tried[choice])
            yield {
                "bench": "methods-choice",
                "study": case.name,
                "epsilon": level,
                "method": method,
                "rate": best[0],
                "own": best[1],
                "value": round(tried[best], 4),
                "is_setting": SETTINGS.get((case.name, level is not None), {}).get(method) == best,
                "tried": {f"{rate} {own}": round(v, 4) for (rate, own), v in tried.items()},
            }


def table(lines: Sequence[Json]) -> str:
    """A row for each way, a column for each level: value, interval, gain over FedAvg."""
    parts = []
    for name in dict.fromkeys(line["study"] for line in lines):
        own = [line for line in lines if line["study"] == name]
        levels = dict.fromkeys(line["epsilon"] for line in own)
        heads = ["no noise" if level is None else f"epsilon {level:g}" for level in levels]
        rows = [f"**{name}**, {own[0]['metric']}", "", "| way | " + " | ".join(heads) + " |"]
        rows.append("|---" * (1 + len(heads)) + "|")
        for method in METHODS:
            cells = [_cell(line) for line in own if line["method"] == method]
            rows.append(f"| {method} | " + " | ".join(cells) + " |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


def _cell(line: Json) -> str:
    low, high = line["interval"]
    text = f"{line['value']:.3f} ({low:.3f} to {high:.3f})"
    if line["method"] == METHODS[0]:
        return text
    least, most = line["over_fedavg_interval"]
    return f"{text}, {line['over_fedavg']:+.3f} ({least:+.3f} to {most:+.3f})"


def _levels(text: str) -> tuple[float | None, ...]:
    return tuple(None if part == "none" else float(part) for part in text.split(","))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = studies_parser("Ways to keep differing hospitals together.", CASES, DATA)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many, from 0")
    parser.add_argument("--epsilons", type=_levels, default=LEVELS, help="such as none,3")
    parser.add_argument("--choose", action="store_true", help="choose settings, on other seeds")
    return asked(parser, arguments, CASES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for and print it."""
    wanted = parsed(arguments)
    torch.set_num_threads(1)
    lines: list[Json] = []
    for name in wanted.studies.split(","):
        try:
            case = CASES[name](wanted.data)
        except FileNotFoundError:
            print(f"{name}: skipped: ../shared/data not present", file=sys.stderr)
            continue
        seeds = SEEDS[: wanted.seeds]
        for line in choose(case) if wanted.choose else measure(case, seeds, wanted.epsilons):
            lines.append(line)
            print(json.dumps(line), flush=True)
    if lines and not wanted.choose:
        print(f"load {os.getloadavg()[0]:.1f}", table(lines), sep="\n\n", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
