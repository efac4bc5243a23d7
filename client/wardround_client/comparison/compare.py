"""From a study's folder and everybody's data to the comparison's three files."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from wardround.canonical import Json, parse_json
from wardround.durable import write_durably
from wardround.errors import BadInput
from wardround.randomness import Randomness
from wardround.study.files import read_study_plan
from wardround_client.comparison.page import page
from wardround_client.comparison.picture import forest
from wardround_client.comparison.result import Comparison, compared
from wardround_client.comparison.sites import gather
from wardround_client.comparison.training import refuse_unplayed
from wardround_client.comparison.ways import score, ways_of

_REPORT_LIMIT_BYTES = 64 << 20
NAMES = ("comparison.json", "comparison.svg", "comparison.html")


def compare(
    folder: Path,
    data: Path,
    *,
    overrides: Sequence[str] = (),
    run: Path | None = None,
    randomness: Randomness,
    say: Callable[[str], None],
) -> Comparison:
    """Train every way once, on the split that the hospitals themselves use.

    `run` is the folder of a finished rehearsal, whose report becomes a line of its own. Raises
    BadInput for a study whose rounds cannot be played here, before anything is read.
    """
    refuse_unplayed(read_study_plan(folder / "study.toml", overrides))
    gathered = gather(folder, data, overrides)
    report = None if run is None else _report(run / "report.json")
    sites, scored = gathered.sites(), []
    for way in ways_of(gathered.plan):
        say(f"comparison: {way.value}")
        scored.append(score(gathered.plan, sites, way, randomness))
    return compared(gathered.plan, scored, report)


def write_comparison(comparison: Comparison, out: Path) -> None:
    """Write the three files. Raises BadInput when one of them is there already."""
    there = [name for name in NAMES if (out / name).exists()]
    if there:
        raise BadInput(f"{', '.join(there)}: already there, nothing is overwritten")
    said = json.dumps(comparison.to_json(), indent=1, sort_keys=True)
    for name, text in zip(NAMES, (said, forest(comparison), page(comparison)), strict=True):
        write_durably(out / name, text.encode())


def _report(path: Path) -> Json:
    if not path.is_file():
        raise BadInput(f"{path.name}: no such file in the folder of the run")
    return parse_json(path.read_bytes(), what=path.name, limit_bytes=_REPORT_LIMIT_BYTES)
