"""Figures of the report as inline SVG: numbers in, markup out, no script and no outside address."""

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from wardround.audit.report_model import AttackPoint
from wardround.audit.words import Words
from wardround.canonical import Json
from wardround.evaluation.intervals import wilson

_PLOT = 240.0
_LEFT, _TOP, _RIGHT, _BOTTOM = 46.0, 10.0, 12.0, 44.0
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_LARGEST_DOT = 9.0


def icon_array(percent: float | None, t: Words) -> Markup:
    """100 people, 50 dark for the guess that anybody can make, the rest up to `percent` bright.

    Without a limit (None) the other 50 are all marked. Those who are not reached are hollow, so
    that the three kinds differ in grey as well.
    """
    reached = 100 if percent is None else round(percent)
    figures = "".join(
        _person(index, _person_class(index, reached, percent)) for index in range(100)
    )
    label = (
        t("100 people: nothing limits how many are found")
        if percent is None
        else t("100 people: {most} marked, 50 of them for a blind guess", most=reached)
    )
    return Markup(  # noqa: S704 - numbers and the catalogue's own words, escaped
        f'<svg class="icons" viewBox="0 0 220 250" role="img" aria-label="{label}">'
        f"<title>{label}</title>{figures}</svg>"
    )


def limit_plot(
    curve: Sequence[AttackPoint], limits: tuple[float | None, float | None], t: Words
) -> Markup:
    """The most members that an attack finds, over the non-members that it accuses.

    `limits` are epsilon and delta, which alone would allow what the dotted line says.
    """
    line = " ".join(f"{_x(p.false_alarms):.1f},{_y(p.found_most):.1f}" for p in curve)
    area = f"{line} {_x(1):.1f},{_y(1):.1f} {_x(0):.1f},{_y(0):.1f}"
    epsilon, delta = limits
    dotted = ""
    if epsilon is not None and delta is not None:
        shares = [step / 50 for step in range(51)]
        points = (f"{_x(a):.1f},{_y(_allowed(a, epsilon, delta)):.1f}" for a in shares)
        dotted = f'<polyline class="bound" points="{" ".join(points)}"/>'
    body = (
        f'<polygon class="area" points="{area}"/>{_diagonal()}{dotted}'
        f'<polyline class="curve" points="{line}"/>'
    )
    label = t("How many patients an attack finds at most, by how many others it accuses")
    return _plot(
        body,
        x=t("others accused"),
        y=t("patients found"),
        label=label,
        kind="plot limit",
        ticks=(0.0, 1.0),
    )


def _allowed(false_alarms: float, epsilon: float, delta: float) -> float:
    """The most members found that (epsilon, delta) alone allows.

    (Kairouz et al. 2015)
    """
    rising = math.exp(epsilon) * false_alarms + delta
    falling = 1.0 - math.exp(-epsilon) * (1.0 - delta - false_alarms)
    return max(0.0, min(1.0, rising, falling))


def roc_plot(points: Sequence[Sequence[float]], t: Words) -> Markup:
    """Sensitivity over false alarms; the diagonal is a coin."""
    line = " ".join(f"{_x(false):.1f},{_y(true):.1f}" for false, true in points)
    area = f"{_x(0):.1f},{_y(0):.1f} {line} {_x(1):.1f},{_y(0):.1f}"
    body = (
        f'<polygon class="area" points="{area}"/>{_diagonal()}<polyline class="curve" '
        f'points="{line}"/>'
    )
    return _plot(
        body, x=t("1 - specificity (false alarms)"), y=t("sensitivity"), label=t("ROC curve")
    )


def calibration_plot(groups: Iterable[Json], t: Words) -> Markup:
    """Observed over predicted risk by group; a dot's area is its patients, whiskers are 95 %."""
    filled = [group for group in groups if group["observed"] is not None]
    most = max((group["patients"] for group in filled), default=1)
    dots = "".join(_calibration_dot(group, most) for group in filled)
    body = f"{_diagonal()}{dots}"
    label = t("Calibration by risk group")
    return _plot(body, x=t("predicted risk"), y=t("observed share"), label=label)


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


def _plot(
    body: str, *, x: str, y: str, label: str, kind: str = "plot", ticks: Sequence[float] = _TICKS
) -> Markup:
    width, height = _LEFT + _PLOT + _RIGHT, _TOP + _PLOT + _BOTTOM
    middle_x, middle_y = _LEFT + _PLOT / 2, _TOP + _PLOT / 2
    return Markup(  # noqa: S704 - numbers and the catalogue's own words, escaped
        f'<svg class="{kind}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{label}"><title>{label}</title>{_axes(ticks)}{body}'
        f'<text class="title" x="{middle_x:.1f}" y="{height - 6:.1f}">{x}</text>'
        f'<text class="title" transform="translate(12 {middle_y:.1f}) rotate(-90)">{y}</text></svg>'
    )


def _axes(named: Sequence[float]) -> str:
    parts = []
    for tick in _TICKS:
        text = f"{tick:g}" if tick in named else ""
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
