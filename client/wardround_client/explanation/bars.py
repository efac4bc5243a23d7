"""A bar picture of what moved a score: one SVG file, no script, no outside address."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _ROW, _TOP, _BOTTOM = 760.0, 30.0, 78.0, 64.0
_LEFT, _RIGHT = 300.0, 84.0
_LONGEST_NAME = 42
# Orange for, blue against, as in the overlays: both are told apart with colour blindness.
_STYLE = (
    "text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#14212b}"
    ".name{font-size:15px;font-weight:650}.soft{fill:#56646f}"
    ".for{fill:#c96a00}.against{fill:#005ac8}.zero{stroke:#56646f;stroke-width:1}"
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One row: its name, its length (negative: against), and what stands at its end."""

    name: str
    length: float
    said: str


def bar_picture(title: str, below: str, axis: str, bars: Sequence[Bar], *, foot: str = "") -> str:
    """The bars from top to bottom, on one scale.

    `title` and `below` stand above them, `axis` and `foot` beneath. A row of nothing but zeros is
    drawn, too: then no bar has a length.
    """
    height = _TOP + _ROW * len(bars) + _BOTTOM
    scale = _Scale.of(bars)
    rows = "".join(_row(bar, scale, _TOP + _ROW * place) for place, bar in enumerate(bars))
    end = _TOP + _ROW * len(bars)
    words = "; ".join(f"{bar.name} {bar.said}" for bar in bars)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {height:g}" '
        f'role="img" aria-labelledby="title desc"><title id="title">{escape(title)}</title>'
        f'<desc id="desc">{escape(words)}</desc><style>{_STYLE}</style>'
        f'<rect width="{_WIDTH:g}" height="{height:g}" fill="#fff"/>'
        f'<text class="name" x="20" y="30">{escape(title)}</text>'
        f'<text class="soft" x="20" y="52">{escape(below)}</text>{rows}'
        f'<line class="zero" x1="{scale.zero:.1f}" x2="{scale.zero:.1f}" y1="{_TOP - 6:g}" '
        f'y2="{end:g}"/><text class="soft" x="{_LEFT:g}" y="{end + 26:g}">{escape(axis)}</text>'
        f'<text class="soft" x="20" y="{end + 48:g}">{escape(foot)}</text>'
        "</svg>\n"
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    """Zero lies as far from the left as the longest bar against needs."""

    zero: float
    of_one: float

    @classmethod
    def of(cls, bars: Sequence[Bar]) -> "_Scale":
        against = max((-bar.length for bar in bars), default=0.0)
        against, speaks_for = max(against, 0.0), max((bar.length for bar in bars), default=0.0)
        whole = against + max(speaks_for, 0.0)
        # Room for the words at the end of a bar against.
        start = _LEFT + (_RIGHT if against > 0.0 else 0.0)
        of_one = (_WIDTH - _RIGHT - start) / whole if whole > 0.0 else 0.0
        return cls(start + against * of_one, of_one)


def _row(bar: Bar, scale: _Scale, top: float) -> str:
    length = abs(bar.length) * scale.of_one
    left = scale.zero - length if bar.length < 0 else scale.zero
    kind = "against" if bar.length < 0 else "for"
    name = bar.name if len(bar.name) <= _LONGEST_NAME else bar.name[: _LONGEST_NAME - 1] + "…"
    at, anchor = (left - 6, "end") if bar.length < 0 else (left + length + 6, "start")
    middle = top + _ROW / 2 + 4
    return (
        f'<text x="{_LEFT - 12:g}" y="{middle:g}" text-anchor="end">{escape(name)}</text>'
        f'<rect class="{kind}" x="{left:.1f}" y="{top + 5:g}" width="{length:.1f}" '
        f'height="{_ROW - 10:g}" rx="2"/>'
        f'<text class="soft" x="{at:.1f}" y="{middle:g}" text-anchor="{anchor}">'
        f"{escape(bar.said)}</text>"
    )
