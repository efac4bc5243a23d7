"""Fuzz every reader of what arrives: `python -m tests.fuzz.run [--seconds N] [TARGET ...]`.

One process for each target, with real inputs to begin with. One JSON line a target: executions,
new inputs that reached something new, seconds, and the finding, if there is one. Exit code 1 when
there is.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.fuzz.table import TARGETS
from tests.fuzz.target import Target

ROOT = Path(__file__).parents[2]
SECONDS = 60
LONGEST_INPUT_S = 20
MOST_RSS_MB = 3000
GRACE_S = 200
_RAISED = re.compile(r"=== Uncaught Python exception: ===\n(.{1,300})", re.DOTALL)


def fuzzed(target: Target, *, seconds: int, keep: Path | None = None) -> dict[str, Any]:
    """Fuzz one target for so long; what was found is under "finding", None when nothing was.

    Inputs that reach something new, and one that is a finding, are left in `keep`.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        corpus = (keep or Path(folder)) / target.name
        corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate((*target.seeds(), *target.refused())):
            (corpus / f"seed-{number}").write_bytes(seed)
        before = len(list(corpus.iterdir()))
        command = [sys.executable, "-m", "tests.fuzz.one", target.name, str(corpus)]
        command += [f"-max_total_time={seconds}", f"-timeout={LONGEST_INPUT_S}", "-seed=1"]
        command += [f"-rss_limit_mb={MOST_RSS_MB}", "-print_final_stats=1"]
        command += [f"-artifact_prefix={corpus}/finding-"]
        code, said = _ended(command, limit_s=seconds + GRACE_S)
        found = sorted(corpus.glob("finding-*"))
        inputs = [path.read_bytes()[:400].hex() for path in found]
        return {
            "fuzz": target.name,
            "executions": _number(r"number_of_executed_units:\s+(\d+)", said),
            "new_inputs": max(0, len(list(corpus.iterdir())) - len(found) - before),
            "seconds": seconds,
            "finding": None if code == 0 else _finding(said, inputs),
        }


def _ended(command: list[str], *, limit_s: float) -> tuple[int | None, str]:
    """The exit code, None when it did not end, and what was said."""
    try:
        ended = subprocess.run(command, capture_output=True, timeout=limit_s, check=False, cwd=ROOT)
    except subprocess.TimeoutExpired as error:
        return None, f"{error.stderr!r}: did not end in {limit_s:.0f} s"
    return ended.returncode, (ended.stderr + ended.stdout).decode("utf-8", "replace")


def _number(pattern: str, said: str) -> int:
    numbers = re.findall(pattern, said)
    return int(numbers[-1]) if numbers else 0


def _finding(said: str, inputs: list[str]) -> dict[str, Any]:
    raised = _RAISED.search(said)
    what = raised[1].strip() if raised else said[-600:]
    return {"what": what, "inputs_hex": inputs, "said": said[-3000:]}


def main() -> int:
    """Fuzz the named targets, or all; 1 when something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for each target")
    parser.add_argument("--keep", type=Path, help="folder for the inputs that were found")
    asked = parser.parse_args()
    found = False
    for name in asked.targets or TARGETS:
        result = fuzzed(TARGETS[name], seconds=asked.seconds, keep=asked.keep)
        found = found or result["finding"] is not None
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
