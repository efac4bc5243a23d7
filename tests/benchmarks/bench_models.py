"""What each study in deploy/studies reaches: together, with its noise, pooled, alone.

    python -m tests.benchmarks.bench_models [--data DIR] [--studies a,b] [--seeds N] [--write]

Every seed splits the patients anew and draws other batches and noise. All of it runs in one
process by the code that hospitals and coordinator run (`wardround_client.comparison`); with
`--rehearse` one real rehearsal of each study, on the split that the product uses, stands beside the
same run in one process. One JSON object for each study and mechanism goes to standard output;
`--write` puts lines, table and picture into shared/docs; studies that were not measured keep
their lines there.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from tests.benchmarks.asked import asked, studies_parser
from tests.benchmarks.bench_models_page import LINES, PAGE, PICTURE, page, picture
from tests.benchmarks.bench_models_studies import DATA, STUDIES, BenchedStudy, data_of, opened
from tests.benchmarks.bench_utility import interval
from tests.benchmarks.plain_training import accuracy_in_plain_pytorch
from tests.support.masked_hospitals import seeded
from tests.support.small_federation import wardround

from wardround.canonical import Json
from wardround.evaluation.intervals import Z_95
from wardround.study.manifest import Mechanism
from wardround_client.comparison.next_hospital import next_hospital
from wardround_client.comparison.result import figure
from wardround_client.comparison.sites import Gathered, Sites
from wardround_client.comparison.ways import Scored, Way, score

_CLIENT_MEAN = "client-mean accuracy"
_SHARES = {"accuracy": "accuracy", "balanced accuracy": "balanced_accuracy"}
_WAYS = (Way.ALONE, Way.FEDERATED, Way.PRIVATE, Way.POOLED)


def number(study: BenchedStudy, scored: Scored) -> float:
    """What the study is judged by."""
    if study.metric == _CLIENT_MEAN:
        return _mean(figure(own).accuracy for own in scored.hospitals.values())
    value, _ = judged(study, scored.whole)
    assert value is not None, f"{study.name}: held-out patients of both kinds were due"
    return value


def judged(study: BenchedStudy, metrics: Json) -> tuple[float | None, float | None]:
    """The study's metric in one evaluation and its standard error; None where there is none."""
    if study.metric not in _SHARES:
        found = figure(metrics)
        return found.value, found.error
    share = metrics[_SHARES[study.metric]]
    if share is None:
        return None, None
    return share["value"], (share["high"] - share["low"]) / (2 * Z_95)


def _mean(values: Iterable[float | None]) -> float:
    return statistics.fmean(value for value in values if value is not None)


def measured(
    study: BenchedStudy, gathered: Gathered, seeds: Sequence[int]
) -> dict[Way, list[float]]:
    """Each way over the seeds."""
    found: dict[Way, list[float]] = {way: [] for way in _WAYS}
    for seed in seeds:
        sites = gathered.sites(lambda dataset, seed=seed: f"{dataset} {seed}")
        for way in _WAYS:
            if way is Way.PRIVATE and gathered.plan.privacy.mechanism is Mechanism.NONE:
                continue
            found[way].append(number(study, _scored(study, gathered, sites, way, seed)))
    return found


def _scored(
    study: BenchedStudy, gathered: Gathered, sites: Sites, way: Way, seed: int | str
) -> Scored:
    return score(gathered.plan, sites, way, seeded(f"models {study.name} {way} {seed}"))


def left_out(study: BenchedStudy, gathered: Gathered) -> Json:
    """Each hospital as one that took no part, and what a further one may expect."""
    scored = _scored(study, gathered, gathered.sites(), Way.LEFT_OUT, "left out")
    own = {name: judged(study, metrics) for name, metrics in scored.hospitals.items()}
    coming = next_hospital(
        [(value, error) for value, error in own.values() if value is not None and error is not None]
    )
    return {
        "each": {name: None if v is None else round(v, 4) for name, (v, _) in own.items()},
        "next_hospital": None
        if coming is None
        else [round(end, 4) for end in (coming.mean, *coming.prediction)],
    }


def rehearsed(study: BenchedStudy, gathered: Gathered, data: Path) -> Json:
    """One real federation of processes; on the same split, other draws of the noise in one."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        done = wardround(
            *("rehearse", study.folder, "--data", data, "--out", out, "--json"), timeout_s=900
        )
        assert done.code == 0, done.err
        report = json.loads((out / "report.json").read_text())
    value, _ = judged(study, report["evaluation"]["metrics"])
    if study.metric == _CLIENT_MEAN:
        value = _mean(own["accuracy"] for own in done.json["metrics"]["per_hospital"].values())
    private = gathered.plan.privacy.mechanism is not Mechanism.NONE
    way = Way.PRIVATE if private else Way.FEDERATED
    sites = gathered.sites()
    draws = [
        number(study, _scored(study, gathered, sites, way, f"draw {draw}"))
        for draw in range(study.draws)
    ]
    return {
        "epsilon": report["guarantee"]["epsilon"]["value"],
        "value": value,
        "in_one_process": [round(value, 4) for value in sorted(draws)],
        "seconds": round(done.json["seconds"], 1),
    }


def lines_of(
    study: BenchedStudy, gathered: Gathered, *, seeds: Sequence[int], data: Path | None
) -> Iterator[Json]:
    """A line for training without noise, and one with the study's own mechanism."""
    started_s = time.process_time()
    found = measured(study, gathered, seeds)
    unseen = left_out(study, gathered)
    real = None if data is None else rehearsed(study, gathered, data)
    beside = {} if not study.plain_pytorch else {"plain_pytorch": plain(gathered, seeds)}
    privacy = gathered.plan.privacy
    for way in (Way.FEDERATED, Way.PRIVATE):
        if not found[way]:
            continue
        mechanism = privacy.mechanism.value if way is Way.PRIVATE else "none"
        value = statistics.fmean(found[way])
        own = way is Way.PRIVATE or privacy.mechanism is Mechanism.NONE
        yield {
            "bench": "models",
            "study": study.name,
            "mechanism": mechanism,
            "epsilon": privacy.epsilon if way is Way.PRIVATE else None,
            "metric": study.metric,
            "value": round(value, 4),
            "interval": [round(end, 4) for end in interval(found[way])],
            "pooled": round(statistics.fmean(found[Way.POOLED]), 4),
            "pooled_interval": [round(end, 4) for end in interval(found[Way.POOLED])],
            "local_only": round(statistics.fmean(found[Way.ALONE]), 4),
            "local_only_interval": [round(end, 4) for end in interval(found[Way.ALONE])],
            "seeds": len(seeds),
            "goal": study.goal(mechanism),
            "reached": study.reached(mechanism, found[way], found[Way.POOLED]),
            "left_out": unseen if own else None,
            "rehearsal": real if own else None,
            "processor_s": round(time.process_time() - started_s, 1),
            **beside,
        }


def plain(gathered: Gathered, seeds: Sequence[int]) -> Json:
    """The same network in PyTorch's own training loop, on the rows of all hospitals in one place.

    Splits are those of the seeds.
    """
    found = []
    for seed in seeds:
        sites = gathered.sites(lambda dataset, seed=seed: f"{dataset} {seed}")
        found.append(accuracy_in_plain_pytorch(gathered.plan, sites, seed))
    return {
        "value": round(statistics.fmean(found), 4),
        "interval": [round(end, 4) for end in interval(found)],
        "seeds": len(found),
    }


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = studies_parser("What each study reaches.", STUDIES, DATA)
    parser.add_argument("--seeds", type=int, help="how many, instead of each study's own number")
    parser.add_argument("--rehearse", action="store_true", help="one real rehearsal a study, too")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} and what it shows")
    return asked(parser, arguments, STUDIES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for, print, write."""
    wanted = parsed(arguments)
    torch.set_num_threads(1)
    lines: list[Json] = []
    for name in wanted.studies.split(","):
        study = STUDIES[name]
        with data_of(study, wanted.data) as data:
            if data is None:
                print(f"{name}: skipped: ../shared/data not present", file=sys.stderr)
                continue
            seeds = range(wanted.seeds or study.seeds)
            real = data if wanted.rehearse else None
            for line in lines_of(study, opened(study, data), seeds=seeds, data=real):
                lines.append(line)
                print(json.dumps(line), flush=True)
    if wanted.write and lines:
        kept = LINES.read_text(encoding="utf-8").splitlines() if LINES.exists() else []
        write([*map(json.loads, kept), *lines])
    return 0


def write(measured: Sequence[Json]) -> None:
    """The newest lines of each study, the page and the picture that show them."""
    newest: dict[tuple[str, str], Json] = {}
    for line in measured:
        newest[line["study"], line["mechanism"]] = line
    lines = sorted(newest.values(), key=lambda line: list(STUDIES).index(line["study"]))
    notes = [study.note for study in STUDIES.values() if study.note]
    LINES.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    PAGE.write_text(page(lines, cpus=os.cpu_count() or 1, notes=notes), encoding="utf-8")
    PICTURE.write_text(picture(lines), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
