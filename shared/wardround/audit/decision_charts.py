"""Two figures of section E: net benefit by threshold, and predicted risk by what came true."""

from collections.abc import Iterable, Sequence
from itertools import takewhile

from markupsafe import Markup

from wardround.audit.words import Words
from wardround.canonical import Json

_WIDTH, _HEIGHT = 298, 294
_LEFT, _TOP, _PLOT = 46.0, 10.0, 240.0
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_BELOW_ZERO = 0.2  # how much of the height lies below a net benefit of 0
_LEAST_TOP = 0.01
_BAR_GAP = 2.0

Side = tuple[float, str]


def decision_plot(curve: Sequence[Sequence[float]], t: Words) -> Markup:
    """Net benefit of the model (solid), of treating everybody (dotted) and nobody (dashed, 0).

    `curve` holds (threshold, of the model, of everybody); a line ends where it falls far below 0.
    (Vickers and Elkin 2006)
    """
    top = max(_LEAST_TOP, *(max(model, everybody) for _, model, everybody in curve))
    low = -top * _BELOW_ZERO / (1 - _BELOW_ZERO)

    def height(value: float) -> float:
        return _y((value - low) / (top - low))

    def line(column: int, kind: str) -> str:
        seen = takewhile(lambda point: point[column] >= low, curve)
        points = (f"{_x(point[0]):.1f},{height(point[column]):.1f}" for point in seen)
        return f'<polyline class="{kind}" points="{" ".join(points)}"/>'

    body = f"{_level(height(0.0), 'chance')}{line(2, 'bound')}{line(1, 'curve')}"
    sides = [(height(0.0), "0"), (height(top), f"{top:.2g}")]
    return _plot(body, sides, t("Decision curve"), (t("threshold"), t("net benefit")))


def risk_plot(groups: Iterable[Json], t: Words) -> Markup | None:
    """Predicted risk, upwards of those with the outcome, downwards of the others.

    As shares of either, so that few with the outcome can be seen; negative noised counts are drawn
    as zero. None where one of the two has nobody.
    """
    edges, counts = [], []
    for group in groups:
        edges.append((group["low"], group["high"]))
        counts.append((group["positives"], group["patients"] - group["positives"]))
    parts = [[max(count, 0) for count in column] for column in zip(*counts, strict=True)]
    if not all(sum(part) for part in parts):
        return None
    shares = [[count / sum(part) for count in part] for part in parts]
    most = max(max(part) for part in shares)
    bars = [
        _bar(ends, share / most, up=up)
        for part, up in zip(shares, (True, False), strict=True)
        for ends, share in zip(edges, part, strict=True)
    ]
    text = f"{100 * most:.0f} %"
    sides = [(_y(1.0), text), (_y(0.5), "0"), (_y(0.0), text)]
    words = (t("predicted risk"), t("share of either outcome"))
    return _plot(
        "".join(bars) + _level(_y(0.5), "whisker"), sides, t("Predicted risk by outcome"), words
    )


def _bar(ends: tuple[float, float], part: float, *, up: bool) -> str:
    height = _PLOT / 2 * part
    top = _y(0.5) - (height if up else 0.0)
    left, width = _x(ends[0]) + _BAR_GAP / 2, _PLOT * (ends[1] - ends[0]) - _BAR_GAP
    return (
        f'<rect class="{"with" if up else "without"}" x="{left:.1f}" y="{top:.1f}" '
        f'width="{width:.1f}" height="{height:.1f}"/>'
    )


def _level(y: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{_x(0):.1f}" x2="{_x(1):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _plot(body: str, sides: Sequence[Side], label: str, axes: tuple[str, str]) -> Markup:
    """A square plot over [0, 1]; `sides` are the words along its height."""
    grid = "".join(
        f'<line class="grid" x1="{_x(tick):.1f}" x2="{_x(tick):.1f}" y1="{_y(0):.1f}" '
        f'y2="{_y(1):.1f}"/>'
        f'<text class="tick" x="{_x(tick):.1f}" y="{_y(0) + 15:.1f}">{tick:g}</text>'
        for tick in _TICKS
    )
    named = "".join(
        f'<text class="tick side" x="{_x(0) - 6:.1f}" y="{y + 3.5:.1f}">{text}</text>'
        for y, text in sides
    )
    middle = _TOP + _PLOT / 2
    return Markup(  # noqa: S704 - numbers and the catalogue's own words, escaped
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
        f"<title>{label}</title>{grid}{named}{body}"
        f'<text class="title" x="{_LEFT + _PLOT / 2:.1f}" y="{_HEIGHT - 6}">{axes[0]}</text>'
        f'<text class="title" transform="translate(12 {middle:.1f}) rotate(-90)">{axes[1]}</text>'
        "</svg>"
    )


def _x(value: float) -> float:
    return _LEFT + _PLOT * value


def _y(value: float) -> float:
    return _TOP + _PLOT * (1.0 - value)
