"""The utility benchmark for people: a table in Markdown and a picture in SVG.

python -m tests.benchmarks.bench_utility_page PICTURE.svg < LINES.jsonl > TABLE.md
"""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from wardround.canonical import Json

TITLES = {
    "heart": "Heart disease, four hospitals",
    "breast": "Breast cancer, one set dealt out to four",
}
NAMES = {
    "distributed": "distributed noise",
    "local": "local noise",
    "local-only": "each hospital alone",
    "none": "no noise",
    "pooled": "pooled, no noise",
}
_COLOURS = {"distributed": "#0b6650", "local": "#b26a00", "local-only": "#ab1420"}
_ASIDE = {"distributed": -5.0, "local": 0.0, "local-only": 5.0}  # so that whiskers do not overlap
_INK, _SOFT, _GRID = "#14212b", "#56646f", "#d8dee3"
_PANEL, _GAP, _HEIGHT = 300.0, 96.0, 270.0
_LEFT, _TOP, _RIGHT, _BOTTOM = 62.0, 52.0, 30.0, 104.0
_STEPS = (0.01, 0.02, 0.05, 0.1)
_MOST_TICKS = 7


def table(lines: Sequence[Json]) -> str:
    """Ways as columns, epsilons as rows: AUROC and its interval; the gap to no noise below it."""
    parts = []
    for study in dict.fromkeys(line["study"] for line in lines):
        own = [line for line in lines if line["study"] == study]
        ways = [way for way in NAMES if any(line["mechanism"] == way for line in own)]
        epsilons = sorted({line["epsilon"] for line in own if line["epsilon"] is not None})
        parts += [
            f"**{TITLES[study]}** ({own[0]['seeds']} seeds)",
            "",
            "| epsilon | " + " | ".join(NAMES[way] for way in ways) + " |",
            "|---|" + "---|" * len(ways),
        ]
        for epsilon in epsilons:
            cells = [_cell(own, way, epsilon) for way in ways]
            parts.append(f"| {epsilon:g} | " + " | ".join(cells) + " |")
        parts.append("")
    return "\n".join(parts)


def _cell(lines: Sequence[Json], way: str, epsilon: float) -> str:
    for line in lines:
        if line["mechanism"] == way and line["epsilon"] in {epsilon, None}:
            low, high = line["interval"]
            gap = "" if way in {"none", "pooled"} else f", {-line['below_none']:+.3f}"
            return f"{line['auroc']:.3f} ({low:.3f} to {high:.3f}){gap}"
    return "-"


def picture(lines: Sequence[Json]) -> str:
    """A panel for each study: AUROC over epsilon with whiskers; what has no noise as a line."""
    studies = list(dict.fromkeys(line["study"] for line in lines))
    panels = [
        _panel([line for line in lines if line["study"] == study], study, number)
        for number, study in enumerate(studies)
    ]
    width = _LEFT + len(studies) * _PANEL + (len(studies) - 1) * _GAP + _RIGHT
    height = _TOP + _HEIGHT + _BOTTOM
    label = "AUROC of held-out patients over epsilon, for each way to train"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{label}" '
        'font-family="system-ui, Segoe UI, Roboto, DejaVu Sans, Arial, sans-serif" '
        f'font-size="12">\n<rect width="100%" height="100%" fill="#fff"/>\n'
        + "\n".join(panels)
        + f"\n{_legend(height, lines[0]['seeds'])}\n</svg>\n"
    )


def _panel(lines: Sequence[Json], study: str, number: int) -> str:
    epsilons = sorted({line["epsilon"] for line in lines if line["epsilon"] is not None})
    left = _LEFT + number * (_PANEL + _GAP)
    low, high, step = _range([end for line in lines for end in line["interval"]])

    def x(epsilon: float) -> float:
        first, last = math.log(epsilons[0]), math.log(epsilons[-1])
        share = 0.5 if first == last else (math.log(epsilon) - first) / (last - first)
        return left + _PANEL * (0.08 + 0.84 * share)

    def y(auroc: float) -> float:
        return _TOP + _HEIGHT * (1.0 - (auroc - low) / (high - low))

    parts = [_text(left, _TOP - 22, TITLES[study], size=14, weight=650, colour=_INK)]
    for tick in range(round((high - low) / step) + 1):
        value = low + tick * step
        parts.append(_line(left, y(value), left + _PANEL, y(value), _GRID))
        parts.append(_text(left - 8, y(value) + 4, f"{value:.2f}", anchor="end"))
    below = _TOP + _HEIGHT + 18
    parts += [_text(x(epsilon), below, f"{epsilon:g}", anchor="middle") for epsilon in epsilons]
    middle = left + _PANEL / 2
    parts.append(_text(middle, _TOP + _HEIGHT + 37, "epsilon for one patient", anchor="middle"))
    turned = f'transform="translate({left - 44:.0f} {_TOP + _HEIGHT / 2:.0f}) rotate(-90)"'
    parts.append(f'<text {turned} text-anchor="middle" fill="{_SOFT}">AUROC, held out</text>')
    for line in lines:
        if line["epsilon"] is None:
            dash = "1 4" if line["mechanism"] == "pooled" else "7 4"
            height = y(line["auroc"])
            parts.append(_line(left, height, left + _PANEL, height, _INK, width=1.5, dash=dash))
    for way, colour in _COLOURS.items():
        own = sorted((li for li in lines if li["mechanism"] == way), key=lambda li: li["epsilon"])
        places = [(x(line["epsilon"]) + _ASIDE[way], y(line["auroc"])) for line in own]
        points = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        for (across, down), line in zip(places, own, strict=True):
            bottom, top = (y(end) for end in line["interval"])
            parts.append(_line(across, bottom, across, top, colour, width=1.5))
            parts.append(_dot(across, down, colour))
    return "\n".join(parts)


def _range(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower end, upper end and tick of an axis that holds all values."""
    for step in _STEPS:
        low = math.floor(min(values) / step) * step
        high = math.ceil(max(values) / step) * step
        if high - low <= _MOST_TICKS * step or step == _STEPS[-1]:
            break
    return low, high, step


def _legend(height: float, seeds: int) -> str:
    parts, left = [], _LEFT
    for way, name in NAMES.items():
        down = height - 30
        if way in _COLOURS:
            parts.append(_line(left, down, left + 24, down, _COLOURS[way], width=2))
            parts.append(
                f'<circle cx="{left + 12:.1f}" cy="{down}" r="3.6" fill="{_COLOURS[way]}"/>'
            )
        else:
            dash = "1 4" if way == "pooled" else "7 4"
            parts.append(_line(left, down, left + 24, down, _INK, width=1.5, dash=dash))
        parts.append(_text(left + 31, down + 4, name, colour=_INK))
        left += 48 + 6.4 * len(name)
    whiskers = f"Whiskers: 95 % interval of the mean over {seeds} seeds"
    parts.append(_text(_LEFT, height - 9, whiskers))
    return "\n".join(parts)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    size: int = 12,
    weight: int = 400,
    colour: str = _SOFT,
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}" fill="{colour}">{text}</text>'
    )


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.6" fill="{colour}"/>'


def _line(
    x1: float,
    y1: float,
    x2: float,
    y2: float,
    colour: str,
    *,
    width: float = 1.0,
    dash: str = "",
) -> str:
    dashed = f' stroke-dasharray="{dash}" stroke-linecap="round"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width:g}"{dashed}/>'
    )


def main() -> int:
    """Draw what an earlier run measured."""
    lines = [json.loads(line) for line in sys.stdin]
    Path(sys.argv[1]).write_text(picture(lines), encoding="utf-8")
    print(table(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
