"""The later stages of double masks: survivors, signatures, and what opens the sum (PROTOCOL 5).

A hospital that does not answer here stays in the sum; the others' shares stand in for it.
"""

from collections.abc import Sequence

from wardround.errors import BadInput, ProtocolViolation
from wardround.protocol.messages import Revealed, Signed
from wardround_server.rounds.attempt import Absence, Stage
from wardround_server.rounds.open_attempt import Asked, OpenAttempt, ask_all
from wardround_server.rounds.post import Answer, Silence


def take_signatures(asked: Sequence[Asked], *, deadline_s: float) -> None:
    """Tell the survivors of each group who is in its sum, and collect their signatures under it."""
    for attempt, answer in ask_all(Stage.SIGNED, asked, deadline_s=deadline_s):
        try:
            _take_signature(attempt, answer)
        except (ProtocolViolation, BadInput) as error:
            attempt.without(Silence(answer.hospital, Absence.REJECTED, str(error)))


def take_reveals(asked: Sequence[Asked], *, deadline_s: float) -> None:
    """Collect what opens the sums, once. Who vanished meanwhile, `still_needed` says."""
    for attempt, answer in ask_all(Stage.REVEALED, asked, deadline_s=deadline_s):
        try:
            _take_reveal(attempt, answer)
        except (ProtocolViolation, BadInput) as error:
            attempt.without(Silence(answer.hospital, Absence.REJECTED, str(error)))


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
