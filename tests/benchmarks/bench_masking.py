"""How long one hospital masks one update: quantise, mask, hash, sign. Prints one JSON line.

`python -m tests.benchmarks.bench_masking [--parameters N] [--hospitals N]`
"""

import argparse
import json
import time

import numpy as np
from tests.support.masked_hospitals import fleet

from wardround.masking.quantise import quantise

REPETITIONS = 5


def main() -> None:
    """Measure the fastest of several repetitions, each under its own round's masks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parameters", type=int, default=122_570)
    parser.add_argument("--hospitals", type=int, default=4)
    options = parser.parse_args()
    federation = fleet(options.hospitals)
    hospital = federation.hospitals[options.hospitals // 2]
    values = np.random.default_rng(1).normal(0.0, 0.05, options.parameters).astype(np.float32)
    seconds = []
    for number in range(REPETITIONS):
        spec = federation.spec(options.parameters, round=number)
        start = time.perf_counter()
        lanes = quantise(values, scale=spec.scale, limit=spec.limit)
        update, _ = hospital.answer(lanes, spec)
        seconds.append(time.perf_counter() - start)
    result = {
        "bench": "masking",
        "parameters": options.parameters,
        "hospitals": options.hospitals,
        "mask_s": round(min(seconds), 6),
        "bytes_per_parameter": update.values.nbytes / options.parameters,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
