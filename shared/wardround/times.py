"""How long each attempt took, one JSON line each, for a party's own people: it never travels.

A hospital's seconds depend on which patients were drawn, so they are as local as its loss.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from wardround.canonical import Json, parse_json
from wardround.masking.round_spec import RoundSpec

_LINE_LIMIT_BYTES = 4096


@dataclass(slots=True)
class AttemptTimes:
    """A file of times; `last` is the newest line that this process wrote."""

    path: Path
    last: Json = field(default_factory=dict)

    def note(self, spec: RoundSpec, **seconds: float) -> None:
        """Write one line. It is not synced: a crash may lose it, and nothing depends on it."""
        self.last = {name: round(value, 6) for name, value in seconds.items()}
        line = {
            "run": spec.run,
            "purpose": spec.purpose.value,
            "round": spec.round,
            "attempt": spec.attempt,
            **self.last,
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def read_times(path: Path) -> list[Json]:
    """All lines, oldest first. Raises BadInput for a line that is none."""
    lines = path.read_bytes().splitlines()
    return [parse_json(line, what=path.name, limit_bytes=_LINE_LIMIT_BYTES) for line in lines]
