"""How much memory one step of a method takes, each in a process of its own.

A child is forked from a process that has imported everything and computed nothing. It runs one
step on two records, so that the code that the method needs is loaded, gives the heap back, and
starts the count of the kernel's peak anew. The step itself follows, twice. What is reported is the
peak resident memory minus what was resident before: imports, network and data are not in it.
"""

import ctypes
import gc
import multiprocessing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.dp_models import WORKLOADS

STEPS = 2
_MB = 1024.0  # from the kernel's kB
_PRELOADED = ["tests.benchmarks.dp_methods"]


@dataclass(frozen=True, slots=True)
class Peak:
    """Of one method: resident before the step, and how much more there was at most during it."""

    before_mb: float
    step_mb: float


def peak_of(method: str, workload: str, layout: str) -> Peak:
    """Measure one method on one workload. Raises RuntimeError when its process fails."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_measure, args=(theirs, method, workload, layout))
    child.start()
    theirs.close()
    try:
        return Peak(*ours.recv())
    except EOFError:
        raise RuntimeError(f"memory of {method} on {workload}: its process died") from None
    finally:
        child.join()


def _measure(answer: Any, method: str, workload: str, layout: str) -> None:
    import torch
    from tests.benchmarks.dp_methods import prepared, warm_up

    torch.set_num_threads(1)
    wanted = next(known for known in WORKLOADS if known.name == workload)
    warm_up(method, wanted, layout)
    with prepared(method, wanted, layout) as full:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): the peak starts anew
        before = _kernel_mb("VmRSS")
        for _ in range(STEPS):
            full.run()
        answer.send((before, _kernel_mb("VmHWM") - before))


def _kernel_mb(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / _MB
    raise RuntimeError(f"/proc/self/status: no {name}")
