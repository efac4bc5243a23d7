"""Which message is with whom: the book-keeping that Flower's store does not do.

A letter is one message to one hospital and, later, its answer. Flower lets any node take any
object and answer any message; here each belongs to one hospital. Flower never hands a message out
twice; here it is, until its receipt is confirmed. A large vector and a large body travel beside
their letter.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wardround.held import HeldVector
from wardround_server.refusals import (
    AnswerNotWanted,
    MalformedRequest,
    NodeNotYours,
    NoSuchRoute,
    RequestTooLarge,
    VectorMissing,
)
from wardround_server.spool import Spool

RESUME_S = 20.0
_MOST_SETTLED = 10_000


@dataclass(slots=True)
class Letter:
    """One message to one hospital, handed to one node of it."""

    letter: str
    hospital: str
    node_id: int
    pieces: tuple[HeldVector, ...] = field(default=(), repr=False)
    handed_out: bytes | None = field(default=None, repr=False)
    confirmed: bool = False
    answer: str = ""
    spool: Spool | None = None
    forsaken: bool = False


class Letters:
    """All letters that the coordinator still waits for. Not thread-safe: its owner holds a lock."""

    def __init__(
        self,
        spools: Path,
        *,
        vector_limit_bytes: int,
        resume_s: float = RESUME_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Uploads go into files in `spools`; one hospital's at a time have the limit together."""
        self._spools = spools
        self._vector_limit_bytes = vector_limit_bytes
        self._resume_s = resume_s
        self._clock = clock
        self._letters: dict[str, Letter] = {}
        self._settled: dict[str, tuple[str, str]] = {}

    def send(self, letter: Letter) -> None:
        """Note a message that has been stored for a node."""
        self._letters[letter.letter] = letter

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

    def of(self, hospital: str, letter: str) -> Letter:
        """A letter to this hospital that is waited for. Raises AnswerNotWanted, NodeNotYours."""
        known = self._letters.get(letter)
        if known is None:
            raise AnswerNotWanted("the coordinator does not wait for this answer")
        if known.hospital != hospital:
            raise NodeNotYours("the message was not to this hospital")
        return known

    def vector_of(self, hospital: str, letter: str, digest: str) -> HeldVector:
        """The piece with this digest of a letter to this hospital. Raises GatewayRefusal."""
        pieces = self.of(hospital, letter).pieces
        if not pieces:
            raise NoSuchRoute("no vector belongs to this letter")
        for piece in pieces:
            if piece.vector_digest == digest:
                return piece
        raise MalformedRequest("the SHA-256 of a vector of this letter was due")

    def upload(self, hospital: str, letter: str, *, nbytes: int, digest: str) -> Spool:
        """Where the answer's large vector goes; another digest than before begins anew."""
        known = self.of(hospital, letter)
        spool = known.spool
        if spool is not None and (spool.nbytes, spool.digest) == (nbytes, digest):
            return spool
        if known.answer:
            raise MalformedRequest("a vector came after the answer")
        if spool is not None:
            spool.close()
            known.spool = None
        others = [other.spool for other in self._letters.values() if other.hospital == hospital]
        held = sum(other.nbytes for other in others if other is not None)
        if held + nbytes > self._vector_limit_bytes:
            raise RequestTooLarge(
                f"a vector of {nbytes} bytes beside {held}, {self._vector_limit_bytes} are allowed"
            )
        known.spool = Spool(self._spools, nbytes=nbytes, digest=digest, clock=self._clock)
        return known.spool

    def was_taken(self, hospital: str, letter: str, answer: str) -> bool:
        """True when this very answer has arrived before: it counts once."""
        if self._settled.get(letter) == (hospital, answer):
            return True
        known = self.of(hospital, letter)
        if known.answer not in ("", answer):
            raise MalformedRequest("a second, different answer to one message")
        return known.answer == answer

    def check_vector(self, letter: Letter, digest: str) -> None:
        """Raise VectorMissing unless what an answer refers to, if anything, has arrived whole."""
        spool = letter.spool
        if digest and (spool is None or spool.digest != digest or not spool.complete):
            raise VectorMissing("the vector of this answer has not arrived")

    def forsake(self, hospital: str, node_id: int) -> bool:
        """The hospital asks for new letters with a new node: it answers no older one any more."""
        older = [
            letter
            for letter in self._letters.values()
            if letter.hospital == hospital and letter.node_id != node_id and not letter.forsaken
        ]
        for letter in older:
            letter.forsaken = True
        return bool(older)

    def complete(self, letters: Collection[str]) -> list[Letter]:
        """Those of the letters whose answer has arrived whole."""
        known = (self._letters.get(letter) for letter in letters)
        return [letter for letter in known if letter is not None and letter.answer]

    def orphaned(
        self, letters: Collection[str], *, nodes: Mapping[str, int | None]
    ) -> frozenset[str]:
        """Those that nobody answers any more, by who is here with which node; or not waited for.

        Not yet those whose upload has begun: their hospital may come back and go on with it. Nor
        those of a hospital that is back with a newer node until it asks for letters: it delivers
        first what the older one has left.
        """
        known = {letter: self._letters.get(letter) for letter in letters}
        return frozenset(
            name
            for name, letter in known.items()
            if letter is None or not (letter.answer or self._may_come(letter, nodes))
        )

    def close(self, letter: str, *, settled: bool = False) -> Letter | None:
        """Stop waiting for the answer, or take it; any other is refused from now on."""
        known = self._letters.pop(letter, None)
        if known is not None and settled:
            self._settled[letter] = (known.hospital, known.answer)
            if len(self._settled) > _MOST_SETTLED:
                del self._settled[next(iter(self._settled))]
        elif known is not None and known.spool is not None:
            known.spool.close()
        return known

    def _may_come(self, letter: Letter, nodes: Mapping[str, int | None]) -> bool:
        node_id = nodes.get(letter.hospital)
        if node_id == letter.node_id:
            return True
        if letter.forsaken:
            return False
        spool = letter.spool
        is_resumed = spool is not None and self._clock() - spool.seen_at < self._resume_s
        return is_resumed or node_id is not None
