"""Who joined agrees on secrets in pairs: agree -> agreed -> keys -> keyed (PROTOCOL 3).

The coordinator relays a directory and signed encapsulations; it can read none of them. It checks
signatures so that whoever sends a wrong one is named here, and not whoever receives it.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from wardround.canonical import Json
from wardround.errors import ProtocolViolation
from wardround.masking.agreement import Encapsulation, check_encapsulations
from wardround.masking.directory import Directory
from wardround.protocol.messages import Agree, Agreed, Keyed, Keys, Refusal, RefusalCode
from wardround_server.rounds.attempt import Absence
from wardround_server.rounds.post import Answer, Post, Silence
from wardround_server.rounds.record import RunRecord


@dataclass(slots=True)
class KeyAgreement:
    """One try at it, with everybody in the directory; `lost` are those it failed with."""

    post: Post
    record: RunRecord
    directory: Directory
    identity_keys: Mapping[str, bytes]
    lost: dict[str, Silence] = field(default_factory=dict)
    refusals: dict[str, Refusal] = field(default_factory=dict)

    def agree(self, *, deadline_s: float) -> bool:
        """Whether everybody shares a secret with everybody else now.

        A hospital that fails makes the session worthless for all: then `lost` and `refusals` say
        without whom to open the next one.
        """
        sent = self._encapsulations(deadline_s)
        if not self.lost:
            self._hand_out(sent, deadline_s)
        return not self.lost

    def _encapsulations(self, deadline_s: float) -> dict[str, list[Json]]:
        """What each hospital gets from its peers with smaller names."""
        question = Agree(
            run=self.directory.run,
            session=self.directory.session,
            directory=tuple(self.directory.to_json()),
        )
        sent: dict[str, list[Json]] = defaultdict(list)
        for answer in self.post.ask(
            self.directory.names, question, message_type="query", deadline_s=deadline_s
        ):
            body = self._body(answer)
            if body is None:
                continue
            try:
                for each in self._checked(answer.hospital, body):
                    sent[each.recipient].append(each.to_json())
            except ProtocolViolation as error:
                self._lose(Silence(answer.hospital, Absence.REJECTED, str(error)))
        return sent

    def _checked(self, hospital: str, body: object) -> list[Encapsulation]:
        if not isinstance(body, Agreed):
            raise ProtocolViolation(f"{hospital}: encapsulations were due, something else came")
        if len(body.encapsulations) > len(self.directory.names):
            raise ProtocolViolation(f"{hospital}: more encapsulations than peers")
        found = [Encapsulation.from_json(value) for value in body.encapsulations]
        key = self.identity_keys[hospital]
        check_encapsulations(found, self.directory, sender=hospital, identity_key=key)
        return found

    def _hand_out(self, sent: Mapping[str, list[Json]], deadline_s: float) -> None:
        run, session = self.directory.run, self.directory.session
        questions = {
            name: Keys(run=run, session=session, encapsulations=tuple(sent.get(name, ())))
            for name in self.directory.names
        }
        for answer in self.post.ask_each(questions, message_type="query", deadline_s=deadline_s):
            body = self._body(answer)
            if body is not None and not isinstance(body, Keyed):
                self._lose(Silence(answer.hospital, Absence.REJECTED, "no answer to its keys"))

    def _body(self, answer: Answer | Silence) -> object | None:
        if isinstance(answer, Silence):
            self._lose(answer)
            return None
        if not isinstance(answer.body, Refusal):
            return answer.body
        hospital, code = answer.hospital, answer.body.code
        if code is RefusalCode.NO_SESSION:  # the process that joined is gone, another one is here
            self._lose(Silence(hospital, Absence.DISCONNECTED, code.value))
            return None
        self.refusals[hospital] = answer.body
        self.record.refused(hospital, answer.body)
        self._lose(Silence(hospital, Absence.REFUSED, code.value))
        return None

    def _lose(self, silence: Silence) -> None:
        self.lost[silence.hospital] = silence
