"""Which message is with whom: the book-keeping that Flower's store does not do.

A letter is one message to one hospital and, later, its answer. Flower lets any node pull any
object, confirm any message and push into any session; here each of these belongs to one node.
Flower never hands a message out twice; here it is, until its receipt is confirmed.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from wardround_server.refusals import (
    AnswerNotWanted,
    MalformedRequest,
    NodeNotYours,
    RequestTooLarge,
)


@dataclass(slots=True)
class Letter:
    """One message to one node."""

    letter: str
    node_id: int
    objects: frozenset[str]
    handed_out: bytes | None = field(default=None, repr=False)
    confirmed: bool = False
    answer: str = ""
    complete: bool = False


@dataclass(slots=True)
class _Upload:
    letter: Letter
    missing: set[str]
    bytes_left: int


class Letters:
    """All letters that the coordinator still waits for. Not thread-safe: its owner holds a lock."""

    def __init__(self, *, answer_limit_bytes: int, answer_limit_objects: int) -> None:
        self._answer_limit_bytes = answer_limit_bytes
        self._answer_limit_objects = answer_limit_objects
        self._letters: dict[str, Letter] = {}
        self._uploads: dict[str, _Upload] = {}

    def send(self, letter: str, *, node_id: int, objects: Collection[str]) -> None:
        """Note a message that has been stored for a node."""
        self._letters[letter] = Letter(letter, node_id, frozenset(objects))

    def hand_out(self, letter: str, response: bytes) -> None:
        """Note that the node was told of the message, with these bytes."""
        if letter in self._letters:
            self._letters[letter].handed_out = response

    def unconfirmed(self, node_id: int) -> bytes | None:
        """What the node was told of and has not confirmed: its connection broke, say it again."""
        for letter in self._letters.values():
            if letter.node_id == node_id and letter.handed_out and not letter.confirmed:
                return letter.handed_out
        return None

    def check_pull(self, node_id: int, object_id: str) -> None:
        """Raise NodeNotYours unless the object is part of a message to this node."""
        for letter in self._letters.values():
            if letter.node_id == node_id and object_id in letter.objects:
                return
        raise NodeNotYours("the object is not part of a message to this node")

    def confirm(self, node_id: int, letter: str) -> bool:
        """Note a receipt; False when it was confirmed before or is not waited for any more."""
        known = self._letters.get(letter)
        if known is None:
            return False
        if known.node_id != node_id:
            raise NodeNotYours("the message is not to this node")
        first = not known.confirmed
        known.confirmed = True
        return first

    def check_answer(self, node_id: int, letter: str, objects: int) -> None:
        """Raise unless this node may answer this letter with so many objects."""
        known = self._letters.get(letter)
        if known is None:
            raise AnswerNotWanted("the coordinator does not wait for this answer")
        if known.node_id != node_id:
            raise NodeNotYours("the message was not to this node")
        if objects > self._answer_limit_objects:
            raise RequestTooLarge(
                f"an answer of {objects} objects, at most {self._answer_limit_objects} are allowed"
            )

    def begin_upload(self, letter: str, *, answer: str, session: str, missing: set[str]) -> None:
        """Note an answer whose objects will follow; a repeated beginning replaces the first."""
        known = self._letters[letter]
        if known.answer not in ("", answer):
            raise MalformedRequest("a second, different answer to one message")
        known.answer = answer
        known.complete = not missing
        self._forget_uploads(letter)
        if missing:
            self._uploads[session] = _Upload(known, missing, self._answer_limit_bytes)

    def check_upload(self, node_id: int, session: str, object_id: str, size: int) -> None:
        """Raise unless this object of this session is due from this node and within its limit."""
        upload = self._uploads.get(session)
        if upload is None:
            raise AnswerNotWanted("no answer is being uploaded in this session")
        if upload.letter.node_id != node_id or object_id not in upload.missing:
            raise NodeNotYours("the object is not due from this node")
        if size > upload.bytes_left:
            raise RequestTooLarge("the objects of this answer are larger than the limit together")

    def uploaded(self, session: str, object_id: str, size: int) -> bool:
        """Note an object that has been stored; True when the answer is complete with it."""
        upload = self._uploads.get(session)
        if upload is None:
            return False
        upload.missing.discard(object_id)
        upload.bytes_left -= size
        if upload.missing:
            return False
        upload.letter.complete = True
        del self._uploads[session]
        return True

    def complete(self, letters: Collection[str]) -> list[Letter]:
        """Those of the letters whose answer has arrived whole."""
        known = (self._letters.get(letter) for letter in letters)
        return [letter for letter in known if letter is not None and letter.complete]

    def orphaned(self, letters: Collection[str], *, live: Collection[int | None]) -> frozenset[str]:
        """Those that are not answered and went to none of these nodes, or are not waited for."""
        known = {letter: self._letters.get(letter) for letter in letters}
        return frozenset(
            name
            for name, letter in known.items()
            if letter is None or not (letter.complete or letter.node_id in live)
        )

    def close(self, letter: str) -> Letter | None:
        """Stop waiting for the answer; it is refused from now on."""
        self._forget_uploads(letter)
        return self._letters.pop(letter, None)

    def _forget_uploads(self, letter: str) -> None:
        for session in [s for s, upload in self._uploads.items() if upload.letter.letter == letter]:
            del self._uploads[session]
