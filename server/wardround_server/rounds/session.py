"""Open a session: every hospital checks the study and sends a fresh signed run key.

The signed keys together are the directory (PROTOCOL 3). The coordinator only relays it: a
hospital believes an entry because the roster pins who signed it.
"""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from wardround.canonical import Json
from wardround.errors import ProtocolViolation, QuorumMissed, Refused, RefusedByBudget
from wardround.masking.directory import Directory
from wardround.masking.run_key import SignedRunKey
from wardround.protocol.messages import Joined, Open, Refusal, RefusalCode
from wardround_server.rounds.attempt import Absence
from wardround_server.rounds.post import Answer, Post, Silence
from wardround_server.rounds.record import RunRecord

_ASK_AGAIN_S = 0.5
# Answers that may change while the study waits for its hospitals.
_MAY_CHANGE = {RefusalCode.NOT_APPROVED, RefusalCode.PAUSED}


@dataclass(frozen=True, slots=True)
class Session:
    """Who takes part, under which keys; `refusals` says why others do not.

    `broken` are hospitals whose answer was none: they failed, or broke the protocol.
    """

    name: str
    directory: Directory
    nodes: Mapping[str, int]
    refusals: Mapping[str, Refusal]
    broken: frozenset[str]


@dataclass(slots=True)
class SessionOpener:
    """Asks the roster until all have joined or refused, or time is up and the quorum is there."""

    post: Post
    record: RunRecord
    signed_study: Json
    identity_keys: Mapping[str, bytes]
    _broken: set[str] = field(default_factory=set)

    def open(self, expected: frozenset[str], *, deadline_s: float) -> Session:
        """Agree on fresh run keys with `expected`, or with as many of them as come in time.

        Raises QuorumMissed, or Refused when hospitals said no.
        """
        end = time.monotonic() + deadline_s
        joined: dict[str, SignedRunKey] = {}
        refusals: dict[str, Refusal] = {}
        name = secrets.token_hex(16)
        while time.monotonic() < end:
            waiting = _waiting(expected - self._broken, joined, refusals)
            present = sorted(waiting & self.post.grid.connected())
            if present:
                self._ask(name, present, joined, refusals, end)
            if not _waiting(expected - self._broken, joined, refusals):
                break
            self.post.grid.wait(_ASK_AGAIN_S)
        self._quorum_or_raise(joined, refusals)
        directory = Directory.checked(
            joined.values(), run=self.record.run, session=name, identity_keys=self.identity_keys
        )
        for entry in directory.entries:
            self.record.joined(entry.hospital, name, entry.to_json())
        nodes = {hospital: self.post.grid.node_of(hospital) for hospital in directory.names}
        return Session(name, directory, nodes, refusals, frozenset(self._broken))

    def _ask(
        self,
        session: str,
        hospitals: list[str],
        joined: dict[str, SignedRunKey],
        refusals: dict[str, Refusal],
        end: float,
    ) -> None:
        question = Open(
            signed_study=self.signed_study,
            run=self.record.run,
            session=session,
            identity_keys={name: key.hex() for name, key in self.identity_keys.items()},
            checkpoint=self.record.log.checkpoint(),
        )
        left_s = max(0.0, end - time.monotonic())
        for answer in self.post.ask(hospitals, question, message_type="query", deadline_s=left_s):
            hospital = answer.hospital
            if isinstance(answer, Silence):
                self._silent(answer)
            elif isinstance(answer.body, Refusal):
                if refusals.get(hospital) != answer.body:
                    self.record.refused(hospital, answer.body)
                refusals[hospital] = answer.body
            else:
                try:
                    joined[hospital] = self._run_key(answer, session)
                except ProtocolViolation as error:
                    self._silent(Silence(hospital, Absence.REJECTED, str(error)))
                refusals.pop(hospital, None)

    def _silent(self, silence: Silence) -> None:
        """Who failed or broke the protocol would do so again; the others go on without it."""
        if silence.reason in {Absence.FAILED, Absence.REJECTED}:
            self._broken.add(silence.hospital)
            self.record.left_out(silence.hospital, silence.detail or silence.reason.value)
        self.record.show(note=f"{silence.hospital}: {silence.reason} {silence.detail}".strip())

    def _run_key(self, answer: Answer, session: str) -> SignedRunKey:
        if not isinstance(answer.body, Joined):
            raise ProtocolViolation(f"{answer.hospital}: no answer to the opening of a session")
        key = SignedRunKey.from_json(answer.body.run_key)
        if (key.hospital, key.session) != (answer.hospital, session):
            raise ProtocolViolation(f"{answer.hospital}: its run key is for somebody else")
        key.check(self.identity_keys[answer.hospital])
        self.record.heads.joined(answer.hospital, answer.body.witnessed)
        return key

    def _quorum_or_raise(
        self, joined: Mapping[str, SignedRunKey], refusals: Mapping[str, Refusal]
    ) -> None:
        quorum = self.record.study.rounds.quorum
        if len(joined) >= quorum:
            return
        said_no = "; ".join(_in_words(name, refusal) for name, refusal in sorted(refusals.items()))
        silent = sorted(set(self.record.study.names()) - joined.keys() - refusals.keys())
        found = f"{len(joined)} hospitals joined, the quorum is {quorum}"
        if refusals:
            fits = [
                r.epsilon_that_fits for r in refusals.values() if r.epsilon_that_fits is not None
            ]
            if fits:
                raise RefusedByBudget(f"{found}: {said_no}", epsilon_that_fits=min(fits))
            raise Refused(f"{found}: {said_no}")
        raise QuorumMissed(f"{found}; no answer from {', '.join(silent)}")


def _waiting(
    expected: frozenset[str], joined: Mapping[str, SignedRunKey], refusals: Mapping[str, Refusal]
) -> frozenset[str]:
    final = {name for name, refusal in refusals.items() if refusal.code not in _MAY_CHANGE}
    return expected - joined.keys() - final


def _in_words(hospital: str, refusal: Refusal) -> str:
    text = f"{hospital} refused: {refusal.code}"
    if refusal.epsilon_that_fits is not None:
        text += f" (epsilon {refusal.epsilon_that_fits:.3f} would fit)"
    return text
