"""The later stages of double masks: survivors, signatures, and what opens the sum (PROTOCOL 6).

A hospital that does not answer here stays in the sum; the others' shares stand in for it.
"""

from collections.abc import Mapping

from wardround.errors import BadInput, ProtocolViolation
from wardround.protocol.messages import Revealed, Signed, Survivors
from wardround_server.rounds.attempt import Absence, Stage
from wardround_server.rounds.open_attempt import OpenAttempt
from wardround_server.rounds.post import Answer, Silence


def take_signatures(
    attempt: OpenAttempt, questions: Mapping[str, Survivors], *, deadline_s: float
) -> None:
    """Tell the survivors who is in the sum, and collect their signatures under it."""
    for answer in attempt.ask(Stage.SIGNED, questions, deadline_s=deadline_s):
        try:
            _take_signature(attempt, answer)
        except (ProtocolViolation, BadInput) as error:
            attempt.without(Silence(answer.hospital, Absence.REJECTED, str(error)))


def take_reveals(attempt: OpenAttempt, *, deadline_s: float) -> None:
    """Collect what opens the sum.

    When another one vanishes meanwhile, those who are left are asked for their shares of it.
    Raises QuorumMissed when too few are left.
    """
    questions = attempt.masked.close_signatures()
    while questions:
        for answer in attempt.ask(Stage.REVEALED, questions, deadline_s=deadline_s):
            try:
                _take_reveal(attempt, answer)
            except (ProtocolViolation, BadInput) as error:
                attempt.without(Silence(answer.hospital, Absence.REJECTED, str(error)))
        questions = attempt.masked.still_needed()


def _take_signature(attempt: OpenAttempt, answer: Answer) -> None:
    hospital, signed = answer.hospital, answer.body
    if not isinstance(signed, Signed):
        raise ProtocolViolation(f"{hospital}: a signature was due, something else came")
    key = attempt.identity_keys[hospital]
    seen = attempt.record.witness(hospital, signed.checkpoint, key)
    attempt.masked.take_signature(hospital, bytes.fromhex(signed.signature))
    attempt.record.saw(seen)
    attempt.state = attempt.state.with_answer(hospital)


def _take_reveal(attempt: OpenAttempt, answer: Answer) -> None:
    hospital, revealed = answer.hospital, answer.body
    if not isinstance(revealed, Revealed):
        raise ProtocolViolation(f"{hospital}: what opens the sum was due, something else came")
    attempt.masked.take_reveal(hospital, revealed)
    attempt.state = attempt.state.with_answer(hospital)
