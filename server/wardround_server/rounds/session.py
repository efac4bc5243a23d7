"""Open a session: every hospital checks the study and sends a fresh signed run key.

The signed keys together are the directory (PROTOCOL 3). The coordinator only relays it: a
hospital believes an entry because the roster pins who signed it. A session is open when every pair
of those who joined shares a secret.
"""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from wardround.canonical import Json
from wardround.errors import ProtocolViolation, QuorumMissed, Refused, RefusedByBudget
from wardround.masking.directory import Directory
from wardround.masking.run_key import SignedRunKey
from wardround.protocol.messages import Joined, Open, Refusal, RefusalCode
from wardround_server.rounds.agreement import KeyAgreement
from wardround_server.rounds.attempt import Absence
from wardround_server.rounds.post import Answer, Post, Silence
from wardround_server.rounds.record import RunRecord

# How long the quorum waits for hospitals that are not connected.
JOIN_GRACE_S: Final = 30.0
# How long a hospital may take for an answer that needs no training.
SHORT_DEADLINE_S: Final = 60.0
_ASK_AGAIN_S = 0.5
# Answers that may change while the study waits for its hospitals.
_MAY_CHANGE = {RefusalCode.NOT_APPROVED, RefusalCode.PAUSED}
_PERMANENT = {Absence.FAILED, Absence.REJECTED, Absence.REFUSED}


@dataclass(frozen=True, slots=True)
class Session:
    """Who takes part, under which keys; `refusals` and `silent` say why others do not.

    `nodes` are the processes that were asked: another node of a hospital is a new process.
    """

    name: str
    directory: Directory
    nodes: Mapping[str, int]
    refusals: Mapping[str, Refusal]
    silent: Mapping[str, Absence]

    def after(self, earlier: "Session") -> "Session":
        """Add what is still known from the session before this one."""
        here = set(self.directory.names)
        return Session(
            self.name,
            self.directory,
            {**earlier.nodes, **self.nodes},
            {**earlier.refusals, **self.refusals},
            {n: why for n, why in {**earlier.silent, **self.silent}.items() if n not in here},
        )


@dataclass(slots=True)
class SessionOpener:
    """Asks the roster until all have joined or refused, or time is up and the quorum is there.

    A hospital that is not connected is waited for until the quorum has joined, and `grace_s`
    longer: it can return in a later round.
    """

    post: Post
    record: RunRecord
    signed_study: Json
    identity_keys: Mapping[str, bytes]
    grace_s: float = JOIN_GRACE_S
    _silent: dict[str, Absence] = field(default_factory=dict)
    _refusals: dict[str, Refusal] = field(default_factory=dict)
    _nodes: dict[str, int] = field(default_factory=dict)
    _went_away: set[str] = field(default_factory=set)

    def open(self, expected: frozenset[str], *, deadline_s: float) -> Session:
        """Agree on fresh keys with `expected`, or with as many of them as come in time.

        Who fails on the way is left out by name, and the session is opened anew with the rest.
        Then nobody is waited for but the quorum: who is away can return in a later round.
        Raises QuorumMissed, or Refused when hospitals said no.
        """
        short_s = min(deadline_s, SHORT_DEADLINE_S)
        grace_s = self.grace_s
        while True:
            name = secrets.token_hex(16)
            joined = self._join(name, expected, deadline_s, grace_s)
            self._quorum_or_raise(joined)
            directory = Directory.checked(
                joined.values(), run=self.record.run, session=name, identity_keys=self.identity_keys
            )
            agreement = KeyAgreement(self.post, self.record, directory, self.identity_keys)
            if agreement.agree(deadline_s=short_s):
                break
            self._refusals |= agreement.refusals
            for silence in agreement.lost.values():
                self._leave_out(silence)
            expected -= self._struck_out(agreement.lost)
            deadline_s, grace_s = short_s, 0.0
        for entry in directory.entries:
            self.record.joined(entry.hospital, name, entry.to_json())
        return Session(name, directory, self._nodes, self._refusals, self._silent)

    def _struck_out(self, lost: Mapping[str, Silence]) -> frozenset[str]:
        """Who is not asked again: a process that went away once may be there again, not twice."""
        again = {
            name
            for name, silence in lost.items()
            if silence.reason is Absence.DISCONNECTED and name not in self._went_away
        }
        self._went_away |= again
        return frozenset(lost.keys() - again)

    def _join(
        self, session: str, expected: frozenset[str], deadline_s: float, grace_s: float
    ) -> dict[str, SignedRunKey]:
        end = patience_end = time.monotonic() + deadline_s
        joined: dict[str, SignedRunKey] = {}
        while time.monotonic() < patience_end:
            self._tell(self._waiting(expected, joined))
            present = sorted(self._waiting(expected, joined) & self.post.grid.connected())
            if present:
                self._ask(session, present, joined, max(0.0, end - time.monotonic()))
            waiting = self._waiting(expected, joined)
            if not waiting:
                break
            if len(joined) < self._quorum or waiting & self.post.grid.connected():
                patience_end = end
            elif patience_end == end:
                patience_end = min(end, time.monotonic() + grace_s)
            self._tell(waiting)
            self.post.meanwhile()
            self.post.grid.wait(_ASK_AGAIN_S)
        self._tell(frozenset())
        return joined

    def _tell(self, waiting: frozenset[str]) -> None:
        """Whoever watches sees for whom this waits: a hospital may need a telephone call."""
        here, asked = self.post.grid.connected(), self._refusals
        why = {name: "asked" if name in here else Absence.DISCONNECTED.value for name in waiting}
        why |= {name: f"refused: {asked[name].code}" for name in waiting & asked.keys()}
        self.record.waiting(why)

    def _ask(
        self,
        session: str,
        hospitals: list[str],
        joined: dict[str, SignedRunKey],
        deadline_s: float,
    ) -> None:
        question = Open(
            signed_study=self.signed_study,
            run=self.record.run,
            session=session,
            identity_keys={name: key.hex() for name, key in self.identity_keys.items()},
            checkpoint=self.record.log.checkpoint(),
        )
        self._nodes |= self.post.nodes(hospitals)
        for answer in self.post.ask(
            hospitals, question, message_type="query", deadline_s=deadline_s
        ):
            hospital = answer.hospital
            if isinstance(answer, Silence):
                self._leave_out(answer)
            elif isinstance(answer.body, Refusal):
                if self._refusals.get(hospital) != answer.body:
                    self.record.refused(hospital, answer.body)
                self._refusals[hospital] = answer.body
            else:
                try:
                    joined[hospital] = self._run_key(answer, session, joined)
                except ProtocolViolation as error:
                    self._leave_out(Silence(hospital, Absence.REJECTED, str(error)))
                else:
                    self._silent.pop(hospital, None)
                self._refusals.pop(hospital, None)

    def _leave_out(self, silence: Silence) -> None:
        """Who failed or broke the protocol would do so again; the others go on without it."""
        self._silent[silence.hospital] = silence.reason
        if silence.reason in {Absence.FAILED, Absence.REJECTED}:
            self.record.left_out(silence.hospital, silence.detail or silence.reason.value)
        self.record.show(note=f"{silence.hospital}: {silence.reason} {silence.detail}".strip())

    def _run_key(
        self, answer: Answer, session: str, joined: Mapping[str, SignedRunKey]
    ) -> SignedRunKey:
        if not isinstance(answer.body, Joined):
            raise ProtocolViolation(f"{answer.hospital}: no answer to the opening of a session")
        key = SignedRunKey.from_json(answer.body.run_key)
        if (key.hospital, key.run, key.session) != (answer.hospital, self.record.run, session):
            raise ProtocolViolation(f"{answer.hospital}: its run key is for somebody else")
        key.check(self.identity_keys[answer.hospital])
        # A directory with a key that comes twice is refused by everybody: the second one goes.
        taken = [n for n, other in joined.items() if n != key.hospital and key.shares_with(other)]
        if taken:
            raise ProtocolViolation(f"{key.hospital}: its run key is that of {taken[0]}")
        self.record.heads.joined(answer.hospital, answer.body.witnessed)
        return key

    @property
    def _quorum(self) -> int:
        return self.record.study.rounds.quorum

    def _quorum_or_raise(self, joined: Mapping[str, SignedRunKey]) -> None:
        if len(joined) >= self._quorum:
            return
        refusals = self._refusals
        said_no = "; ".join(_in_words(name, refusal) for name, refusal in sorted(refusals.items()))
        silent = sorted(set(self.record.study.names()) - joined.keys() - refusals.keys())
        found = f"{len(joined)} hospitals joined, the quorum is {self._quorum}"
        if refusals:
            fits = [
                r.epsilon_that_fits for r in refusals.values() if r.epsilon_that_fits is not None
            ]
            if fits:
                raise RefusedByBudget(f"{found}: {said_no}", epsilon_that_fits=min(fits))
            raise Refused(f"{found}: {said_no}")
        raise QuorumMissed(f"{found}; no answer from {', '.join(silent)}")

    def _waiting(
        self, expected: frozenset[str], joined: Mapping[str, SignedRunKey]
    ) -> frozenset[str]:
        final = {n for n, refusal in self._refusals.items() if refusal.code not in _MAY_CHANGE}
        out = {name for name, reason in self._silent.items() if reason in _PERMANENT}
        return expected - joined.keys() - final - out


def _in_words(hospital: str, refusal: Refusal) -> str:
    text = f"{hospital} refused: {refusal.code}"
    if refusal.epsilon_that_fits is not None:
        text += f" (epsilon {refusal.epsilon_that_fits:.3f} would fit)"
    return text
