"""The aggregate, replayed: masked uploads add up to the logged sums, and these move the model.

Nothing secret is needed for it: masks cancel in the sum. Bundles hold uploads only where the
coordinator kept them; without them nothing is replayed, and the verifier says so.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from wardround.audit.attempts import Attempt
from wardround.audit.bodies import AttemptVoid, RoundClosed, StatisticsClosed
from wardround.audit.evidence import Evidence
from wardround.audit.uploads import FIRST_MODEL, upload_member
from wardround.audit.verdicts import Failure
from wardround.masking.keystream import MaskedLanes
from wardround.masking.quantise import LANE, dequantise
from wardround.masking.update import update_digest
from wardround.optimisers import OptimiserState, step
from wardround.protocol.specs import model_digest, standardises, statistics_layout
from wardround.statistics.released import ReleasedStatistics

_WORD, _FLOAT = np.dtype("<u4"), np.dtype("<f4")

Model = npt.NDArray[np.float32]


@dataclass(slots=True)
class Replay:
    """What a bundle's uploads showed: failures, and how much could be computed again."""

    rounds_due: int
    sums: dict[str, MaskedLanes] = field(default_factory=dict)
    rounds: int = 0
    failures: list[Failure] = field(default_factory=list)

    def remark(self) -> str:
        """One line for the reader."""
        if not self.sums:
            return "masked uploads are not in the bundle: no sum was replayed"
        return (
            f"replayed from masked uploads: the sums of {len(self.sums)} and the model's steps of "
            f"{self.rounds} of {self.rounds_due} training rounds"
        )


def replay(
    evidence: Evidence, attempts: tuple[Attempt, ...], uploads: Mapping[str, bytes]
) -> Replay:
    """Add every attempt's uploads up, and step the model with the sums, as far as they go."""
    opened = {attempt.transcript: attempt for attempt in attempts if attempt.counted}
    found = Replay(rounds_due=sum(attempt.trains for attempt in opened.values()))
    for name, content in uploads.items():
        attempt = opened.get(name)
        if attempt is not None:
            found.failures += _added_up(found, attempt, content)
        elif name != FIRST_MODEL:
            reason = "no attempt whose sum was opened has this transcript"
            found.failures.append(Failure("upload-unknown", upload_member(name), None, reason))
    found.failures += _stepped(found, evidence, attempts, uploads.get(FIRST_MODEL))
    return found


def _added_up(found: Replay, attempt: Attempt, content: bytes) -> Iterator[Failure]:
    spec, end, total = attempt.spec, attempt.end, np.zeros(attempt.spec.lanes, dtype=np.uint32)
    member = upload_member(attempt.transcript)
    due = len(spec.cohort) * spec.lanes * _WORD.itemsize
    if len(content) != due:
        reason = f"{len(content)} bytes, {len(spec.cohort)} hospitals' vectors are {due}"
        yield Failure("upload-malformed", member, None, reason)
        return
    vectors = np.frombuffer(content, _WORD).astype(np.uint32).reshape(len(spec.cohort), -1)
    for name, values in zip(spec.cohort, vectors, strict=True):
        record = attempt.received.get(name)
        if record is None or record.body.header.get("update_digest") != update_digest(values):
            log, seq = (record.log, record.seq) if record else (member, None)
            reason = f"the upload of {name} in the bundle is not the one that was received"
            yield Failure("upload-differs", log, seq, reason)
            return
        np.add(total, values, out=total)
    if end is None or isinstance(end.body, AttemptVoid):
        return
    if update_digest(total) != end.body.sum_digest:
        reason = "the masked uploads add up to another sum than the one that was logged"
        yield Failure("sum-differs", end.log, end.seq, reason)
        return
    found.sums[attempt.transcript] = total


def _stepped(
    found: Replay, evidence: Evidence, attempts: tuple[Attempt, ...], first: bytes | None
) -> Iterator[Failure]:
    if first is None:
        return
    if len(first) % _FLOAT.itemsize:
        reason = f"{len(first)} bytes are no vector of 32-bit numbers"
        yield Failure("upload-malformed", upload_member(FIRST_MODEL), None, reason)
        return
    model: Model = np.frombuffer(first, _FLOAT).astype(np.float32)
    released, state = _scale(evidence, attempts), OptimiserState()
    for attempt in attempts:
        end = attempt.end
        if end is None or not isinstance(end.body, RoundClosed):
            continue
        if model_digest(model, released) != end.body.model_before:
            reason = "the bundle's first model is not the one that this round was opened with"
            yield Failure("model-differs", upload_member(FIRST_MODEL), None, reason)
            return
        total = found.sums.get(attempt.transcript)
        if total is None or total.size != model.size:
            return  # the steps behind it need this one's sum
        mean = _mean(total, attempt)
        model = step(model, mean, evidence.study.training.server, state)
        if model_digest(model, released) != end.body.model_after:
            reason = "the step with this round's sum leads to another model than the logged one"
            yield Failure("step-differs", end.log, end.seq, reason)
            return
        found.rounds += 1


def _mean(total: MaskedLanes, attempt: Attempt) -> Model:
    summed = dequantise(total.view(LANE), scale=attempt.spec.scale)
    return (summed / len(attempt.spec.cohort)).astype(np.float32)


def _scale(evidence: Evidence, attempts: tuple[Attempt, ...]) -> ReleasedStatistics | None:
    """The statistics whose digest is inside the model's, where the study standardises."""
    if not standardises(evidence.study):
        return None
    for attempt in reversed(attempts):
        if attempt.end is not None and isinstance(attempt.end.body, StatisticsClosed):
            value = {"hospitals": len(attempt.spec.cohort), "sums": list(attempt.end.body.sums)}
            return ReleasedStatistics.from_json(value, statistics_layout(evidence.study))
    return None
