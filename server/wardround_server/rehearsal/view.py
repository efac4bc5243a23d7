"""What a person sees while a federation runs: hospitals x rounds, loss, epsilon, time left.

The hospitals' loss and epsilon are their own; the rehearsal may show them, since it plays all
parties. They travel nowhere.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from wardround.canonical import Json
from wardround_server.status import missing_of, suspected_in, waiting_in

_PLAIN_EVERY_S = 2.0
_WAITING_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class HospitalState:
    """One line of the view."""

    name: str
    alive: bool
    status: Json
    epsilon_of_study: float | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the view shows at one moment."""

    title: str
    rounds: int
    coordinator: Json
    hospitals: Sequence[HospitalState]
    training_s: float

    @property
    def round(self) -> int:
        """Rounds that are finished."""
        if self.coordinator.get("state") in {"evaluate", "closing", "done"}:
            return self.rounds
        return int(self.coordinator.get("round", 0))

    @property
    def missing(self) -> str:
        """Who does not take part now, and why; empty when everybody does."""
        return missing_of(self.coordinator)

    @property
    def suspected(self) -> str:
        """Who is suspected to be behind groups that lie far off, and why; empty for nobody."""
        return suspected_in(self.coordinator)

    @property
    def waiting(self) -> str:
        """For whom the opening of a session waits, why and how long; empty for nobody."""
        return waiting_in(self.coordinator)

    @property
    def where(self) -> str:
        """Where the run is, as people count: the first round is round 1."""
        if self.coordinator.get("state") == "train":
            return f"round {min(self.round + 1, self.rounds)} of {self.rounds}"
        return f"{self.round} of {self.rounds} rounds done"

    def left_s(self) -> float | None:
        """Seconds left, from the pace so far; None before the first round has ended."""
        if not self.round or self.round >= self.rounds:
            return None
        return self.training_s / self.round * (self.rounds - self.round)


class View(Protocol):
    """Shows snapshots until it is left."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, snapshot: Snapshot) -> None:
        """Draw this moment."""
        ...


@dataclass(slots=True)
class LiveView:
    """A table that is redrawn in a terminal."""

    console: Console
    _live: Live = field(init=False)

    def __post_init__(self) -> None:
        self._live = Live(console=self.console, refresh_per_second=8, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, snapshot: Snapshot) -> None:
        """Redraw."""
        self._live.update(render(snapshot))


@dataclass(slots=True)
class PlainView:
    """One line now and then, for a log or a pipe."""

    console: Console
    _last: tuple[object, ...] = ()
    _next: float = 0.0
    _waits: float = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def show(self, snapshot: Snapshot) -> None:
        """Print a line when something has moved, at most every two seconds."""
        state = snapshot.coordinator.get("state", "starting")
        waited_for = tuple(snapshot.coordinator.get("waiting_for", {}).items())
        key = (state, snapshot.round, snapshot.missing, snapshot.suspected, waited_for)
        news, now = key[2:] != self._last[2:], time.monotonic()
        if key == self._last and not (waited_for and now >= self._waits):
            return
        if now < self._next and state == "train" and not news:
            return
        self._last, self._next, self._waits = key, now + _PLAIN_EVERY_S, now + _WAITING_EVERY_S
        parts = [f"{state}: {snapshot.where}"]
        parts += [f"{h.name} {_number(h.status.get('loss'))}" for h in snapshot.hospitals]
        left = snapshot.left_s()
        if left is not None:
            parts.append(f"{left:.0f} s left")
        parts += _people(snapshot)
        self.console.print("  ".join(parts), highlight=False)


def render(snapshot: Snapshot) -> Group:
    """The table, the bar and the line below."""
    table = Table(title=snapshot.title, title_justify="left", expand=False)
    for heading in ("hospital", "state", "rounds answered", "held-out loss", "epsilon spent"):
        table.add_column(heading, justify="left" if heading in {"hospital", "state"} else "right")
    states = snapshot.coordinator.get("hospitals", {})
    for hospital in snapshot.hospitals:
        status = hospital.status
        state = str(states.get(hospital.name) or status.get("state", "starting"))
        style = "" if hospital.alive else "bold red"
        table.add_row(
            hospital.name,
            Text(state if hospital.alive else "process has ended", style=style),
            str(status.get("attempts", 0)),
            _number(status.get("loss")),
            _epsilon(status.get("epsilon"), hospital.epsilon_of_study),
        )
    bar = ProgressBar(total=snapshot.rounds, completed=snapshot.round, width=60)
    left = snapshot.left_s()
    text = f"  {snapshot.where}, {snapshot.coordinator.get('state', '-')}"
    if left is not None:
        text += f", about {left:.0f} s left"
    loss = snapshot.coordinator.get("training_loss")
    if isinstance(loss, float):
        text += f", pooled training loss {loss:.3f}"
    text = "\n  ".join([text, *_people(snapshot)])
    # A bar ends without a line's end: without one here the words would be cut off beside it.
    return Group(table, bar, Text("\n" + text))


def _people(snapshot: Snapshot) -> list[str]:
    told = {
        "waiting for": snapshot.waiting,
        "missing": snapshot.missing,
        "suspected": snapshot.suspected,
    }
    return [f"{what}: {names}" for what, names in told.items() if names]


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "-"


def _epsilon(spent: object, of_study: float | None) -> str:
    if of_study is None:
        return "no noise"
    return f"{_number(spent)} of {of_study:g}"
