"""Figures of the report as inline SVG: numbers in, markup out, no script and no outside address."""

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from wardround.canonical import Json
from wardround.evaluation.intervals import wilson

_PLOT = 240.0
_LEFT, _TOP, _RIGHT, _BOTTOM = 46.0, 10.0, 12.0, 44.0
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_LARGEST_DOT = 9.0


def icon_array(percent: float | None) -> Markup:
    """100 people, 50 dark for the guess that anybody can make, the rest up to `percent` bright.

    Without a limit (None) the other 50 are all marked.
    """
    reached = 100 if percent is None else round(percent)
    figures = "".join(
        _person(index, _person_class(index, reached, percent)) for index in range(100)
    )
    label = (
        "No limit: up to 100 of 100 people"
        if percent is None
        else f"{reached} of 100 people marked, 50 of them before the study"
    )
    return Markup(  # noqa: S704 - numbers and this module's own words
        f'<svg class="icons" viewBox="0 0 220 250" role="img" aria-label="{label}">{figures}</svg>'
    )


def roc_plot(points: Sequence[Sequence[float]]) -> Markup:
    """Sensitivity over false alarms; the diagonal is a coin."""
    line = " ".join(f"{_x(false):.1f},{_y(true):.1f}" for false, true in points)
    area = f"{_x(0):.1f},{_y(0):.1f} {line} {_x(1):.1f},{_y(0):.1f}"
    body = (
        f'<polygon class="area" points="{area}"/>{_diagonal()}<polyline class="curve" '
        f'points="{line}"/>'
    )
    return _plot(body, x="1 - specificity (false alarms)", y="sensitivity", label="ROC curve")


def calibration_plot(groups: Iterable[Json]) -> Markup:
    """Observed over predicted risk by group; a dot's area is its patients, whiskers are 95 %."""
    filled = [group for group in groups if group["observed"] is not None]
    most = max((group["patients"] for group in filled), default=1)
    dots = "".join(_calibration_dot(group, most) for group in filled)
    body = f"{_diagonal()}{dots}"
    return _plot(body, x="predicted risk", y="observed share", label="Calibration by risk group")


def _person(index: int, kind: str) -> str:
    x, y = 22 * (index % 10) + 11, 25 * (index // 10) + 6
    return (
        f'<g class="{kind}"><circle cx="{x}" cy="{y}" r="4.2"/>'
        f'<path d="M{x - 6} {y + 16}v-5a6 6 0 0 1 12 0v5z"/></g>'
    )


def _person_class(index: int, reached: int, percent: float | None) -> str:
    if index < 50:
        return "base"
    if index < reached:
        return "open" if percent is None else "gain"
    return "rest"


def _calibration_dot(group: Json, most: int) -> str:
    x, y = _x(group["predicted"]), _y(group["observed"])
    radius = max(2.5, _LARGEST_DOT * math.sqrt(max(group["patients"], 0) / most))
    bounds = wilson(group["positives"], group["patients"])
    whisker = ""
    if bounds is not None:
        whisker = (
            f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{_y(bounds[0]):.1f}" '
            f'y2="{_y(bounds[1]):.1f}"/>'
        )
    return f'{whisker}<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>'


def _plot(body: str, *, x: str, y: str, label: str) -> Markup:
    width, height = _LEFT + _PLOT + _RIGHT, _TOP + _PLOT + _BOTTOM
    middle_x, middle_y = _LEFT + _PLOT / 2, _TOP + _PLOT / 2
    return Markup(  # noqa: S704 - numbers and this module's own words
        f'<svg class="plot" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{label}">{_axes()}{body}'
        f'<text class="title" x="{middle_x:.1f}" y="{height - 6:.1f}">{x}</text>'
        f'<text class="title" transform="translate(12 {middle_y:.1f}) rotate(-90)">{y}</text></svg>'
    )


def _axes() -> str:
    parts = []
    for tick in _TICKS:
        text = f"{tick:g}"
        parts.append(
            f'<line class="grid" x1="{_x(0):.1f}" x2="{_x(1):.1f}" y1="{_y(tick):.1f}" '
            f'y2="{_y(tick):.1f}"/><line class="grid" x1="{_x(tick):.1f}" x2="{_x(tick):.1f}" '
            f'y1="{_y(0):.1f}" y2="{_y(1):.1f}"/>'
            f'<text class="tick" x="{_x(tick):.1f}" y="{_y(0) + 15:.1f}">{text}</text>'
            f'<text class="tick side" x="{_x(0) - 6:.1f}" y="{_y(tick) + 3.5:.1f}">{text}</text>'
        )
    return "".join(parts)


def _diagonal() -> str:
    return (
        f'<line class="chance" x1="{_x(0):.1f}" y1="{_y(0):.1f}" x2="{_x(1):.1f}" '
        f'y2="{_y(1):.1f}"/>'
    )


def _x(value: float) -> float:
    return _LEFT + _PLOT * value


def _y(value: float) -> float:
    return _TOP + _PLOT * (1.0 - value)
