"""A forest plot: values with their intervals, one below the other, on one axis. Inline SVG."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from markupsafe import Markup, escape

Kind = Literal["", "measured", "private", "next"]

WIDTH = 760.0
_LEFT, _PLOT, _ROW, _TOP, _BOTTOM = 270.0, 320.0, 26.0, 16.0, 50.0
_STEP, _FEWEST_STEPS = 0.1, 5
_LONGEST_NAME = 42


class Mark(NamedTuple):
    """One line of the plot; what is None has no mark, and `said` stands beside it."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    said: str
    kind: Kind = ""


def forest_plot(marks: Sequence[Mark], *, axis: str, label: str) -> Markup:
    """Value and interval of each mark. The axis goes to 1 and begins at the tick below all ends.

    Styles are the page's: `.forest` in report.css, `_SVG_STYLE` in report.pdf.
    """
    ends = [end for mark in marks for end in (mark.value, mark.low) if end is not None]
    steps = max([_FEWEST_STEPS, *(math.ceil(round((1.0 - end) / _STEP, 9)) for end in ends)])
    low, bottom = 1.0 - steps * _STEP, _TOP + len(marks) * _ROW
    parts, every = [], 1 + steps // 12
    for tick in range(0, steps + 1, every):
        value = 1.0 - tick * _STEP
        across = _x(value, low)
        parts.append(_line("grid", across, _TOP - 6, across, bottom))
        parts.append(_text("tick", across, bottom + 17, f"{value:.1f}"))
    for place, mark in enumerate(marks):
        parts.append(_mark(mark, _TOP + (place + 0.5) * _ROW, low))
    parts.append(_text("title", _LEFT + _PLOT / 2, bottom + 39, axis))
    height = bottom + _BOTTOM
    return Markup(  # noqa: S704 - numbers and escaped words
        f'<svg class="plot forest" viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" '
        f'aria-label="{escape(label)}"><title>{escape(label)}</title>{"".join(parts)}</svg>'
    )


def _mark(mark: Mark, down: float, low: float) -> str:
    name = mark.name if len(mark.name) <= _LONGEST_NAME else f"{mark.name[: _LONGEST_NAME - 1]}…"
    parts = [_text("side", _LEFT - 12, down + 4, name)]
    if mark.low is not None and mark.high is not None:
        parts.append(_line("whisker", _x(mark.low, low), down, _x(mark.high, low), down))
    if mark.value is not None:
        across = _x(mark.value, low)
        parts.append(f'<circle class="dot" cx="{across:.1f}" cy="{down:.1f}" r="4.5"/>')
    parts.append(_text("begin", _LEFT + _PLOT + 12, down + 4, mark.said))
    return f'<g class="m {mark.kind}">{"".join(parts)}</g>'


def _x(value: float, low: float) -> float:
    return _LEFT + _PLOT * (value - low) / (1.0 - low)


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(kind: str, x: float, y: float, text: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
