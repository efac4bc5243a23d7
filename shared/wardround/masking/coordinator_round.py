"""One attempt at the coordinator: uploads, signatures, reveals, and the sum (PROTOCOL 5 and 6).

With one trip the sum opens straight after the uploads. Hospitals are not trusted: what one of them
sends is checked against its signature and its commitments, and a wrong message is named and costs
the round that hospital, no more, as long as a threshold is left.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum

from wardround.canonical import Json
from wardround.errors import ProtocolViolation, QuorumMissed
from wardround.evidence.merkle import inclusion_proofs
from wardround.masking.accumulator import Accumulator, Blocks
from wardround.masking.commitments import pairs_root, share_leaves
from wardround.masking.quantise import Lanes
from wardround.masking.reveals import AcceptedUpload, MaskKeys, Reveals
from wardround.masking.round_spec import Profile, RoundSpec
from wardround.masking.sealing import TAG_BYTES
from wardround.masking.shamir import ELEMENTS
from wardround.masking.survivors import SurvivorSet
from wardround.masking.update import UpdateHeader, update_digest
from wardround.protocol.messages import (
    ProvenShare,
    Reveal,
    Revealed,
    SealedShare,
    SignedHeader,
    Survivors,
)


class Stage(Enum):
    """What an attempt waits for."""

    UPLOADS = "uploads"
    SIGNATURES = "signatures"
    REVEALS = "reveals"
    READY = "ready"  # everything is there that opens the sum
    OPENED = "opened"
    VOID = "void"


class KeysDisputed(ProtocolViolation):
    """An upload and others before it commit to different keys of their pairs.

    One of each two is wrong, and nobody else can tell which; `peers` are the others.
    """

    def __init__(self, message: str, *, peers: tuple[str, ...]) -> None:
        super().__init__(message)
        self.peers = peers


class CoordinatorRound:
    """One attempt, from the first upload to the opened sum.

    A `take_...` that raises has changed nothing but `faults`, where the hospital is named when it
    is to blame; the caller goes on as if it had not answered. A `QuorumMissed` ends the attempt:
    it is void, and nothing was opened.
    """

    def __init__(self, spec: RoundSpec, identity_keys: Mapping[str, bytes]) -> None:
        """`identity_keys` are those pinned for the study's hospitals."""
        self.spec = spec
        self.stage = Stage.UPLOADS
        self.faults: dict[str, str] = {}
        self._identity_keys = identity_keys
        self._transcript = spec.transcript().hex()
        self._accumulator = Accumulator(lanes=spec.lanes, bits=spec.bits)
        self._uploads: dict[str, AcceptedUpload] = {}
        self._set = SurvivorSet(self._transcript, ())
        self._signatures: dict[str, bytes] = {}
        self._reveals = Reveals(spec, {})
        self._asked: tuple[str, ...] = ()
        self._keys: MaskKeys | None = None
        self._total: Lanes | None = None

    @property
    def survivors(self) -> tuple[str, ...]:
        """Whose uploads are in the sum, sorted; final once the uploads are closed."""
        return tuple(sorted(self._uploads))

    @property
    def missing(self) -> tuple[str, ...]:
        """Who of the cohort has no accepted upload, sorted."""
        return tuple(name for name in self.spec.cohort if name not in self._uploads)

    @property
    def signatures(self) -> dict[str, str]:
        """The accepted signatures of the survivor set, in hex, by name."""
        return {name: value.hex() for name, value in sorted(self._signatures.items())}

    @property
    def vanished(self) -> tuple[str, ...]:
        """Survivors that did not sign, or whose keys are not (yet) here; sorted."""
        if self.stage is Stage.SIGNATURES:
            return tuple(name for name in self.survivors if name not in self._signatures)
        return self._asked

    def take_upload(
        self,
        hospital: str,
        header_json: object,
        signature: bytes,
        shares: Mapping[str, SealedShare] | None,
        blocks: Blocks,
        *,
        digest: str,
        size_bytes: int,
    ) -> None:
        """Add what `hospital` sent: `digest` is the SHA-256 of its packed vector as it came.

        `blocks` starts reading those same bytes, again if need be. Raises ProtocolViolation or
        BadSignature; a second upload and a late one are refused and no fault.
        """
        self._require(Stage.UPLOADS, f"update of {hospital}")
        if hospital not in self.spec.cohort:
            raise ProtocolViolation(f"update of {hospital}: it is not in the cohort")
        if hospital in self._uploads:
            raise ProtocolViolation(f"update of {hospital}: a second one for this attempt")
        with self._blaming(hospital):
            header = self._checked_header(hospital, header_json, signature)
            if header.update_digest != digest:
                raise ProtocolViolation(
                    f"update of {hospital}: its header says update_digest {header.update_digest}, "
                    f"{digest} came"
                )
            accepted = AcceptedUpload(header, signature, shares or {})
            self._check_shares(hospital, accepted, given=shares is not None)
            self._accumulator.add(blocks, size_bytes=size_bytes)
        self._uploads[hospital] = accepted

    def close_uploads(self) -> dict[str, Survivors]:
        """The deadline has come, or everybody has answered: what to send to each survivor.

        Empty with one trip. Raises QuorumMissed when fewer than the threshold have answered.
        """
        self._require(Stage.UPLOADS, "uploads")
        self._require_threshold(len(self._uploads), "uploaded", self.missing)
        if self.spec.profile is Profile.ONE_TRIP:
            self.stage = Stage.READY
            return {}
        self.stage = Stage.SIGNATURES
        self._set = SurvivorSet(self._transcript, self.survivors)
        self._reveals = Reveals(self.spec, self._uploads)
        return self._survivor_messages()

    def take_signature(self, hospital: str, signature: bytes) -> None:
        """Keep a survivor's signature of the set. Raises ProtocolViolation or BadSignature."""
        what = f"signature of {hospital}"
        self._require(Stage.SIGNATURES, what)
        if hospital not in self._uploads:
            raise ProtocolViolation(f"{what}: it is no survivor")
        with self._blaming(hospital):
            self._set.check(hospital, signature, self._identity_keys[hospital])
        self._signatures[hospital] = signature

    def close_signatures(self) -> dict[str, Reveal]:
        """What to send to each that has signed; the other survivors have vanished.

        Raises QuorumMissed when fewer than the threshold have signed.
        """
        self._require(Stage.SIGNATURES, "signatures")
        self._asked = tuple(name for name in self.survivors if name not in self._signatures)
        self._require_threshold(len(self._signatures), "signed", self._asked)
        self.stage = Stage.REVEALS
        return dict.fromkeys(sorted(self._signatures), self._reveal())

    def take_reveal(self, hospital: str, body: Revealed) -> None:
        """Keep what a survivor revealed.

        Raises ProtocolViolation when a key is not the one it committed to, or when keys or shares
        are not those asked for. A wrong share is only seen when the sum opens.
        """
        what = f"reveal of {hospital}"
        self._require(Stage.REVEALS, what)
        if hospital not in self._signatures:
            raise ProtocolViolation(f"{what}: it was not asked")
        with self._blaming(hospital):
            self._reveals.take(hospital, body, asked_for=self._asked)

    def still_needed(self) -> dict[str, Reveal]:
        """Everybody asked has answered, or will not any more: whom to ask for what now.

        Who has revealed nothing right has vanished: its keys have to be joined, and the others are
        asked for their shares. Empty: the sum can be opened. Raises QuorumMissed when it never can.
        """
        if self.stage is Stage.READY:
            return {}
        self._require(Stage.REVEALS, "reveals")
        answered, vanished = self._reveals.answered, self._reveals.vanished
        self._require_threshold(len(answered), "revealed", vanished)
        if not self._reveals.short_of_shares:
            self._asked = vanished
            self.stage = Stage.READY
            return {}
        if vanished == self._asked:
            short = ", ".join(self._reveals.short_of_shares)
            raise self._void(f"fewer than {self.spec.threshold} readable shares for {short}")
        self._asked = vanished
        return dict.fromkeys(answered, self._reveal())

    def open(self, *, threads: int = 1) -> Lanes:
        """Take every mask off: the sum of the survivors' lanes, int32, the accumulator's memory.

        Raises QuorumMissed when shares do not give a key, and ProtocolViolation when the masks did
        not cancel or it is too early; after the first two the attempt is void.
        """
        self._require(Stage.READY, "sum")
        self.stage = Stage.VOID  # unless all goes well
        keys = None
        if self.spec.profile is Profile.DOUBLE_MASK:
            keys = self._reveals.keys(self.faults)
            add, subtract = keys.keystreams()
            self._accumulator.unmask(add=add, subtract=subtract, threads=threads)
        try:
            self._total = self._accumulator.signed(self.spec.largest_sum)
        except ProtocolViolation as error:
            raise ProtocolViolation(f"{self._where}: {error}") from error
        self.stage, self._keys = Stage.OPENED, keys
        return self._total

    @property
    def sum_digest(self) -> str:
        """`update_digest` of the opened sum. Raises ProtocolViolation before it is open."""
        if self._total is None:
            raise ProtocolViolation(f"{self._where}: the sum is not open")
        return update_digest(self._total)

    def mask_keys(self) -> Json:
        """The keys that opened the sum, for whoever replays it: see `MaskKeys.to_json`.

        Raises ProtocolViolation before a sum with double masks is open.
        """
        if self._keys is None:
            raise ProtocolViolation(f"{self._where}: no keys have opened the sum")
        return self._keys.to_json()

    @property
    def _where(self) -> str:
        return self.spec.where

    def _checked_header(self, hospital: str, header_json: object, signature: bytes) -> UpdateHeader:
        header = UpdateHeader.from_json(header_json)
        if hospital not in self._identity_keys:
            raise ProtocolViolation(f"update of {hospital}: no identity key is pinned for it")
        header.check(
            signature,
            self._identity_keys[hospital],
            hospital=hospital,
            transcript=self._transcript,
            profile=self.spec.profile,
        )
        return header

    def _check_shares(self, hospital: str, upload: AcceptedUpload, *, given: bool) -> None:
        what = f"update of {hospital}"
        if self.spec.profile is Profile.ONE_TRIP:
            if given:
                raise ProtocolViolation(f"{what}: shares came, none were due with one trip")
            return
        peers = [name for name in self.spec.cohort if name != hospital]
        if sorted(upload.shares) != peers:
            raise ProtocolViolation(f"{what}: its shares are not for its peers of the cohort")
        due = 4 * ELEMENTS * len(self.spec.cohort) + TAG_BYTES
        if any(len(share.sealed) != 2 * due for share in upload.shares.values()):
            raise ProtocolViolation(f"{what}: its sealed shares are not {due} bytes each")
        if pairs_root(share_leaves(upload.shares)) != upload.header.pairs_root:
            raise ProtocolViolation(f"{what}: its shares are not those of its header's pairs_root")
        # Their masks would not cancel: one hospital less opens, both together never do.
        disputed = tuple(
            peer
            for peer, other in self._uploads.items()
            if upload.shares[peer].commitment != other.shares[hospital].commitment
        )
        if disputed:
            raise KeysDisputed(
                f"{what}: it has committed to another key of the pair than {', '.join(disputed)}",
                peers=disputed,
            )

    def _survivor_messages(self) -> dict[str, Survivors]:
        headers = {
            name: SignedHeader(header=upload.header.to_json(), signature=upload.signature.hex())
            for name, upload in sorted(self._uploads.items())
        }
        shares: dict[str, dict[str, ProvenShare]] = {name: {} for name in headers}
        for sender in headers:
            for peer, share in self._proven(sender).items():
                if peer in shares:
                    shares[peer][sender] = share
        return {
            name: Survivors(
                run=self.spec.run,
                session=self.spec.session,
                transcript=self._transcript,
                survivors=self.survivors,
                headers=headers,
                shares=shares[name],
            )
            for name in headers
        }

    def _proven(self, sender: str) -> dict[str, ProvenShare]:
        sent = sorted(self._uploads[sender].shares.items())
        proofs = inclusion_proofs(share_leaves(dict(sent)))
        return {
            peer: ProvenShare(
                commitment=share.commitment,
                sealed=share.sealed,
                proof=tuple(item.hex() for item in proof),
            )
            for (peer, share), proof in zip(sent, proofs, strict=True)
        }

    def _reveal(self) -> Reveal:
        return Reveal(
            run=self.spec.run,
            session=self.spec.session,
            transcript=self._transcript,
            signatures=self.signatures,
            vanished=self._asked,
        )

    def _require(self, stage: Stage, what: str) -> None:
        if self.stage is not stage:
            raise ProtocolViolation(
                f"{what}: {self._where} is at {self.stage.value}, not at {stage.value}"
            )

    def _require_threshold(self, came: int, done: str, without: tuple[str, ...]) -> None:
        if came < self.spec.threshold:
            raise self._void(
                f"{came} of {len(self.spec.cohort)} hospitals {done}, {self.spec.threshold} were "
                f"due; without {', '.join(without)}"
            )

    def _void(self, reason: str) -> QuorumMissed:
        self.stage = Stage.VOID
        return QuorumMissed(f"{self._where}: {reason}")

    @contextmanager
    def _blaming(self, hospital: str) -> Iterator[None]:
        try:
            yield
        except ProtocolViolation as error:
            self.faults.setdefault(hospital, str(error))
            raise
