"""The first stage: every hospital of the cohort works and uploads (PROTOCOL 5).

Each masked vector is added as it comes and forgotten: one vector of memory, whatever the cohort.
"""

from collections.abc import Sequence

import numpy as np

from wardround.errors import BadInput, ProtocolViolation
from wardround.masking.coordinator_round import KeysDisputed
from wardround.masking.packing import packed_size
from wardround.masking.round_spec import Purpose
from wardround.protocol.envelope import Vector, vector_due
from wardround.protocol.messages import Update, Work
from wardround.vectors import blocks_of, digest_of
from wardround_server.rounds.attempt import Absence
from wardround_server.rounds.open_attempt import OpenAttempt, answered
from wardround_server.rounds.post import Answer, Silence

# Flower's names for what a message is about.
_MESSAGE_TYPES = {
    Purpose.STATISTICS: "query",
    Purpose.TRAIN: "train",
    Purpose.EVALUATE: "evaluate",
}


def take_updates(
    asked: Sequence[tuple[OpenAttempt, Work]], model: Vector, *, deadline_s: float
) -> None:
    """Ask the cohorts with `model` until all have answered, are gone, or the time is over."""
    attempts = [attempt for attempt, _ in asked]
    answers = attempts[0].post.ask_each(
        {name: work for attempt, work in asked for name in attempt.spec.cohort},
        model,
        message_type=_MESSAGE_TYPES[attempts[0].spec.purpose],
        deadline_s=deadline_s,
    )
    for attempt, answer in answered(attempts, answers):
        try:
            _take(attempt, answer)
        except KeysDisputed as error:
            attempt.disputed(answer.hospital, *error.peers)
            attempt.without(Silence(answer.hospital, Absence.REJECTED, str(error)))
        except (ProtocolViolation, BadInput) as error:
            attempt.without(Silence(answer.hospital, Absence.REJECTED, str(error)))


def _take(attempt: OpenAttempt, answer: Answer) -> None:
    """Add one hospital's update. Nothing of it is left anywhere when this raises."""
    hospital, update, spec = answer.hospital, answer.body, attempt.spec
    if not isinstance(update, Update):
        raise ProtocolViolation(f"{hospital}: an update was due, something else came")
    vector = vector_due(
        answer.vector,
        dtype=np.uint8,
        lanes=packed_size(spec.lanes, spec.bits),
        what=f"update of {hospital}",
    )
    seen = attempt.record.witness(hospital, update.checkpoint, attempt.identity_keys[hospital])
    attempt.masked.take_upload(
        hospital,
        update.header,
        bytes.fromhex(update.signature),
        update.shares,
        lambda: blocks_of(vector),
        digest=digest_of(vector),
        size_bytes=vector.nbytes,
    )
    if attempt.uploads is not None:
        attempt.uploads.keep(spec, hospital, blocks_of(vector))
    attempt.record.heads.answered(hospital)
    attempt.record.received(spec, hospital, update.header, update.signature, seen)
    attempt.state = attempt.state.with_answer(hospital)
