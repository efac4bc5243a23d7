"""Which hospitals are here, and a bell that rings when that, or an answer, changes."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

GRACE_S = 2.0
SILENCE_S = 30.0
CHECK_EVERY_S = 0.25


class Bell:
    """Wakes the study loop: counts rings, so that none is missed between two waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._rings = 0

    def ring(self) -> None:
        """Something changed."""
        with self._changed:
            self._rings += 1
            self._changed.notify_all()

    @property
    def rings(self) -> int:
        """How often it has rung so far."""
        return self._rings

    def wait_beyond(self, rings: int, *, timeout_s: float) -> int:
        """Return at once when it rang after `rings`, else with the next ring or after the time."""
        with self._changed:
            self._changed.wait_for(lambda: self._rings > rings, timeout_s)
            return self._rings


@dataclass(slots=True)
class _Attendance:
    connections: int = 0
    lost_at: float = 0.0
    seen_at: float = 0.0


class Presence:
    """Here is who has an open connection, or lost the last one within the grace, and was heard.

    A process that dies closes its connections at once, so the grace is what notices it. A machine
    that loses power closes nothing: for it there is `silence_s`, several heartbeats long.
    """

    def __init__(
        self,
        *,
        ring: Callable[[], None],
        grace_s: float = GRACE_S,
        silence_s: float = SILENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ring = ring
        self._grace_s = grace_s
        self._silence_s = silence_s
        self._clock = clock
        self._lock = threading.Lock()
        self._hospitals: dict[str, _Attendance] = {}
        self._last: frozenset[str] = frozenset()

    def opened(self, hospital: str) -> None:
        """A connection with this hospital's certificate has been made."""
        with self._lock:
            attendance = self._hospitals.setdefault(hospital, _Attendance())
            attendance.connections += 1
            attendance.seen_at = self._clock()
        self.check()

    def closed(self, hospital: str) -> None:
        """One of its connections is gone."""
        with self._lock:
            attendance = self._hospitals.get(hospital)
            if attendance is not None and attendance.connections > 0:
                attendance.connections -= 1
                attendance.lost_at = self._clock()

    def seen(self, hospital: str) -> None:
        """A request has come from it."""
        with self._lock:
            self._hospitals.setdefault(hospital, _Attendance()).seen_at = self._clock()

    def here(self) -> frozenset[str]:
        """The hospitals that are here now."""
        now = self._clock()
        with self._lock:
            return frozenset(name for name, a in self._hospitals.items() if self._is_here(a, now))

    def check(self) -> None:
        """Ring when somebody has come or gone since the last check."""
        here = self.here()
        with self._lock:
            changed, self._last = here != self._last, here
        if changed:
            self._ring()

    def _is_here(self, attendance: _Attendance, now: float) -> bool:
        if now - attendance.seen_at > self._silence_s:
            return False
        return attendance.connections > 0 or now - attendance.lost_at < self._grace_s
