"""What a per-patient clipped gradient costs: time and memory beside plain PyTorch and Opacus.

    python -m tests.benchmarks.bench_dp [--models reference_cnn,mlp] [--repeats 15] [--quick]

Timed is forward, loss, backward, and the clipped (or plain mean) gradient left in `.grad`, on one
thread. Every method takes its turn in every round of one process; the medians are compared. Each
method runs in the faster of two memory layouts, which a trial picks; for plain both are timed.
Noise is timed beside it. Memory is measured in children (dp_memory.py). A table goes to standard
error, one JSON object for each model and batch to standard output.
"""

import argparse
import contextlib
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from tests.benchmarks.dp_memory import Peak, peak_of
from tests.benchmarks.dp_methods import METHODS, OPACUS, Prepared, prepared, warm_up
from tests.benchmarks.dp_models import WORKLOADS, Workload
from torch import Tensor

from wardround.canonical import Json
from wardround.noise import gaussian
from wardround.randomness import system_randomness

AGREES_WITHIN = 1e-4  # of two gradients' distance over their norm; Opacus adds 1e-6 to each norm
LEAST_ROUNDS = 3
WORKLOAD_S = 25.0  # after which a workload gets no further round
LEAST_TURN_S = 0.02
QUICK_S = 0.2
HOPELESS = 2.0  # a method so many times slower than the best Opacus mode keeps its trial's time
GOALS = {
    "reference_cnn": {"ratio_to_plain": 1.2, "speedup_over_opacus": 1.8},
    "resnet18_groupnorm": {"ratio_to_plain": 1.35, "speedup_over_opacus": 4.0},
    "gru": {"ratio_to_plain": 1.0, "speedup_over_opacus": 5.5},
    "mlp": {"ratio_to_plain": 1.5, "speedup_over_opacus": 2.5},
}
MEMORY_GOAL = 1.6


@dataclass(slots=True)
class Timed:
    """One method in one layout on one workload; seconds of the wall clock and of the processor."""

    method: str
    layout: str
    wall_s: list[float] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)

    @property
    def median_s(self) -> float:
        return statistics.median(self.wall_s)

    @property
    def processor_median_s(self) -> float:
        """What is chosen by: other people's load changes it least."""
        return statistics.median(self.processor_s)

    def time(self, step: Callable[[], object], steps: int = 1) -> None:
        """Time so many steps, one after the other, and note the mean."""
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(steps):
            step()
        self.processor_s.append((time.process_time() - processor) / steps)
        self.wall_s.append((time.perf_counter() - wall) / steps)


@dataclass(frozen=True, slots=True)
class Measured:
    """All methods on one workload; `refused` says why one has no time.

    `modes` are the modes of Opacus that took turns: the others were hopeless in the trial.
    """

    workload: Workload
    timed: dict[str, Timed]
    modes: tuple[str, ...]
    contiguous_plain_s: float | None
    refused: dict[str, str]
    noise_s: float
    peaks: dict[str, Peak]

    def ratio(self, method: str, over: str) -> float:
        """Of the medians."""
        return self.timed[method].median_s / self.timed[over].median_s

    @property
    def best_opacus(self) -> str:
        """The fastest mode whose gradient is right."""
        return min(self.modes, key=lambda mode: self.timed[mode].median_s)


def measure(workload: Workload, *, repeats: int, memory: bool) -> Measured:
    """Try every method in both layouts, then take turns with what is worth repeating."""
    with contextlib.ExitStack() as stack:
        ready, timed, refused = _trial(workload, stack)
        turns = _worth_turns(timed)
        _take_turns({key: ready[key] for key in turns}, timed, repeats)
    best = {method: timed[_faster(timed, method)] for method, _ in timed}
    measured = Measured(
        workload,
        best,
        tuple(method for method, _ in turns if method in OPACUS),
        timed[("plain", "contiguous")].median_s if workload.is_image else None,
        refused,
        _noise_s(workload, repeats),
        peaks={},
    )
    if memory:
        for method in ("plain", measured.best_opacus, "ours"):
            layout = measured.timed[method].layout
            measured.peaks[method] = peak_of(method, workload.name, layout)
    return measured


Key = tuple[str, str]


def _trial(
    workload: Workload, stack: contextlib.ExitStack
) -> tuple[dict[Key, Prepared], dict[Key, Timed], dict[str, str]]:
    """One step of everything, its gradient compared with that of `vmap(grad)`."""
    layouts = ("contiguous", "channels_last") if workload.is_image else ("contiguous",)
    ready: dict[Key, Prepared] = {}
    timed: dict[Key, Timed] = {}
    gradients: dict[str, Tensor] = {}
    refused: dict[str, str] = {}
    for layout in layouts:
        for method in METHODS:
            if method in refused or _hopeless(method, timed):
                continue
            key = (method, layout)
            try:
                ready[key] = stack.enter_context(prepared(method, workload, layout))
                warm_up(method, workload, layout)
                timed[key] = Timed(*key)
                timed[key].time(ready[key].run)
            except (RuntimeError, NotImplementedError) as error:
                refused[method] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                timed.pop(key, None)
                continue
            gradients.setdefault(method, ready[key].gradient())
            ready[key].forget()
    refused |= disagreeing(gradients)
    if "ours" in refused:
        raise RuntimeError(f"{workload.name}: ours: {refused['ours']}")
    return ready, {k: t for k, t in timed.items() if k[0] not in refused}, refused


def _hopeless(method: str, timed: dict[Key, Timed]) -> bool:
    """Whether a trial was so slow that neither the other layout nor turns are worth the time."""
    if method in {"plain", "ours"}:
        return False
    own = [t.processor_median_s for (name, _), t in timed.items() if name == method]
    rivals = [t.processor_median_s for (name, _), t in timed.items() if name in OPACUS]
    return bool(own) and min(own) > HOPELESS * min(rivals)


def _worth_turns(timed: dict[Key, Timed]) -> list[Key]:
    """Plain in every layout, the others in their faster one."""
    chosen = {_faster(timed, method) for method, _ in timed}
    return [
        key
        for key in timed
        if key[0] == "plain" or (key in chosen and not _hopeless(key[0], timed))
    ]


def disagreeing(gradients: dict[str, Tensor]) -> dict[str, str]:
    """Methods whose clipped sum is not that of `vmap(grad)`, and by how much."""
    due = gradients["vmap"]
    wrong = {}
    for method, gradient in gradients.items():
        distance = float((gradient - due).norm() / due.norm())
        if method != "plain" and not distance <= AGREES_WITHIN:
            wrong[method] = f"its gradient is {distance:.1e} from that of vmap(grad)"
    return wrong


def _faster(timed: dict[Key, Timed], method: str) -> Key:
    return min(
        (key for key in timed if key[0] == method), key=lambda key: timed[key].processor_median_s
    )


def _take_turns(ready: dict[Key, Prepared], timed: dict[Key, Timed], repeats: int) -> None:
    """Rounds of one turn each, from another method on each time; the trials no longer count.

    A turn of quick steps has several, and one before them that is not timed: as in training, the
    step before was the same one.
    """
    plain_s = min(timed[key].processor_median_s for key in ready if key[0] == "plain")
    steps = math.ceil(LEAST_TURN_S / plain_s)
    for key in ready:
        timed[key] = Timed(*key)
    keys, start = list(ready), time.perf_counter()
    for number in range(repeats):
        if number >= LEAST_ROUNDS and time.perf_counter() - start > WORKLOAD_S:
            return
        first = number % len(keys)
        for key in keys[first:] + keys[:first]:
            if plain_s < QUICK_S:
                ready[key].run()
            timed[key].time(ready[key].run, steps)
            ready[key].forget()


def _noise_s(workload: Workload, repeats: int) -> float:
    count = sum(p.numel() for p in workload.network().parameters())
    timed = Timed("noise", "")
    for _ in range(max(LEAST_ROUNDS, min(repeats, 7))):
        timed.time(partial(gaussian, count, scale=1.0, randomness=system_randomness))
    return timed.median_s


def json_line(measured: Measured) -> Json:
    """The benchmark's result on one workload."""
    workload, timed, peaks = measured.workload, measured.timed, measured.peaks
    mode = measured.best_opacus
    line: Json = {
        "bench": "dp",
        "model": workload.model,
        "batch": workload.batch,
        "ratio_to_plain": round(measured.ratio("ours", "plain"), 3),
        "speedup_over_opacus": round(measured.ratio(mode, "ours"), 2),
        "opacus_mode": mode,
        "peak_rss_mb": _mb(peaks.get("ours")),
        "opacus_peak_rss_mb": _mb(peaks.get(mode)),
        "plain_peak_rss_mb": _mb(peaks.get("plain")),
        "resident_before_mb": {m: round(peak.before_mb, 1) for m, peak in peaks.items()},
        "milliseconds": {m: round(1000 * t.median_s, 3) for m, t in timed.items()},
        "layout": {m: t.layout for m, t in timed.items()} if workload.is_image else {},
        "noise_ms": round(1000 * measured.noise_s, 3),
        "processor_ratio_to_plain": round(
            timed["ours"].processor_median_s / timed["plain"].processor_median_s, 3
        ),
        "processor_speedup_over_opacus": round(
            timed[mode].processor_median_s / timed["ours"].processor_median_s, 2
        ),
        "rounds": {m: len(t.wall_s) for m, t in timed.items()},
        "refused": measured.refused,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "goal": {**GOALS[workload.model], "memory_ratio": MEMORY_GOAL},
    }
    if measured.contiguous_plain_s is not None:
        line["plain_contiguous_ms"] = round(1000 * measured.contiguous_plain_s, 3)
    if peaks:
        line["memory_ratio"] = round(peaks["ours"].step_mb / peaks["plain"].step_mb, 2)
    return line


def _mb(peak: Peak | None) -> float | None:
    return None if peak is None else round(peak.step_mb, 1)


def table(lines: Sequence[Json]) -> str:
    """What people read: milliseconds a step, the goals beside what was reached."""
    head = ["model", "batch", "plain ms", "ours ms", "ratio", "goal", "Opacus", "over it", "goal"]
    head += ["vmap ms", "noise ms", "MB", "plain MB", "Opacus MB", "load"]
    rows = [head]
    for line in lines:
        times, goal = line["milliseconds"], line["goal"]
        rows.append(
            [
                line["model"],
                str(line["batch"]),
                f"{times['plain']:.2f}",
                f"{times['ours']:.2f}",
                f"{line['ratio_to_plain']:.2f}",
                f"<= {goal['ratio_to_plain']}",
                f"{line['opacus_mode']} {times[line['opacus_mode']]:.2f}",
                f"{line['speedup_over_opacus']:.2f}",
                f">= {goal['speedup_over_opacus']}",
                f"{times['vmap']:.2f}",
                f"{line['noise_ms']:.2f}",
                *(
                    "-" if line[name] is None else f"{line[name]:.0f}"
                    for name in ("peak_rss_mb", "plain_peak_rss_mb", "opacus_peak_rss_mb")
                ),
                f"{line['load']:.1f}",
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for, print."""
    parser = argparse.ArgumentParser(description="Time and weigh per-patient clipped gradients.")
    parser.add_argument(
        "--models", default="", help="names, with or without :batch, separated by commas"
    )
    parser.add_argument("--repeats", type=int, default=15, help="rounds, at most")
    parser.add_argument("--quick", action="store_true", help="few rounds, no memory")
    wanted = parser.parse_args(arguments)
    known = {name for workload in WORKLOADS for name in (workload.model, workload.name)}
    names = {name for name in wanted.models.split(",") if name}
    if names - known:
        parser.error(f"--models: {', '.join(sorted(names - known))}; known are {sorted(known)}")
    torch.set_num_threads(1)
    repeats = min(wanted.repeats, LEAST_ROUNDS) if wanted.quick else wanted.repeats
    lines = []
    for workload in WORKLOADS:
        if not names or names & {workload.model, workload.name}:
            measured = measure(workload, repeats=repeats, memory=not wanted.quick)
            lines.append(json_line(measured))
            print(json.dumps(lines[-1]), flush=True)
    print(table(lines), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
