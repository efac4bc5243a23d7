"""Bodies of the messages between coordinator and hospital (PROTOCOL.md, "Messages").

A body is canonical JSON; a vector, where there is one, travels beside it. Every field is checked
here, once, by whoever receives it.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from wardround.canonical import Json
from wardround.evidence.merkle import MAX_PROOF_HASHES
from wardround.evidence.note import MAX_NOTE_BYTES
from wardround.evidence.witness import MAX_UNPROVEN
from wardround.identity import LASTING_SIGNATURE_BYTES, PUBLIC_KEY_BYTES
from wardround.study.contract import Frozen
from wardround.study.manifest import HospitalName

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
RunId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Signature = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]
LastingSignature = Annotated[
    str,
    StringConstraints(
        pattern=r"^[0-9a-f]+$",
        min_length=2 * LASTING_SIGNATURE_BYTES,
        max_length=2 * LASTING_SIGNATURE_BYTES,
    ),
]
PublicKey = Annotated[
    str,
    StringConstraints(
        pattern=r"^[0-9a-f]+$", min_length=2 * PUBLIC_KEY_BYTES, max_length=2 * PUBLIC_KEY_BYTES
    ),
]
Note = Annotated[str, StringConstraints(max_length=MAX_NOTE_BYTES)]
TypeName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]


class Kind(StrEnum):
    """What a message is; it stands beside the body."""

    OPEN = "open"
    JOINED = "joined"
    REFUSED = "refused"
    WORK = "work"
    UPDATE = "update"
    CLOSE = "close"
    CLOSED = "closed"
    FAILED = "failed"


class RefusalCode(StrEnum):
    """Why a hospital says no. A code and public numbers leave it, never a text of its own."""

    NOT_APPROVED = "study-not-approved"
    BAD_STUDY = "study-not-valid"
    NOT_ON_ROSTER = "not-on-roster"
    POLICY = "policy"
    BUDGET = "budget"
    DATA = "data-not-ready"
    PAUSED = "paused"
    NO_SESSION = "no-such-session"
    SPEC = "spec-differs-from-study"
    REPLAY = "round-already-answered"
    SECOND_ATTEMPT = "second-attempt-without-noise"
    DIRECTORY = "directory-not-valid"
    HISTORY = "coordinator-history-differs"
    ENGINE = "engine-audit-failed"


class Open(Frozen):
    """Coordinator -> hospital: join this run of this study."""

    signed_study: Json
    run: RunId
    session: RunId
    identity_keys: dict[HospitalName, PublicKey]
    checkpoint: Note


class Joined(Frozen):
    """Hospital -> coordinator: my key for this session; I checked study, policy and budget.

    `witnessed` are the sizes of your log that I saw and want proofs from in your next message.
    """

    hospital: HospitalName
    run_key: Json
    epsilon_planned: Annotated[float, Field(ge=0)] | None
    witnessed: Annotated[tuple[int, ...], Field(max_length=MAX_UNPROVEN)]
    checkpoint: Note


class Refusal(Frozen):
    """Hospital -> coordinator: no, and the public reason."""

    code: RefusalCode
    epsilon_that_fits: Annotated[float, Field(ge=0)] | None = None


class Proof(Frozen):
    """Shows that the sender's log of `size` entries is the start of the one it has now.

    (RFC 6962, 2.1.2)
    """

    size: Annotated[int, Field(ge=0, le=2**53 - 1)]
    hashes: Annotated[tuple[Digest, ...], Field(max_length=MAX_PROOF_HASHES)]


class Work(Frozen):
    """Coordinator -> hospital, with the model as float32: train or evaluate under this spec.

    Or count: with purpose statistics. `statistics` are the released sums by which the study
    standardises, in every round that trains or evaluates then, and null otherwise. `consistency`
    proves the growth of the coordinator's log from each size that the hospital saw before.
    """

    spec: Json
    directory: Annotated[tuple[Json, ...], Field(max_length=1000)]
    checkpoint: Note
    consistency: Annotated[tuple[Proof, ...], Field(max_length=1000)]
    statistics: Json | None = None


class Update(Frozen):
    """Hospital -> coordinator, with the masked vector as uint32."""

    header: Json
    signature: Signature
    engine: Json
    checkpoint: Note


class Close(Frozen):
    """Coordinator -> hospital, with the final model: the run is over; this is my whole log."""

    run: RunId
    log: Annotated[str, StringConstraints(max_length=64 << 20)]
    checkpoint: Note


class Closed(Frozen):
    """Hospital -> coordinator: my whole log, and my signature under yours."""

    log: Annotated[str, StringConstraints(max_length=64 << 20)]
    checkpoint: Note
    countersignature: LastingSignature


class Failed(Frozen):
    """Hospital -> coordinator: something broke. The type's name only: a text could hold data."""

    error: TypeName


Body = Open | Joined | Refusal | Work | Update | Close | Closed | Failed

BODIES: dict[Kind, type[Body]] = {
    Kind.OPEN: Open,
    Kind.JOINED: Joined,
    Kind.REFUSED: Refusal,
    Kind.WORK: Work,
    Kind.UPDATE: Update,
    Kind.CLOSE: Close,
    Kind.CLOSED: Closed,
    Kind.FAILED: Failed,
}
