"""What masks cost beside Flower's SecAgg+, both measured in this run. One JSON line per case.

    python -m tests.benchmarks.bench_masking [--parameters N ...] [--hospitals N ...] [--bits B ...]
        [--threads N]

Three things are measured, each as the fastest of its repetitions:

- client: one float vector becomes what travels. Here: keys of the round, quantise, mask, pack,
  SHA-256. There: keys of the pairs, quantise, mask, NumPy's file format. No training, no shares.
- server add: one message is added to the sum. The coordinator also hashes it to check what was
  signed; `server_add_and_hash_speedup` is with that.
- unmask: from the sum to real numbers, when nobody and when a tenth dropped out before the
  upload, keys being there. Flower joins every one of its keys from Shamir's shares first; here
  hospitals send theirs. `unmask_and_join_speedup_*` is with that.

Masking and unmasking have as many threads as in the product; `client_speedup_one_thread` has one.

`fraction_of_bound`: bytes of mask the client applied in a second with one thread, over what this
machine makes of keystream and adds, in cache and with nothing else: 1 / (1/keystream + 1/add).
"""

import argparse
import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.benchmarks import flower_masking as flower

from wardround.masking.derivation import expand_key
from wardround.masking.keystream import (
    CHUNK_WORDS,
    WORD,
    apply_keystreams,
    fastest_engine,
    threads_here,
)
from wardround.masking.masked_pass import mask_packed
from wardround.masking.packing import Packed, sign_extended, unpack_add
from wardround.masking.quantise import choose_scale, dequantise, largest_limit

BOUND = 1.0  # the largest value that need not be clipped
NETWORK_BLOCK = 1 << 16
TRANSCRIPT = bytes(32)
ENOUGH_S, MOST_REPETITIONS = 6.0, 5


def fastest(work: Callable[[], object]) -> float:
    """Seconds of the fastest repetition: up to five, no new one after six seconds."""
    seconds: list[float] = []
    while len(seconds) < MOST_REPETITIONS and sum(seconds) < ENOUGH_S:
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Hospitals that share a root with every other, as after the key agreement."""

    hospitals: int
    bits: int
    threads: int

    @property
    def limit(self) -> int:
        return largest_limit(self.hospitals, self.bits)

    @property
    def scale(self) -> float:
        return choose_scale(BOUND, self.hospitals, self.bits)

    def self_key(self, hospital: int) -> bytes:
        own = hashlib.sha256(b"self %d" % hospital).digest()
        return expand_key(own, purpose=b"self-mask", context=TRANSCRIPT)

    def pair_key(self, one: int, other: int) -> bytes:
        root = hashlib.sha256(b"pair %d %d" % (min(one, other), max(one, other))).digest()
        return expand_key(root, purpose=b"mask", context=TRANSCRIPT)

    def client_mask(
        self, own: int, values: npt.NDArray[Any], *, threads: int | None = None
    ) -> tuple[Packed, str]:
        """What one hospital does to its vector; `threads` instead of the cohort's."""
        others = range(self.hospitals)
        add = [self.pair_key(own, other) for other in others if other > own]
        subtract = [self.pair_key(own, other) for other in others if other < own]
        return mask_packed(
            values,
            scale=self.scale,
            limit=self.limit,
            add=[self.self_key(own), *add],
            subtract=subtract,
            bits=self.bits,
            threads=threads or self.threads,
        )

    def server_add(self, total: npt.NDArray[np.uint32], packed: Packed) -> None:
        """What the coordinator does to one upload, which comes in blocks of the network."""
        sent = memoryview(packed)
        starts = range(0, packed.size, NETWORK_BLOCK)
        unpack_add(total, (sent[start : start + NETWORK_BLOCK] for start in starts), self.bits)

    def server_unmask(
        self, total: npt.NDArray[np.uint32], *, dropped: int
    ) -> npt.NDArray[np.float64]:
        """The mean of all but the first `dropped`, in place of `total`."""
        alive = range(dropped, self.hospitals)
        pairs = [self.pair_key(gone, each) for gone in range(dropped) for each in alive]
        # The smaller name of a pair adds, so those alive, which are greater, have subtracted.
        own = [self.self_key(each) for each in alive]
        apply_keystreams(total, add=pairs, subtract=own, threads=self.threads)
        lanes = sign_extended(total, self.bits)
        most = self.hospitals * self.limit
        if lanes.min() < -most or lanes.max() > most:
            raise ArithmeticError("the masks did not cancel")
        return dequantise(lanes, scale=self.scale * len(alive))


def keystream_bound() -> float:
    """Bytes of mask a second that this machine could make and add, were there nothing else."""
    zeros, stream = bytes(4 * CHUNK_WORDS), bytearray(4 * CHUNK_WORDS)
    words, vector = np.frombuffer(stream, dtype=WORD), np.zeros(CHUNK_WORDS, dtype=WORD)
    keystream = fastest_engine().open(bytes(32))
    repetitions = range(200)

    def make() -> None:
        for _ in repetitions:
            keystream.update_into(zeros, stream)

    def add() -> None:
        for _ in repetitions:
            np.add(vector, words, out=vector)

    return len(zeros) * len(repetitions) / (fastest(make) + fastest(add))


def measure(
    parameters: int, cohort: Cohort, values: npt.NDArray[np.float32], theirs: dict[str, float]
) -> dict[str, object]:
    """One case: Flower's seconds over ours, and ours over the bound."""
    ours = seconds_here(values, cohort)
    packed, _ = cohort.client_mask(0, values)
    mask_bytes_s = 4 * parameters * cohort.hospitals / ours["client_alone"]
    return {
        "bench": "masking",
        "parameters": parameters,
        "hospitals": cohort.hospitals,
        "bits": cohort.bits,
        "client_speedup_over_flower": round(theirs["client"] / ours["client"], 1),
        "client_speedup_one_thread": round(theirs["client"] / ours["client_alone"], 1),
        "server_add_speedup": round(theirs["add"] / ours["add"], 1),
        "server_add_and_hash_speedup": round(theirs["add"] / (ours["add"] + ours["hash"]), 1),
        "unmask_speedup_0": round(theirs["unmask_0"] / ours["unmask_0"], 1),
        "unmask_speedup_10": round(theirs["unmask_10"] / ours["unmask_10"], 1),
        "unmask_and_join_speedup_0": _ratio_with_join(theirs, ours, 0),
        "unmask_and_join_speedup_10": _ratio_with_join(theirs, ours, 10),
        "bytes_per_parameter": packed.nbytes / parameters,
        "fraction_of_bound": round(mask_bytes_s / keystream_bound(), 3),
        "threads": cohort.threads,
        "engine": fastest_engine().name,
        "flower": version("flwr"),
        "load": round(os.getloadavg()[0], 2),
        "seconds": {name: round(seconds, 5) for name, seconds in ours.items()},
        "flower_seconds": {name: round(seconds, 5) for name, seconds in theirs.items()},
    }


def _ratio_with_join(theirs: dict[str, float], ours: dict[str, float], percent: int) -> float:
    both = theirs[f"unmask_{percent}"] + theirs[f"join_{percent}"]
    return round(both / ours[f"unmask_{percent}"], 1)


def _dropped(hospitals: int) -> int:
    return max(1, round(hospitals / 10))


def seconds_here(values: npt.NDArray[np.float32], cohort: Cohort) -> dict[str, float]:
    """What each part takes in this project."""
    packed, _ = cohort.client_mask(0, values)
    total = np.zeros(values.size, dtype=WORD)
    seconds = {
        "client": fastest(lambda: cohort.client_mask(0, values)),
        "client_alone": fastest(lambda: cohort.client_mask(0, values, threads=1)),
        "add": fastest(lambda: cohort.server_add(total, packed)),
        "hash": fastest(lambda: hashlib.sha256(packed.data)),
    }
    for name, dropped in (("unmask_0", 0), ("unmask_10", _dropped(cohort.hospitals))):
        masked = [_masked_sum(values.size, cohort, dropped) for _ in range(MOST_REPETITIONS)]
        seconds[name] = fastest(
            lambda m=masked, d=dropped: cohort.server_unmask(m.pop(), dropped=d)
        )
    return seconds


def _masked_sum(parameters: int, cohort: Cohort, dropped: int) -> npt.NDArray[np.uint32]:
    """What the coordinator holds when every upload was zero: masks alone."""
    alive = range(dropped, cohort.hospitals)
    total = np.zeros(parameters, dtype=WORD)
    pairs = [cohort.pair_key(gone, each) for gone in range(dropped) for each in alive]
    own = [cohort.self_key(each) for each in alive]
    apply_keystreams(total, add=own, subtract=pairs)
    return total


def seconds_in_flower(values: npt.NDArray[np.float32], hospitals: int) -> dict[str, float]:
    """What each part takes in Flower."""
    dropped = _dropped(hospitals)
    everybody = flower.nodes(hospitals, threshold=2 * hospitals // 3 + 1, dropped=dropped)
    sent = flower.client_mask(everybody[-1], everybody, values)
    total = flower.server_add(None, sent)
    seconds = {
        "client": fastest(lambda: flower.client_mask(everybody[-1], everybody, values)),
        "add": fastest(lambda: flower.server_add(total, sent)),
    }
    for percent, gone in ((0, 0), (10, dropped)):
        secrets = flower.server_join(everybody, dropped=gone)
        seconds[f"join_{percent}"] = fastest(partial(flower.server_join, everybody, dropped=gone))
        seconds[f"unmask_{percent}"] = fastest(
            partial(flower.server_unmask, total, everybody, secrets, dropped=gone)
        )
    return seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every case and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--hospitals", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--bits", type=int, nargs="+", default=[20, 32])
    parser.add_argument(
        "--threads", type=int, default=threads_here(), help="Flower's side has one, and cannot more"
    )
    options = parser.parse_args(arguments)
    for parameters, hospitals in itertools.product(options.parameters, options.hospitals):
        values = np.random.default_rng(1).normal(0.0, 0.05, parameters).astype(np.float32)
        theirs = seconds_in_flower(values, hospitals)
        for bits in options.bits:
            cohort = Cohort(hospitals=hospitals, bits=bits, threads=options.threads)
            print(json.dumps(measure(parameters, cohort, values, theirs)), flush=True)


if __name__ == "__main__":
    main()
