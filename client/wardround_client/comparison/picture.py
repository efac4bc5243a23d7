"""The comparison as one picture: a forest plot in SVG. Numbers in, markup out, no script."""

from collections.abc import Sequence
from html import escape

from wardround_client.comparison.result import Comparison, Figure
from wardround_client.comparison.ways import Way

NAMES = {"auroc": "AUROC", "c_index": "C-index", "macro_auroc": "mean AUROC over the classes"}
_WIDTH, _LEFT, _PLOT, _ROW, _TOP, _BOTTOM = 760.0, 250.0, 350.0, 26.0, 20.0, 52.0
_INK, _SOFT, _GRID, _PRIVATE, _NEXT = "#14212b", "#56646f", "#d8dee3", "#0b6650", "#7a3b00"
_STEP = 0.1

Row = tuple[str, float | None, float | None, float | None, str]


def forest(comparison: Comparison) -> str:
    """Value and 95 % interval of each way, then of each hospital that was left out, then the next.

    What is not available has no mark and says NA.
    """
    rows = _rows(comparison)
    low = min([0.5, *(_floor(end) for _, _, end, _, _ in rows if end is not None)])
    height = _TOP + len(rows) * _ROW + _BOTTOM

    def x(value: float) -> float:
        return _LEFT + _PLOT * (value - low) / (1.0 - low)

    parts, bottom = [], _TOP + len(rows) * _ROW
    for tick in range(round((1.0 - low) / _STEP) + 1):
        across = x(low + tick * _STEP)
        parts.append(_stroke(across, _TOP - 6, across, bottom, _GRID, 1.0))
        parts.append(_text(across, bottom + 18, f"{low + tick * _STEP:.1f}", "middle"))
    for place, (name, value, start, end, colour) in enumerate(rows):
        down = _TOP + (place + 0.5) * _ROW
        parts.append(_text(_LEFT - 12, down + 4, name, "end", colour))
        if start is not None and end is not None:
            parts.append(_stroke(x(start), down, x(end), down, colour, 2.0))
        if value is not None:
            parts.append(f'<circle cx="{x(value):.1f}" cy="{down:.1f}" r="4.5" fill="{colour}"/>')
        parts.append(_text(_LEFT + _PLOT + 12, down + 4, _said(value, start, end), "start"))
    metric = NAMES.get(comparison.metric, comparison.metric)
    parts.append(_text(_LEFT + _PLOT / 2, bottom + 40, f"{metric}, 95 % intervals", "middle"))
    label = escape(f"{metric} of {comparison.study}: each way to train, and each hospital left out")
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:.0f} {height:.0f}" '
        f'width="{_WIDTH:.0f}" height="{height:.0f}" role="img" aria-label="{label}" '
        'font-family="system-ui, Segoe UI, Roboto, DejaVu Sans, Arial, sans-serif" '
        f'font-size="12">\n<title>{label}</title>\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n'
    )


def _rows(comparison: Comparison) -> Sequence[Row]:
    rows: list[Row] = []
    for line in comparison.lines:
        colour = _INK if line.epsilon is None else _PRIVATE
        name = line.way if line.epsilon is None else f"{line.way}, epsilon {line.epsilon:.3g}"
        if line.way != Way.LEFT_OUT:
            rows.append(_row(name, line.whole, colour))
            continue
        rows += [
            _row(f"without {hospital}, in {hospital}", own, colour)
            for hospital, own in line.hospitals.items()
        ]
    coming = comparison.next_hospital
    if coming is not None:
        rows.append(("the next hospital", coming.mean, *coming.prediction, _NEXT))
    return rows


def _row(name: str, found: Figure, colour: str) -> Row:
    return name, found.value, found.low, found.high, colour


def _floor(value: float) -> float:
    """The next tick at or below.

    >>> _floor(0.47)
    0.4
    """
    return int(value / _STEP) * _STEP


def _said(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "NA"
    if low is None or high is None:
        return f"{value:.3f}"
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def _text(x: float, y: float, text: str, anchor: str, colour: str = _SOFT) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">'
        f"{escape(text)}</text>"
    )


def _stroke(x1: float, y1: float, x2: float, y2: float, colour: str, width: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width:g}"/>'
    )
