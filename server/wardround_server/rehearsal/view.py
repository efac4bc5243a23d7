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
from wardround_server.status import missing_of, suspected_in

_PLAIN_EVERY_S = 2.0


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
        key = (state, snapshot.round, snapshot.missing, snapshot.suspected)
        news = key[2:] != self._last[2:]
        if key == self._last or (time.monotonic() < self._next and state == "train" and not news):
            return
        self._last, self._next = key, time.monotonic() + _PLAIN_EVERY_S
        parts = [f"{state}: round {snapshot.round}/{snapshot.rounds}"]
        parts += [f"{h.name} {_number(h.status.get('loss'))}" for h in snapshot.hospitals]
        left = snapshot.left_s()
        if left is not None:
            parts.append(f"{left:.0f} s left")
        if snapshot.missing:
            parts.append(f"missing: {snapshot.missing}")
        if snapshot.suspected:
            parts.append(f"suspected: {snapshot.suspected}")
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
    text = (
        f"  round {snapshot.round} of {snapshot.rounds}, {snapshot.coordinator.get('state', '-')}"
    )
    if left is not None:
        text += f", about {left:.0f} s left"
    loss = snapshot.coordinator.get("training_loss")
    if isinstance(loss, float):
        text += f", pooled training loss {loss:.3f}"
    if snapshot.missing:
        text += f"\n  missing: {snapshot.missing}"
    if snapshot.suspected:
        text += f"\n  suspected: {snapshot.suspected}"
    return Group(table, bar, Text(text))


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "-"


def _epsilon(spent: object, of_study: float | None) -> str:
    if of_study is None:
        return "no noise"
    return f"{_number(spent)} of {of_study:g}"
