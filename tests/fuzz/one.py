"""Fuzz one target in this process: `python -m tests.fuzz.one NAME CORPUS [libFuzzer's options]`.

The process ends by itself: with 0 when the time was up and nothing was found. `tests.fuzz.run`
starts it.
"""

import resource
import sys
from pathlib import Path
from typing import Any

ROOM_BYTES = 1 << 30  # that one input may take beside what the imports have taken


def limit_memory() -> None:
    """Let an allocation beyond ROOM_BYTES fail: a MemoryError is a finding."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def fuzz(atheris: Any, name: str, options: list[str]) -> None:
    """Hand over to libFuzzer; it does not come back."""
    with atheris.instrument_imports(include=["wardround", "wardround_client"]):
        from tests.fuzz.mutator import mutated
        from tests.fuzz.planted import PLANTED
        from tests.fuzz.table import TARGETS
        from tests.fuzz.target import refusal_of

    target = (TARGETS | PLANTED)[name]

    def one_input(data: bytes) -> None:
        refusal_of(target, data)

    def changed(data: bytes, most_bytes: int, seed: int) -> bytes:
        if target.json and seed % 4:
            found = mutated(bytes(data), seed, most_bytes)
            if found is not None:
                return found
        return bytes(atheris.Mutate(data, most_bytes))

    arguments = [sys.argv[0], *options, f"-max_len={target.most_bytes}"]
    atheris.Setup(arguments, one_input, custom_mutator=changed)
    for seed in (*target.seeds(), *target.refused()):
        refusal_of(target, seed)  # caches are filled before the limit
    limit_memory()
    atheris.Fuzz()


if __name__ == "__main__":
    import atheris

    fuzz(atheris, sys.argv[1], sys.argv[2:])
