"""Bodies of the messages between coordinator and hospital (PROTOCOL 6).

A body is canonical JSON; a vector, where there is one, travels beside it. Every field is checked
here, once, by whoever receives it.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from wardround.canonical import Json
from wardround.evidence.entry import MAX_SEQ
from wardround.evidence.merkle import MAX_PROOF_HASHES
from wardround.evidence.note import MAX_NOTE_BYTES
from wardround.evidence.witness import MAX_UNPROVEN
from wardround.identity import LASTING_SIGNATURE_BYTES, PUBLIC_KEY_BYTES
from wardround.study.contract import Frozen
from wardround.study.manifest import HospitalName

MOST_HOSPITALS = 1000
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
LogSize = Annotated[int, Field(ge=0, le=MAX_SEQ)]
Note = Annotated[str, StringConstraints(max_length=MAX_NOTE_BYTES)]
# Plaintext: 36 bytes (9 words of a share) for every hospital of a cohort; 16 bytes of tag.
Sealed = Annotated[
    str, StringConstraints(pattern=r"^([0-9a-f]{2})*$", max_length=2 * (36 * MOST_HOSPITALS + 16))
]
Secret = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ShareWords = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{72}$")]
TypeName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]


class Kind(StrEnum):
    """What a message is; it stands beside the body."""

    OPEN = "open"
    JOINED = "joined"
    AGREE = "agree"
    AGREED = "agreed"
    KEYS = "keys"
    KEYED = "keyed"
    REFUSED = "refused"
    WORK = "work"
    UPDATE = "update"
    SURVIVORS = "survivors"
    SIGNED = "signed"
    REVEAL = "reveal"
    REVEALED = "revealed"
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
    MODEL = "model-not-installed"
    PAUSED = "paused"
    NO_SESSION = "no-such-session"
    SPEC = "spec-differs-from-study"
    REPLAY = "round-already-answered"
    SECOND_ATTEMPT = "second-attempt-without-noise"
    DIRECTORY = "directory-not-valid"
    HISTORY = "coordinator-history-differs"
    SURVIVORS = "survivors-not-valid"
    SECOND_SURVIVORS = "second-survivor-set"
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
    witnessed: Annotated[tuple[LogSize, ...], Field(max_length=MAX_UNPROVEN)]
    checkpoint: Note


class Refusal(Frozen):
    """Hospital -> coordinator: no, and the public reason.

    `hospital` is whose message was wrong, where the reason is another hospital's.
    """

    code: RefusalCode
    epsilon_that_fits: Annotated[float, Field(ge=0)] | None = None
    hospital: HospitalName | None = None


class Agree(Frozen):
    """Coordinator -> hospital: the run keys of all that joined this session."""

    run: RunId
    session: RunId
    directory: Annotated[tuple[Json, ...], Field(max_length=MOST_HOSPITALS)]


class Agreed(Frozen):
    """Hospital -> coordinator: a secret for each peer with a greater name, under its key."""

    encapsulations: Annotated[tuple[Json, ...], Field(max_length=MOST_HOSPITALS)]


class Keys(Frozen):
    """Coordinator -> hospital: the secrets that its peers with smaller names have for it."""

    run: RunId
    session: RunId
    encapsulations: Annotated[tuple[Json, ...], Field(max_length=MOST_HOSPITALS)]


class Keyed(Frozen):
    """Hospital -> coordinator: I share a root with every peer of this session."""

    hospital: HospitalName


class Proof(Frozen):
    """Shows that the sender's log of `size` entries is the start of the one it has now.

    (RFC 6962, 2.1.2)
    """

    size: LogSize
    hashes: Annotated[tuple[Digest, ...], Field(max_length=MAX_PROOF_HASHES)]


class Work(Frozen):
    """Coordinator -> hospital, with the model as float32: train or evaluate under this spec.

    Or count: with purpose statistics. `statistics` are the released sums by which the study
    standardises, in every round that trains or evaluates then, and null otherwise. `consistency`
    proves the growth of the coordinator's log from each size that the hospital saw before.
    """

    spec: Json
    checkpoint: Note
    consistency: Annotated[tuple[Proof, ...], Field(max_length=1000)]
    statistics: Json | None = None


class SealedShare(Frozen):
    """One hospital's shares for one peer, under a key of the two; PROTOCOL 5."""

    commitment: Digest
    sealed: Sealed


class Update(Frozen):
    """Hospital -> coordinator, with the masked and packed vector as uint8.

    `shares` are for every peer of the cohort with double masks, null with one trip.
    """

    header: Json
    signature: Signature
    engine: Json
    checkpoint: Note
    shares: dict[HospitalName, SealedShare] | None = None


class SignedHeader(Frozen):
    """The header of an accepted update and its hospital's signature."""

    header: Json
    signature: Signature


class ProvenShare(Frozen):
    """A sealed share on its way to its peer, with the proof that its sender signed for it.

    `proof` is an inclusion proof (RFC 6962, 2.1.1) of its leaf in the sender's `pairs_root`.
    """

    commitment: Digest
    sealed: Sealed
    proof: Annotated[tuple[Digest, ...], Field(max_length=MAX_PROOF_HASHES)]


class Survivors(Frozen):
    """Coordinator -> hospital: whose updates are in the sum, and the peers' shares for you."""

    run: RunId
    session: RunId
    transcript: Digest
    survivors: Annotated[tuple[HospitalName, ...], Field(max_length=MOST_HOSPITALS)]
    headers: dict[HospitalName, SignedHeader]
    shares: dict[HospitalName, ProvenShare]


class Signed(Frozen):
    """Hospital -> coordinator: I have written these survivors down and sign no others."""

    signature: Signature
    checkpoint: Note


class Reveal(Frozen):
    """Coordinator -> hospital: enough have signed; give what opens the sum.

    `vanished` are survivors that do not answer any more.
    """

    run: RunId
    session: RunId
    transcript: Digest
    signatures: dict[HospitalName, Signature]
    vanished: Annotated[tuple[HospitalName, ...], Field(max_length=MOST_HOSPITALS)]


class Revealed(Frozen):
    """Hospital -> coordinator: its own mask key, those shared with dropped peers, and shares.

    `pair_keys` has one for each of the cohort that is no survivor. `shares` has, for each of the
    vanished, this hospital's share of its mask key, then those of its pair keys with the dropped,
    sorted by name. `unreadable` are vanished whose shares did not open.
    """

    self_key: Secret
    pair_keys: dict[HospitalName, Secret]
    shares: dict[HospitalName, Annotated[tuple[ShareWords, ...], Field(max_length=MOST_HOSPITALS)]]
    unreadable: Annotated[tuple[HospitalName, ...], Field(max_length=MOST_HOSPITALS)] = ()


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


Body = (
    Open
    | Joined
    | Agree
    | Agreed
    | Keys
    | Keyed
    | Refusal
    | Work
    | Update
    | Survivors
    | Signed
    | Reveal
    | Revealed
    | Close
    | Closed
    | Failed
)

BODIES: dict[Kind, type[Body]] = {
    Kind.OPEN: Open,
    Kind.JOINED: Joined,
    Kind.AGREE: Agree,
    Kind.AGREED: Agreed,
    Kind.KEYS: Keys,
    Kind.KEYED: Keyed,
    Kind.REFUSED: Refusal,
    Kind.WORK: Work,
    Kind.UPDATE: Update,
    Kind.SURVIVORS: Survivors,
    Kind.SIGNED: Signed,
    Kind.REVEAL: Reveal,
    Kind.REVEALED: Revealed,
    Kind.CLOSE: Close,
    Kind.CLOSED: Closed,
    Kind.FAILED: Failed,
}
