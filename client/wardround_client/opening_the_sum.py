"""Answers to `survivors` and `reveal`: help to open one sum, and no other.

What is signed is on disk and in the evidence log before the signature leaves: a second set of
survivors of one attempt is refused for ever. PROTOCOL 5, M2 to M5.
"""

from dataclasses import dataclass

from wardround.protocol.messages import (
    RefusalCode,
    Reveal,
    Revealed,
    Signed,
    Survivors,
)
from wardround_client.attempt_record import AttemptRecord
from wardround_client.consent import refuse_without_consent
from wardround_client.home import HospitalHome
from wardround_client.refusal import refusing
from wardround_client.session import RunSession


@dataclass(frozen=True, slots=True)
class SumOpener:
    """Signs survivors and gives up mask keys for one hospital."""

    home: HospitalHome

    def sign(self, session: RunSession, question: Survivors) -> Signed:
        """Check, write down, log, sign. The same survivors again get the same signature.

        Raises StudyRefused, with the hospital whose message was wrong where that is known.
        """
        record = self._record(session)
        record.check_survivors(question.transcript, question.survivors)
        attempt = session.secrets.present(question.transcript)
        with refusing(RefusalCode.SURVIVORS):
            checked = attempt.check_survivors(question, session.identity_keys)
        record.sign(question.transcript, checked.survivors)
        if session.evidence.attempt.survivors is None:
            signed = {"transcript": question.transcript, "survivors": list(checked.survivors)}
            session.evidence.append(("survivors-signed", signed))
        signature = attempt.sign(checked)
        return Signed(signature=signature.hex(), checkpoint=session.evidence.log.checkpoint())

    def reveal(self, session: RunSession, question: Reveal) -> Revealed:
        """Give what opens the sum over the survivors that we signed: never what opens a part of it.

        Raises StudyRefused.
        """
        self._record(session)
        attempt = session.secrets.present(question.transcript)
        with refusing(RefusalCode.SURVIVORS):
            return attempt.reveal(question, session.identity_keys)

    def _record(self, session: RunSession) -> AttemptRecord:
        refuse_without_consent(self.home, session.study)
        record = AttemptRecord(self.home, session.study)
        record.refuse_if_restored(session.evidence.attempt)
        return record
