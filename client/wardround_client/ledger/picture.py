"""The budget over time as one SVG file: numbers in, markup out, no script, no outside address."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from wardround_client.ledger.budget import epsilon_of
from wardround_client.ledger.releases import Release

_WIDTH, _PANEL = 760.0, 330.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 20.0, 86.0, 52.0
_LABEL_ROWS = 3
_MOST_POINTS = 60
_NAME_LENGTH = 26
_LETTER = 6.4  # about the width of a letter of a study's name
_STYLE = (
    "text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#56646f}"
    ".name{font-size:15px;font-weight:650;fill:#14212b}.grid{stroke:#d8dee3;stroke-width:1}"
    ".budget{stroke:#ab1420;stroke-width:2;stroke-dasharray:7 4}.over{fill:#ab1420}"
    ".spent{fill:none;stroke:#0b6650;stroke-width:2.5}.area{fill:#0b6650;fill-opacity:.12}"
    ".study{fill:#14212b}.mark{stroke:#56646f;stroke-width:.8}.band{fill:#14212b;fill-opacity:.05}"
)


@dataclass(frozen=True, slots=True)
class Span:
    """The releases of one run, by their place among all: from `first` up to before `end`."""

    study: str
    first: int
    end: int
    date: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetCourse:
    """How a dataset's epsilon grew: (releases so far, epsilon), and which study was when."""

    dataset: str
    budget: float
    delta: float
    points: Sequence[tuple[int, float]]
    spans: Sequence[Span]


def course_of(
    releases: Sequence[Release],
    *,
    dataset: str,
    budget: float,
    delta: float,
    names: dict[str, str],
) -> BudgetCourse:
    """The course by releases, not by the clock, which may jump. `names` are studies by digest.

    Of long courses, epsilon is computed at some sixty places, the ends of runs among them.
    """
    spans: list[Span] = []
    for place, release in enumerate(releases):
        name = names.get(release.study_digest, release.study_digest[:12])
        last = spans[-1] if spans else None
        if last is not None and releases[last.first].run == release.run:
            spans[-1] = Span(last.study, last.first, place + 1, last.date)
        else:
            spans.append(Span(name, place, place + 1, release.reserved_at[:10]))
    every = -(-len(releases) // _MOST_POINTS) or 1
    places = sorted({0, *range(every, len(releases), every), *(span.end for span in spans)})
    points = [(place, epsilon_of(releases[:place], delta=delta)) for place in places]
    return BudgetCourse(dataset=dataset, budget=budget, delta=delta, points=points, spans=spans)


def picture(courses: Sequence[BudgetCourse]) -> str:
    """One panel a dataset: spent epsilon as steps, the budget as a dashed line, runs as bands."""
    height = _PANEL * max(len(courses), 1)
    panels = "".join(
        f'<g transform="translate(0 {_PANEL * place:g})">{_panel(course)}</g>'
        for place, course in enumerate(courses)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {height:g}" '
        f'role="img" aria-labelledby="title desc"><title id="title">Privacy budget over time'
        f'</title><desc id="desc">{escape(_in_words(courses))}</desc><style>{_STYLE}</style>'
        f'<rect width="{_WIDTH:g}" height="{height:g}" fill="#fff"/>{panels}</svg>\n'
    )


def _in_words(courses: Sequence[BudgetCourse]) -> str:
    if not courses:
        return "Nothing was released from any data set of this hospital."
    return " ".join(
        f"{course.dataset}: epsilon {course.points[-1][1]:.3f} of {course.budget:g} spent in "
        f"{course.points[-1][0]} releases of {len(course.spans)} runs."
        for course in courses
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    releases: int
    epsilon: float

    def x(self, place: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * place / max(self.releases, 1)

    def y(self, epsilon: float) -> float:
        return _PANEL - _BOTTOM - (_PANEL - _TOP - _BOTTOM) * min(epsilon / self.epsilon, 1.0)


def _panel(course: BudgetCourse) -> str:
    last, spent = course.points[-1]
    finite = [epsilon for _, epsilon in course.points if epsilon < float("inf")]
    scale = _Scale(last, 1.08 * max(course.budget, *finite))
    kind = "name over" if spent > course.budget else "name"
    heading = (
        f"{course.dataset}: epsilon {spent:.3f} of {course.budget:g} spent, "
        f"{max(0.0, course.budget - spent):.3f} left"
    )
    return (
        f'<text class="{kind}" x="{_LEFT:g}" y="22">{escape(heading)}</text>'
        f"{_axes(scale)}{_bands(course.spans, scale)}{_steps(course.points, scale)}"
        f"{_budget_line(course.budget, scale)}"
        f'<text x="{_LEFT:g}" y="{_PANEL - 10:g}">releases, in the order they were reserved; '
        f"delta {course.delta:g}</text>"
    )


def _axes(scale: _Scale) -> str:
    parts = []
    for epsilon in _ticks(scale.epsilon):
        y = scale.y(epsilon)
        parts.append(
            f'<line class="grid" x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{y:.1f}" '
            f'y2="{y:.1f}"/><text x="{_LEFT - 8:g}" y="{y + 4:.1f}" text-anchor="end">'
            f"{epsilon:g}</text>"
        )
    middle = (_TOP + _PANEL - _BOTTOM) / 2
    parts.append(
        f'<text transform="translate(18 {middle:g}) rotate(-90)" text-anchor="middle">'
        "epsilon</text>"
    )
    numbers = (
        f'<text x="{scale.x(place):.1f}" y="{_PANEL - _BOTTOM + 16:g}" '
        f'text-anchor="middle">{place}</text>'
        for place in sorted({0, scale.releases // 2, scale.releases})
    )
    return "".join([*parts, *numbers])


def _ticks(most: float) -> list[float]:
    """Four to nine round numbers from 0 to `most`.

    >>> _ticks(10.8)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    power = 10.0 ** math.floor(math.log10(most))
    step = next(part * power for part in (0.1, 0.2, 0.5, 1.0, 2.0) if most / (part * power) < 9)
    return [float(f"{step * count:.10g}") for count in range(math.floor(most / step) + 1)]


def _bands(spans: Sequence[Span], scale: _Scale) -> str:
    """Every second run shaded; above the first of each study its name and first day."""
    parts = []
    rows = [0.0] * _LABEL_ROWS  # where each row of names is free again
    for place, span in enumerate(spans):
        left, right = scale.x(span.first), scale.x(span.end)
        label = f"{span.study[:_NAME_LENGTH]} {span.date}"
        shade = ' class="band"' if place % 2 else ' fill="none"'
        parts.append(
            f'<rect{shade} x="{left:.1f}" y="{_TOP:g}" width="{right - left:.1f}" '
            f'height="{_PANEL - _TOP - _BOTTOM:g}"><title>{escape(label)}</title></rect>'
        )
        if place == 0 or spans[place - 1].study != span.study:
            parts.append(_name(label, left, rows))
    return "".join(parts)


def _name(label: str, left: float, rows: list[float]) -> str:
    """The label in a row that has room for it, or in none: hovering over the run shows it then."""
    start = min(left + 3.0, _WIDTH - _RIGHT - _LETTER * len(label))
    row = next((row for row, free in enumerate(rows) if start >= free), None)
    if row is None:
        return ""
    rows[row] = start + _LETTER * len(label) + 12.0
    y = _TOP - 6.0 - 14.0 * (_LABEL_ROWS - 1 - row)
    return (
        f'<line class="mark" x1="{left:.1f}" x2="{left:.1f}" y1="{y - 9:.1f}" y2="{_TOP:g}"/>'
        f'<text class="study" x="{start:.1f}" y="{y:.1f}">{escape(label)}</text>'
    )


def _steps(points: Sequence[tuple[int, float]], scale: _Scale) -> str:
    """A release is charged where it is reserved, so each step rises at its beginning."""
    path = f"M{scale.x(0):.1f} {scale.y(0):.1f}"
    for _, (place, epsilon) in pairwise(points):
        path += f"V{scale.y(epsilon):.1f}H{scale.x(place):.1f}"
    ground = f"V{scale.y(0):.1f}H{scale.x(0):.1f}Z"
    return f'<path class="area" d="{path}{ground}"/><path class="spent" d="{path}"/>'


def _budget_line(budget: float, scale: _Scale) -> str:
    y = scale.y(budget)
    return (
        f'<line class="budget" x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{y:.1f}" '
        f'y2="{y:.1f}"/><text class="over" x="{_WIDTH - _RIGHT:g}" y="{y - 6:.1f}" '
        f'text-anchor="end">budget {budget:g}</text>'
    )
