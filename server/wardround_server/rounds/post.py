"""Ask hospitals something and take their answers one at a time, as they come.

One answer is pulled, handed on and forgotten: the coordinator never holds two vectors.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flwr.app import Message

from wardround.errors import WardroundError
from wardround.protocol.envelope import Vector, seal, unseal
from wardround.protocol.messages import Body, Failed, Refusal
from wardround_server.grid import HospitalGrid
from wardround_server.rounds.attempt import Absence

_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a hospital said."""

    hospital: str
    body: Body
    vector: Vector | None


@dataclass(frozen=True, slots=True)
class Silence:
    """A hospital that gave no usable answer, and why."""

    hospital: str
    reason: Absence
    detail: str = ""


@dataclass(slots=True)
class Post:
    """Sends one question to several hospitals; `lanes` bounds what may come back."""

    grid: HospitalGrid
    lanes: int

    def ask(
        self,
        hospitals: Sequence[str],
        body: Body,
        vector: Vector | None = None,
        *,
        message_type: str,
        deadline_s: float,
    ) -> Iterator[Answer | Silence]:
        """Yield one Answer or Silence for each hospital, in the order in which they come.

        A hospital whose process went away is given up at once, the others at the deadline.
        """
        end = time.monotonic() + deadline_s
        content = seal(body, vector)
        nodes = {name: self.grid.node_of(name) for name in hospitals}
        messages = [
            Message(content, dst_node_id=node, message_type=message_type, group_id="")
            for node in nodes.values()
        ]
        sent = list(self.grid.push_messages(messages))
        waiting = dict(zip(sent, hospitals, strict=True))
        while waiting:
            for reply in self.grid.pull_messages(list(waiting)):
                yield self._read(waiting.pop(reply.metadata.reply_to_message_id), reply)
            for message_id, name in list(waiting.items()):
                silence = self._gone(name, nodes[name], end)
                if silence is not None:
                    del waiting[message_id]
                    yield silence
            if waiting:
                self.grid.wait(min(_WAIT_S, max(0.0, end - time.monotonic())))

    def _gone(self, hospital: str, node: int, end: float) -> Silence | None:
        if hospital not in self.grid.connected() or self.grid.node_of(hospital) != node:
            return Silence(hospital, Absence.DISCONNECTED)
        return Silence(hospital, Absence.DEADLINE) if time.monotonic() >= end else None

    def _read(self, hospital: str, reply: Message) -> Answer | Silence:
        if not reply.has_content():
            return Silence(hospital, Absence.FAILED, "no content")
        try:
            body, vector = unseal(reply.content, lanes=self.lanes)
        except WardroundError as error:
            return Silence(hospital, Absence.REJECTED, f"{type(error).__name__}: {error}")
        if isinstance(body, Failed):
            return Silence(hospital, Absence.FAILED, body.error)
        if isinstance(body, Refusal):
            return Answer(hospital, body, None)
        return Answer(hospital, body, vector)
