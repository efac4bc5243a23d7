"""The aggregate, replayed: masked uploads add up to the logged sums, and these move the model.

Masks between two survivors cancel in the sum; the others go by the keys that were revealed, which
the bundle holds beside the uploads. Bundles hold uploads only where the coordinator kept them;
without them nothing is replayed, and the verifier says so. Of a GAN the discriminator is replayed:
what the coordinator made of it needs torch and comes out a little different on each machine, so its
digest, which is inside the model's, is taken from the log.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from wardround.audit.attempts import Attempt
from wardround.audit.bodies import AttemptVoid, RoundClosed, StatisticsClosed
from wardround.audit.evidence import Evidence
from wardround.audit.statistics import released_in
from wardround.audit.steps import Step, steps_of
from wardround.audit.uploads import FIRST_MODEL, KEYS_OF, UnmaskKeys, upload_member
from wardround.audit.verdicts import Failure
from wardround.errors import BadInput, ProtocolViolation
from wardround.masking.commitments import self_commitment, self_mask_key
from wardround.masking.keystream import MaskedLanes, apply_keystreams
from wardround.masking.packing import packed_size, sign_extended, unpack_add
from wardround.masking.quantise import Lanes
from wardround.masking.round_spec import Profile
from wardround.masking.update import update_digest
from wardround.optimisers import OptimiserState, step
from wardround.protocol.halves import first_half, made_digest, model_digest
from wardround.protocol.specs import standardises, statistics_layout
from wardround.protocol.weighting import head_lanes
from wardround.robust.combined import OpenedGroup, combined_round
from wardround.statistics.released import ReleasedStatistics
from wardround.study.manifest import Study

_FLOAT = np.dtype("<f4")

Model = npt.NDArray[np.float32]


@dataclass(slots=True)
class Replay:
    """What a bundle's uploads showed: failures, and how much could be computed again."""

    rounds_due: int
    sums: dict[str, Lanes] = field(default_factory=dict)
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
    found = Replay(rounds_due=len(steps_of(attempts)))
    for name, content in uploads.items():
        attempt = opened.get(name)
        if attempt is not None:
            found.failures += _added_up(found, attempt, content, uploads.get(name + KEYS_OF))
        elif name != FIRST_MODEL and not _is_key_of_a_sum(name, opened, uploads):
            reason = "no attempt whose sum was opened has this transcript"
            found.failures.append(Failure("upload-unknown", upload_member(name), None, reason))
    found.failures += _stepped(found, evidence, attempts, uploads.get(FIRST_MODEL))
    return found


def _is_key_of_a_sum(
    name: str, opened: Mapping[str, Attempt], uploads: Mapping[str, bytes]
) -> bool:
    """Whether these are the keys of vectors that are there too."""
    of = name.removesuffix(KEYS_OF)
    return of != name and of in opened and of in uploads


def _added_up(
    found: Replay, attempt: Attempt, content: bytes, keys: bytes | None
) -> Iterator[Failure]:
    end = attempt.end
    if end is None or isinstance(end.body, AttemptVoid):
        return
    try:
        total = _total_of(attempt, content)
        signed = _unmasked(attempt, total, keys)
    except _Differs as fault:
        yield fault.failure
        return
    if update_digest(signed) != end.body.sum_digest:
        reason = "the masked uploads add up to another sum than the one that was logged"
        yield Failure("sum-differs", end.log, end.seq, reason)
        return
    found.sums[attempt.transcript] = signed


def _total_of(attempt: Attempt, content: bytes) -> MaskedLanes:
    """The survivors' vectors, each the one that its hospital signed, added up under their masks."""
    spec, survivors = attempt.spec, attempt.survivors
    total = np.zeros(spec.lanes, dtype=np.uint32)
    member, size = upload_member(attempt.transcript), packed_size(spec.lanes, spec.bits)
    if len(content) != len(survivors) * size:
        due = len(survivors) * size
        reason = f"{len(content)} bytes, the vectors of {len(survivors)} hospitals are {due}"
        raise _Differs("upload-malformed", member, None, reason)
    for at, name in enumerate(survivors):
        packed = memoryview(content)[at * size : (at + 1) * size]
        record = attempt.received.get(name)
        came = sha256(packed).hexdigest()
        if record is None or record.body.header.get("update_digest") != came:
            log, seq = (record.log, record.seq) if record else (member, None)
            reason = f"the upload of {name} in the bundle is not the one that was received"
            raise _Differs("upload-differs", log, seq, reason)
        try:
            unpack_add(total, (packed,), spec.bits)
        except ProtocolViolation as error:
            raise _Differs("upload-malformed", member, None, str(error)) from error
    return total


def _unmasked(attempt: Attempt, total: MaskedLanes, content: bytes | None) -> Lanes:
    """The signed sum, once survivors' own masks and those shared with the dropped are off."""
    spec = attempt.spec
    if spec.profile is Profile.DOUBLE_MASK:
        add, subtract = _keys_of(attempt, content)
        apply_keystreams(total, add=add, subtract=subtract)
    elif content is not None:
        member = upload_member(attempt.transcript + KEYS_OF)
        raise _Differs("upload-unknown", member, None, "with one trip no key unmasks a sum")
    return sign_extended(total, spec.bits)


def _keys_of(attempt: Attempt, content: bytes | None) -> tuple[list[bytes], list[bytes]]:
    """The keystream keys to add and to subtract, of exactly the masks that are in the sum."""
    member = upload_member(attempt.transcript + KEYS_OF)
    if content is None:
        raise _Differs("upload-malformed", member, None, "the keys of this sum are not there")
    try:
        keys = UnmaskKeys.from_bytes(content)
    except BadInput as error:
        raise _Differs("upload-malformed", member, None, str(error)) from error
    inside, transcript = attempt.survivors, bytes.fromhex(attempt.transcript)
    dropped = [name for name in attempt.spec.cohort if name not in inside]
    pairs = {(u, d): "|".join(sorted((u, d))) for u in inside for d in dropped}
    if keys.self_keys.keys() != set(inside) or keys.pair_keys.keys() != set(pairs.values()):
        reason = "its keys are not those of the survivors, and of each with every dropped hospital"
        raise _Differs("upload-malformed", member, None, reason)
    subtract = []
    for name in inside:
        key, header = bytes.fromhex(keys.self_keys[name]), attempt.received[name].body.header
        if self_commitment(transcript, key) != header.get("self_commitment"):
            reason = f"the mask key of {name} is not the one that it had committed to"
            raise _Differs("mask-key-differs", member, None, reason)
        subtract.append(self_mask_key(transcript, key))
    # Of a pair the smaller name had added its mask, the greater one had subtracted it.
    add = [bytes.fromhex(keys.pair_keys[at]) for (u, d), at in pairs.items() if u > d]
    subtract += [bytes.fromhex(keys.pair_keys[at]) for (u, d), at in pairs.items() if u < d]
    return add, subtract


class _Differs(Exception):
    """Carries a finding up to where the attempt is given up."""

    def __init__(self, code: str, log: str, seq: int | None, reason: str) -> None:
        super().__init__(reason)
        self.failure = Failure(code, log, seq, reason)


def _stepped(
    found: Replay, evidence: Evidence, attempts: tuple[Attempt, ...], first: bytes | None
) -> Iterator[Failure]:
    if first is None:
        return
    if len(first) % _FLOAT.itemsize:
        reason = f"{len(first)} bytes are no vector of 32-bit numbers"
        yield Failure("upload-malformed", upload_member(FIRST_MODEL), None, reason)
        return
    study = evidence.study
    whole: Model = np.frombuffer(first, _FLOAT).astype(np.float32)
    model = _Reached(first_half(study, whole), made_digest(study, whole))
    released, state = _scale(evidence, attempts), OptimiserState()
    for moved in steps_of(attempts):
        try:
            stepped = _step(study, moved, model, found.sums, released, state)
        except _Differs as fault:
            yield fault.failure
            return
        if stepped is None:
            return  # the steps behind it need this one's sum
        model, found.rounds = stepped, found.rounds + 1


class _Reached(NamedTuple):
    """A model: what hospitals trained of it, and the digest of what was made of that."""

    trained: Model
    made: str | None

    def digest(self, released: ReleasedStatistics | None) -> str:
        """As the log has it."""
        return model_digest(self.trained, released, made=self.made)


def _step(
    study: Study,
    moved: Step,
    model: _Reached,
    sums: Mapping[str, Lanes],
    released: ReleasedStatistics | None,
    state: OptimiserState,
) -> _Reached | None:
    """The model behind this round, or None without its sums."""
    end = moved.end
    if model.digest(released) != end.body.model_before:
        reason = "the bundle's first model is not the one that this round was opened with"
        raise _Differs("model-differs", upload_member(FIRST_MODEL), None, reason)
    lanes = model.trained.size + head_lanes(study)
    if any(attempt.transcript not in sums for attempt in moved.attempts):
        return None
    if any(sums[attempt.transcript].size != lanes for attempt in moved.attempts):
        return None
    try:
        mean = _mean(study, moved, sums)
    except ProtocolViolation as error:
        raise _Differs("sum-differs", end.log, end.seq, str(error)) from error
    made = end.body.made if isinstance(end.body, RoundClosed) else None
    stepped = _Reached(step(model.trained, mean, study.training.server, state), made)
    if stepped.digest(released) != end.body.model_after:
        reason = "the step with this round's sum leads to another model than the logged one"
        raise _Differs("step-differs", end.log, end.seq, reason)
    return stepped


def _mean(study: Study, moved: Step, sums: Mapping[str, Lanes]) -> Model:
    """The update of one round, of its one sum or by the study's rule; and who stands out."""
    groups = [
        OpenedGroup.of(
            study, attempt.spec, sums[attempt.transcript], survivors=len(attempt.survivors)
        )
        for attempt in moved.attempts
    ]
    if isinstance(moved.end.body, RoundClosed) or study.robust is None:
        return groups[0].mean.values
    combined = combined_round(study, study.robust, groups)
    if combined.flagged != moved.end.body.flagged:
        reason = "other groups lie far off by their sums than those that were flagged"
        raise _Differs("flags-differ", moved.end.log, moved.end.seq, reason)
    return combined.values


def _scale(evidence: Evidence, attempts: tuple[Attempt, ...]) -> ReleasedStatistics | None:
    """The statistics whose digest is inside the model's, where the study standardises."""
    if not standardises(evidence.study):
        return None
    for attempt in reversed(attempts):
        if attempt.end is not None and isinstance(attempt.end.body, StatisticsClosed):
            return released_in(attempt, attempt.end.body, statistics_layout(evidence.study))
    return None
