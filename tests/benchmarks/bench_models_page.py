"""The models benchmark for people: a page in Markdown and a picture in SVG."""

from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.bench_utility_page import _dot, _line, _text

from wardround.canonical import Json

_DOCS = Path(__file__).resolve().parents[2] / "shared" / "docs"
PAGE, PICTURE = _DOCS / "models.md", _DOCS / "images" / "models.svg"
LINES = _DOCS / "models.jsonl"
_WIDTH, _LEFT, _PLOT, _ROW, _TOP, _BOTTOM = 870.0, 380.0, 330.0, 22.0, 26.0, 60.0
_INK, _PRIVATE, _SOFT, _GRID = "#14212b", "#0b6650", "#56646f", "#d8dee3"
_LOW, _HIGH = 0.2, 1.0

_BEFORE = """# What the studies reach

Measured on public records by `make bench-models`, on held-out patients. *Federated* is the model
that the hospitals train together, *pooled* the same model on all patients in one place, *alone*
each hospital's own model for its own patients, both without noise. Each number is the mean over
seeds with its 95 % interval (Student's t); another seed is another split into training and held-out
patients, other batches and other noise. The intervals tell how far other splits would lie, not how
far other patients would. Epsilon counts for one patient over the whole training, at a delta of
1e-4; it covers training patients and not the settings, which were chosen before, by simulation on
the same public records and in part on the same splits. In the studies synthetic and synthetic_xray
(GANs) the federated model has learnt from synthetic patients alone, *pooled* and *alone* from real
ones; all are scored on real held-out patients.

![Each study: federated with and without noise, pooled, alone](images/models.svg)
"""
_AFTER = """
## A hospital that took no part

Each hospital is left out in turn: the others train as the study says, and the model is scored on
all patients of the one that took no part. The last column is a 95 % prediction interval for a
further hospital (random effects on log odds, restricted maximum likelihood, Hartung-Knapp).
"""
_REAL = """
## The same as a real federation

The seeds above run in one process: the code that hospitals and coordinator run, without masks, TLS
and logs, which change no number. For each study one real rehearsal, with a process for every party,
stands here beside runs in one process on the same split, lowest to highest: batches and noise are
drawn anew in each. Of few held-out patients one run tells little.
"""
_OWN = """
## Your own study

`wardround rehearse STUDY --data DATA --out OUT --compare` writes `comparison.html`,
`comparison.svg` and `comparison.json` beside the report: every way of the tables above, with
intervals, for each hospital, and what the next one may expect. The signed report has them, too, in
a section of its own: stated by the rehearsal's coordinator, not recomputed, since they are made of
everybody's data, which a rehearsal has and nobody else.
`wardround compare STUDY --data DATA --out OUT` makes them without a rehearsal.

`wardround rehearse STUDY --data DATA --out OUT --leave-out HOSPITAL` rehearses without one hospital
and writes `left-out.json`: how the model does there. The study's quorum has to allow it.
"""


def page(lines: Sequence[Json], *, cpus: int, notes: Sequence[str] = ()) -> str:
    """The whole page, from the benchmark's lines; `notes` stand below the table."""
    parts = [
        _BEFORE,
        *_table(lines),
        *_plain(lines),
        *(f"\n{note}" for note in notes),
        _AFTER,
        *_unseen(lines),
    ]
    if any(line["rehearsal"] for line in lines):
        parts += [_REAL, *_rehearsals(lines)]
    return "\n".join([*parts, _OWN, f"Measured on a machine of {cpus} cores."]) + "\n"


def _table(lines: Sequence[Json]) -> list[str]:
    rows = [
        "| study | metric | mechanism | epsilon | federated | pooled | alone | seeds | goal |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        epsilon = "-" if line["epsilon"] is None else f"{line['epsilon']:g}"
        goal = line["goal"] or "-"
        if line["goal"]:
            goal += ": reached" if line["reached"] else ": **missed**"
        cells = [line["study"], line["metric"], line["mechanism"], epsilon]
        cells += [_said(line, "value", "interval")]
        cells += [_said(line, way, f"{way}_interval") for way in ("pooled", "local_only")]
        rows.append("| " + " | ".join([*cells, str(line["seeds"]), goal]) + " |")
    return rows


def _plain(lines: Sequence[Json]) -> list[str]:
    return [
        f"\nThe network of {line['study']} in PyTorch's own training loop, on the rows of all "
        f"hospitals in one place: {_said(line['plain_pytorch'], 'value', 'interval')}, "
        f"{line['plain_pytorch']['seeds']} seeds."
        for line in lines
        if "plain_pytorch" in line
    ]


def _said(line: Json, value: str, ends: str) -> str:
    low, high = line[ends]
    return f"{line[value]:.3f} ({low:.3f} to {high:.3f})"


def _unseen(lines: Sequence[Json]) -> list[str]:
    rows = ["| study | each hospital as one that took no part | the next one |", "|---|---|---|"]
    for line in lines:
        found = line["left_out"]
        if found is None:
            continue
        each = ", ".join(
            f"{name} {'NA' if value is None else f'{value:.3f}'}"
            for name, value in found["each"].items()
        )
        coming = found["next_hospital"]
        said = "NA" if coming is None else "{:.3f} ({:.3f} to {:.3f})".format(*coming)
        rows.append(f"| {line['study']} | {each} | {said} |")
    return rows


def _rehearsals(lines: Sequence[Json]) -> list[str]:
    rows = [
        "| study | epsilon spent | rehearsal | in one process | seconds |",
        "|---|---|---|---|---|",
    ]
    for line in lines:
        real = line["rehearsal"]
        if real is None:
            continue
        epsilon = "-" if real["epsilon"] is None else f"{real['epsilon']:.3f}"
        drawn = real["in_one_process"]
        both = f"{real['value']:.3f} | {drawn[0]:.3f} to {drawn[-1]:.3f}"
        seconds = "-" if real["seconds"] is None else f"{real['seconds']:.0f}"
        rows.append(f"| {line['study']} | {epsilon} | {both} | {seconds} |")
    return rows


def picture(lines: Sequence[Json]) -> str:
    """A row for each study and way: mean and interval over the seeds."""
    rows = _rows(lines)
    height = _TOP + len(rows) * _ROW + _BOTTOM
    bottom = _TOP + len(rows) * _ROW
    parts = []
    for tick in range(round((_HIGH - _LOW) * 10) + 1):
        across = _x(_LOW + tick / 10)
        parts.append(_line(across, _TOP - 6, across, bottom, _GRID))
        parts.append(_text(across, bottom + 18, f"{_LOW + tick / 10:.1f}", anchor="middle"))
    for place, (name, value, (low, high), colour) in enumerate(rows):
        down = _TOP + (place + 0.5) * _ROW
        parts.append(_text(_LEFT - 12, down + 4, name, anchor="end", colour=colour))
        parts.append(_line(_x(low), down, _x(high), down, colour, width=2.0))
        parts.append(_dot(_x(value), down, colour))
        parts.append(_text(_LEFT + _PLOT + 14, down + 4, f"{value:.3f}"))
    legend = "Mean and its 95 % interval over seeds; green: with the study's noise"
    parts.append(_text(_LEFT + _PLOT / 2, bottom + 40, legend, anchor="middle"))
    label = "What each study reaches: federated with and without noise, pooled, alone"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:.0f} {height:.0f}" '
        f'width="{_WIDTH:.0f}" height="{height:.0f}" role="img" aria-label="{label}" '
        'font-family="system-ui, Segoe UI, Roboto, DejaVu Sans, Arial, sans-serif" '
        f'font-size="12">\n<rect width="100%" height="100%" fill="#fff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _rows(lines: Sequence[Json]) -> list[tuple[str, float, tuple[float, float], str]]:
    rows = []
    for line in lines:
        what = f"{line['study']}, {line['metric']}"
        if line["mechanism"] == "none":
            for way, said in (("local_only", "alone"), ("pooled", "pooled")):
                rows.append((f"{what}: {said}", line[way], line[f"{way}_interval"], _INK))
        private = line["epsilon"] is not None
        said = f"epsilon {line['epsilon']:g}" if private else "federated"
        colour = _PRIVATE if private else _INK
        rows.append((f"{what}: {said}", line["value"], line["interval"], colour))
    return rows


def _x(value: float) -> float:
    """Across; what lies below the axis is drawn at its end."""
    return _LEFT + _PLOT * (min(max(value, _LOW), _HIGH) - _LOW) / (_HIGH - _LOW)
