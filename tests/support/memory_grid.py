"""The coordinator's grid over hospitals in this process: real Flower messages, no network."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from flwr.app import Message, Metadata, RecordDict
from tests.support.hospitals import Ward


def flower_message(
    content: RecordDict, kind: str, *, source: int, target: int, number: str = "", answers: str = ""
) -> Message:
    """A message as the fleet would number and address it."""
    metadata = Metadata(
        run_id=1,
        message_id=number,
        src_node_id=source,
        dst_node_id=target,
        reply_to_message_id=answers,
        group_id="",
        created_at=time.time(),
        ttl=60.0,
        message_type=kind,
    )
    return Message(content=content, metadata=metadata)


def _reply_to(message: Message, content: RecordDict) -> Message:
    asked = message.metadata
    return flower_message(
        content, asked.message_type, source=asked.dst_node_id, target=1, answers=asked.message_id
    )


def _unbent(name: str, question: RecordDict, answer: RecordDict) -> RecordDict:
    return answer


@dataclass(frozen=True)
class Late:
    """An answer that comes so many seconds after its question; its hospital is there all along."""

    content: RecordDict
    after_s: float


class MemoryGrid:
    """The coordinator's grid over hospitals in this process; `gone` and `reply` bend it.

    `reply(name, question, answer)` may change what a hospital's process sends, make it `Late`, or
    return None: then its connection is lost and nothing comes.
    """

    def __init__(
        self, ward: Ward, reply: Callable[..., RecordDict | Late | None] | None = None
    ) -> None:
        self.ward = ward
        self.gone: set[str] = set()
        self._reply = reply or _unbent
        self._nodes = {name: 100 + place for place, name in enumerate(sorted(ward.hospitals))}
        self._waiting: dict[str, Message] = {}
        self._silent: set[str] = set()
        self._late: dict[str, tuple[float, Message]] = {}
        self.came_too_late: list[str] = []
        self._number = 0
        self.sent: list[tuple[str, str, RecordDict]] = []
        self.received: list[tuple[str, RecordDict]] = []

    def connected(self) -> frozenset[str]:
        return frozenset(self._nodes) - self.gone

    def node_of(self, hospital: str) -> int:
        return self._nodes[hospital]

    def come_back(self, hospital: str) -> None:
        """Another process of the hospital registers."""
        self.ward[hospital].restart()
        self._nodes[hospital] += 1000
        self.gone.discard(hospital)

    def create_message(
        self, content: RecordDict, kind: str, node: int, group: str, ttl: float
    ) -> Message:
        self._number += 1
        return flower_message(content, kind, number=str(self._number), source=1, target=node)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        return [self._push(message) for message in messages]

    def _push(self, message: Message) -> str:
        name = {node: name for name, node in self._nodes.items()}[message.metadata.dst_node_id]
        number = message.metadata.message_id
        self.sent.append((name, message.metadata.message_type, message.content))
        answered = self.ward[name].answer(message.content)
        answer = self._reply(name, message.content, answered)
        if answer is None:
            self._silent.add(number)
        elif isinstance(answer, Late):
            arrives_s = time.monotonic() + answer.after_s
            self._late[number] = (arrives_s, _reply_to(message, answer.content))
        else:
            self.received.append((name, answer))
            self._waiting[number] = _reply_to(message, answer)
        return number

    def pull_messages(self, ids: Iterable[str]) -> Iterator[Message]:
        for number in ids:
            if number in self._late and self._late[number][0] <= time.monotonic():
                yield self._late.pop(number)[1]
            if number in self._waiting:
                yield self._waiting.pop(number)

    def lost(self, ids: Sequence[str]) -> frozenset[str]:
        return frozenset(ids) & self._silent

    def withdraw(self, ids: Sequence[str]) -> None:
        for number in ids:
            self._waiting.pop(number, None)
            if self._late.pop(number, None):
                self.came_too_late.append(number)

    def wait(self, timeout_s: float) -> None:
        """Nothing happens between two messages but what is late."""
        time.sleep(min(timeout_s, 0.01))
