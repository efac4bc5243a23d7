"""Ask hospitals something and take their answers one at a time, as they come.

One answer is pulled, handed on and forgotten: the coordinator never holds two vectors.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from flwr.app import Message, RecordDict

from wardround.errors import Unreachable, WardroundError
from wardround.evidence.entry import one_line
from wardround.protocol.envelope import Vector, seal, unseal
from wardround.protocol.messages import Body, Failed
from wardround.vectors import AnyVector
from wardround_server.grid import HospitalGrid
from wardround_server.rounds.attempt import Absence

_WAIT_S = 1.0
_SEND_TRIES = 20


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a hospital said; a large vector lies on disk."""

    hospital: str
    body: Body
    vector: AnyVector | None


@dataclass(frozen=True, slots=True)
class Silence:
    """A hospital that gave no usable answer, and why."""

    hospital: str
    reason: Absence
    detail: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", one_line(self.detail))


@dataclass(slots=True)
class Post:
    """Sends one question to several hospitals; `lanes` bounds the vectors that come back.

    `meanwhile` is called now and then while it waits for answers.
    """

    grid: HospitalGrid
    lanes: int
    meanwhile: Callable[[], None] = _nothing

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

        A hospital whose process went away is given up at once, the others at the deadline; what
        is given up is withdrawn, so that a late answer is refused.
        """
        content = seal(body, vector)
        return self._ask(dict.fromkeys(hospitals, content), message_type, deadline_s)

    def ask_each(
        self,
        bodies: Mapping[str, Body],
        vector: Vector | None = None,
        *,
        message_type: str,
        deadline_s: float,
    ) -> Iterator[Answer | Silence]:
        """As `ask`, with a question for each hospital; one that several share is sealed once."""
        different = {id(body): body for body in bodies.values()}
        sealed = {key: seal(body, vector) for key, body in different.items()}
        contents = {name: sealed[id(body)] for name, body in bodies.items()}
        return self._ask(contents, message_type, deadline_s)

    def nodes(self, hospitals: Sequence[str]) -> dict[str, int]:
        """The process that each of these is now, by its node; those that are gone are left out."""
        found = {}
        for name in hospitals:
            with suppress(Unreachable):
                found[name] = self.grid.node_of(name)
        return found

    def _ask(
        self, contents: Mapping[str, RecordDict], message_type: str, deadline_s: float
    ) -> Iterator[Answer | Silence]:
        end = time.monotonic() + deadline_s
        waiting = self._send(contents, message_type, deadline_s)
        for name in contents:
            if name not in waiting.values():
                yield Silence(name, Absence.DISCONNECTED)
        while waiting:
            for reply in self.grid.pull_messages(list(waiting)):
                yield self._read(waiting.pop(reply.metadata.reply_to_message_id), reply)
            given_up = self._given_up(list(waiting), late=time.monotonic() >= end)
            self.grid.withdraw(list(given_up))
            for message_id, reason in given_up.items():
                yield Silence(waiting.pop(message_id), reason)
            if waiting:
                self.meanwhile()
                self.grid.wait(min(_WAIT_S, max(0.0, end - time.monotonic())))

    def _send(
        self, contents: Mapping[str, RecordDict], message_type: str, deadline_s: float
    ) -> dict[str, str]:
        """Send to those who are there; return who is asked, by the message's id."""
        for _ in range(_SEND_TRIES):
            there = [name for name in contents if name in self.grid.connected()]
            try:
                messages = [
                    self.grid.create_message(
                        contents[name],
                        message_type,
                        self.grid.node_of(name),
                        "",
                        ttl=2 * deadline_s,
                    )
                    for name in there
                ]
                return dict(zip(self.grid.push_messages(messages), there, strict=True))
            except Unreachable:  # one of them left just now; nothing was sent
                continue
        raise Unreachable("hospitals come and go faster than a message can be sent to them")

    def _given_up(self, waiting: Sequence[str], *, late: bool) -> dict[str, Absence]:
        lost = self.grid.lost(waiting)
        if late:
            return {
                name: Absence.DISCONNECTED if name in lost else Absence.DEADLINE for name in waiting
            }
        return {name: Absence.DISCONNECTED for name in waiting if name in lost}

    def _read(self, hospital: str, reply: Message) -> Answer | Silence:
        if reply.has_error():
            return Silence(hospital, Absence.REJECTED, str(reply.error.reason or "no content"))
        try:
            body, vector = unseal(reply.content, lanes=self.lanes)
        except WardroundError as error:
            return Silence(hospital, Absence.REJECTED, f"{type(error).__name__}: {error}")
        if isinstance(body, Failed):
            return Silence(hospital, Absence.FAILED, body.error)
        return Answer(hospital, body, vector)
