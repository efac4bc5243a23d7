"""Values and differences of the first measure as one picture. Numbers in, SVG out, no script."""

import math
from collections.abc import Sequence
from html import escape

from wardround_client.personalisation.paired import Row, Told
from wardround_client.personalisation.result import apart, number, words_of

_WIDTH, _LEFT, _PLOT, _ROW, _HEAD, _FOOT = 860.0, 290.0, 300.0, 28.0, 34.0, 34.0
_INK, _SOFT, _GRID, _LINE = "#14212b", "#56646f", "#d8dee3", "#ab1420"
_TICKS = 5

Mark = tuple[str, Told, str]
"""A name, a number with its interval, and both in words."""


def picture(row: Row) -> str:
    """Two panels over each other: each model's value, and the differences around nothing."""
    values = [(way.value, told, number(row, told)) for way, told in row.values.items()]
    gains = [(words_of(gain), gain.difference, apart(row, gain)) for gain in row.gains]
    first = _panel(f"{row.name}, 95 % intervals", values, 0.0, None)
    second = _panel(f"{row.name}: what one has over the other", gains, _height(values), 0.0)
    height = _height(values) + _height(gains)
    label = escape(f"{row.name} of each model, and the differences")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {height:g}" '
        f'width="{_WIDTH:g}" height="{height:g}" role="img" aria-label="{label}" '
        'font-family="system-ui, Segoe UI, Roboto, DejaVu Sans, Arial, sans-serif" '
        f'font-size="13">\n<title>{label}</title>\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n{first}{second}</svg>\n'
    )


def _height(marks: Sequence[Mark]) -> float:
    return _HEAD + len(marks) * _ROW + _FOOT if marks else 0.0


def _panel(title: str, marks: Sequence[Mark], top: float, nothing: float | None) -> str:
    """`nothing` is where a line says that there is no difference."""
    if not marks:
        return ""
    ends = [end for _, told, _ in marks for end in (told.value, told.low, told.high)]
    ticks = _ticks([end for end in ends if end is not None], nothing)
    bottom = top + _HEAD + len(marks) * _ROW

    def x(value: float) -> float:
        return _LEFT + _PLOT * (value - ticks[0]) / (ticks[-1] - ticks[0])

    parts = [_text(_LEFT, top + 18, title, "start", _INK)]
    for tick in ticks:
        colour = _LINE if tick == nothing else _GRID
        parts.append(_stroke(x(tick), top + _HEAD - 6, x(tick), bottom, colour, 1.0))
        parts.append(_text(x(tick), bottom + 17, f"{tick:.3g}", "middle", _SOFT))
    for place, (name, told, words) in enumerate(marks):
        down = top + _HEAD + (place + 0.5) * _ROW
        parts.append(_text(_LEFT - 14, down + 4, name, "end", _INK))
        if told.low is not None and told.high is not None:
            parts.append(_stroke(x(told.low), down, x(told.high), down, _INK, 2.0))
        if told.value is not None:
            parts.append(f'<circle cx="{x(told.value):.1f}" cy="{down:.1f}" r="4.5"/>')
        parts.append(_text(_LEFT + _PLOT + 14, down + 4, words, "start", _SOFT))
    return "\n".join(parts) + "\n"


def _ticks(ends: Sequence[float], nothing: float | None) -> list[float]:
    """Round numbers around all of `ends`; without any, from 0 to 1.

    >>> _ticks([-0.02, 0.11], 0.0)
    [-0.05, 0.0, 0.05, 0.1, 0.15]
    """
    all_ends = [*ends, *([] if nothing is None else [nothing])] or [0.0, 1.0]
    low, high = min(all_ends), max(all_ends)
    width = max(high - low, 0.02)
    power = 10.0 ** math.floor(math.log10(width))
    step = next(part * power for part in (0.2, 0.5, 1.0, 2.0) if width / (part * power) < _TICKS)
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)
    return [float(f"{place * step:.10g}") for place in range(first, last + 1)]


def _text(x: float, y: float, text: str, anchor: str, colour: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">'
        f"{escape(text)}</text>"
    )


def _stroke(x1: float, y1: float, x2: float, y2: float, colour: str, width: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width:g}"/>'
    )
