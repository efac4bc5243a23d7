"""How long `audit verify` takes in a fresh process. Prints one JSON line; under 5 s is the aim.

`python -m tests.benchmarks.bench_verify [--rounds N] [--hospitals N]`
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.federation_evidence import federation

from wardround.audit.bundle import write_bundle

REPETITIONS = 3
CHILD = """
import json, sys, time
from pathlib import Path
from wardround.audit.verify import verify_bundle
imported = time.process_time()
verdicts = verify_bundle(Path(sys.argv[1]))
print(json.dumps({"ok": verdicts.ok, "cpu_s": time.process_time(), "import_cpu_s": imported}))
"""


def main() -> None:
    """Make an honest bundle in memory, then verify it in fresh processes; the fastest counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--hospitals", type=int, default=20)
    options = parser.parse_args()
    names = tuple(f"hospital-{number:03}" for number in range(options.hospitals))
    run = federation(rounds=options.rounds, names=names)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle.zip"
        write_bundle(path, run.parts(), identity=run.coordinator.identity)
        found = [_verified(path) for _ in range(REPETITIONS)]
        result = {
            "bench": "verify",
            "rounds": options.rounds,
            "hospitals": options.hospitals,
            "bundle_bytes": path.stat().st_size,
            "ok": all(each["ok"] for each in found),
            **{key: round(min(each[key] for each in found), 3) for key in found[0] if key != "ok"},
        }
    print(json.dumps(result))


def _verified(path: Path) -> dict[str, float]:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, check=True
    )
    said: dict[str, float] = json.loads(done.stdout)
    return said | {"seconds": time.perf_counter() - start}


if __name__ == "__main__":
    main()
