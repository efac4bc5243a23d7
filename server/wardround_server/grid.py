"""The study loop's view of the fleet: a Flower Grid over the state in this process.

A standard ServerApp takes it like any other Grid; what it adds is names instead of node ids,
answers one at a time, and a wait that ends as soon as something has happened.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from wardround.errors import BadInput, DeadlineMissed
from wardround_server.flower_adapter import DEFAULT_LIFE_S, FlowerFleet, Run
from wardround_server.presence import Bell, Presence


class HospitalGrid(Grid):
    """One run of Flower, open until `close`. For one thread at a time."""

    def __init__(
        self, fleet: FlowerFleet, presence: Presence, bell: Bell, *, wake: Callable[[], None]
    ) -> None:
        self._fleet = fleet
        self._presence = presence
        self._bell = bell
        self._wake = wake
        self._run = fleet.open_run()
        self._heard = bell.rings

    def set_run(self, run: Run) -> None:
        """Part of Flower's interface: only the grid's own run is taken."""
        if run.run_id != self._run.run_id:
            raise BadInput(f"run {run.run_id}: this grid is for run {self._run.run_id}")

    @property
    def run(self) -> Run:
        """Flower's record of the run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message of this run; `ttl` in seconds covers the answer too (default 12 hours)."""
        return self._fleet.make_message(
            self._run.run_id,
            content,
            kind=message_type,
            node_id=dst_node_id,
            group=group_id,
            life_s=ttl or DEFAULT_LIFE_S,
        )

    def connected(self) -> frozenset[str]:
        """The hospitals that can be sent a message now."""
        return self._fleet.nodes.active() & self._presence.here()

    def node_of(self, hospital: str) -> int:
        """The hospital's node now; it changes when its process restarts. Raises Unreachable."""
        return self._fleet.nodes.node_of(hospital)

    def hospital_of(self, node_id: int) -> str:
        """Whose node this is or was. Raises BadInput."""
        return self._fleet.nodes.hospital_of(node_id)

    def get_node_ids(self) -> Iterable[int]:
        """The nodes of all connected hospitals."""
        return [self.node_of(hospital) for hospital in sorted(self.connected())]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Store the messages and wake the hospitals; returns the messages' ids in order.

        Raises Unreachable when one goes to a node that is not there; then none is sent.
        """
        sent = self._fleet.send(self._run.run_id, list(messages))
        self._wake()
        return sent

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """Yield the answers that have arrived whole, each deleted from the store before the next.

        Lazy: what is not taken stays for the next call. An answer that breaks the protocol is a
        message with `has_error()`; its reason is a type name.
        """
        return self._fleet.fetch(self._run.run_id, list(message_ids))

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Send and collect until all have answered, the rest cannot, or the time is over."""
        ends = None if timeout is None else time.monotonic() + timeout
        waiting = self.push_messages(messages)
        answers: list[Message] = []
        while waiting:
            for answer in self.pull_messages(waiting):
                waiting.remove(answer.metadata.reply_to_message_id)
                answers.append(answer)
            left_s = 60.0 if ends is None else ends - time.monotonic()
            if left_s <= 0 or not set(waiting) - self.lost(waiting):
                break
            self.wait(left_s)
        self.withdraw(waiting)
        return answers

    def wait(self, timeout_s: float) -> None:
        """Return when an answer arrived, or a hospital came or went, since the last return."""
        self._heard = self._bell.wait_beyond(self._heard, timeout_s=timeout_s)

    def wait_for(self, hospitals: Iterable[str], timeout_s: float) -> None:
        """Return when all these are connected. Raises DeadlineMissed naming the others."""
        wanted = frozenset(hospitals)
        ends = time.monotonic() + timeout_s
        while missing := wanted - self.connected():
            left_s = ends - time.monotonic()
            if left_s <= 0:
                names = ", ".join(sorted(missing))
                raise DeadlineMissed(f"not connected after {timeout_s:.0f} s: {names}")
            self.wait(left_s)

    def lost(self, message_ids: Sequence[str]) -> frozenset[str]:
        """Those without an answer whose hospital is gone, or has restarted and left none."""
        # Not `connected`: one that is back is not active for as long as it registers.
        return self._fleet.orphaned(message_ids, here=self._presence.here())

    def withdraw(self, message_ids: Sequence[str]) -> None:
        """Stop waiting for these: not delivered any more, late answers refused, memory freed."""
        self._fleet.withdraw(message_ids)

    def close(self) -> None:
        """End the run and delete what is stored for it."""
        self._fleet.close_run(self._run.run_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
