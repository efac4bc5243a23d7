"""One attempt over real hospitals, message by message, as far as a test lets it go."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from tests.support.hospitals import Talk

from wardround.evidence.merkle import inclusion_proof
from wardround.masking.commitments import pairs_root, share_leaves
from wardround.masking.coordinator_round import CoordinatorRound
from wardround.masking.update import UPDATE_PURPOSE, UpdateHeader
from wardround.protocol.envelope import Vector
from wardround.protocol.messages import (
    Body,
    ProvenShare,
    Reveal,
    Revealed,
    Signed,
    SignedHeader,
    Survivors,
    Update,
)

FOUR = ("harbour", "lakeside", "northside", "southside")


@dataclass
class Attempt:
    """What the hospitals of one spec uploaded. Several coordinators' rounds can be made of it."""

    talk: Talk
    changes: dict[str, Any] = field(default_factory=dict)
    updates: dict[str, tuple[Update, Vector]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.spec = self.talk.spec(**self.changes)
        self.transcript = self.spec.transcript().hex()

    def upload(self, *names: str) -> "Attempt":
        """Those named, or the whole cohort, answer the work."""
        for name in names or self.spec.cohort:
            answer, packed = self.ask(name, self.talk.work(self.spec), self.talk.model)
            assert isinstance(answer, Update), answer
            assert packed is not None
            self.updates[name] = answer, packed
        return self

    def ask(self, name: str, body: Body, vector: Vector | None = None) -> tuple[Body, Any]:
        return self.talk.ward[name].ask(body, vector)

    def coordinator(self, names: Iterable[str] | None = None) -> CoordinatorRound:
        """A coordinator's round that has taken the uploads of those named, or all."""
        made = CoordinatorRound(self.spec, self.talk.ward.identity_keys)
        for name in names or self.updates:
            update, packed = self.updates[name]
            made.take_upload(
                name,
                update.header,
                bytes.fromhex(update.signature),
                update.shares,
                lambda packed=packed: (packed.data,),
                digest=sha256(packed.data).hexdigest(),
                size_bytes=packed.nbytes,
            )
        return made

    def survivors(self, name: str, among: Iterable[str] | None = None) -> Survivors:
        """What `name` is asked to sign when the survivors are those named, or all who uploaded."""
        return self.coordinator(among).close_uploads()[name]

    def signed(
        self, among: Iterable[str] | None = None, signers: Iterable[str] | None = None
    ) -> tuple[CoordinatorRound, Mapping[str, Reveal]]:
        """Those who sign have signed; what each of them is asked to reveal."""
        coordinator = self.coordinator(among)
        messages = coordinator.close_uploads()
        for name in signers or messages:
            answer, _ = self.ask(name, messages[name])
            assert isinstance(answer, Signed), answer
            coordinator.take_signature(name, bytes.fromhex(answer.signature))
        return coordinator, coordinator.close_signatures()

    def opened(self, coordinator: CoordinatorRound, asks: Mapping[str, Reveal]) -> list[int]:
        """Everybody who is asked reveals; the sum."""
        while asks:
            for name, message in asks.items():
                answer, _ = self.ask(name, message)
                assert isinstance(answer, Revealed), answer
                coordinator.take_reveal(name, answer)
            asks = coordinator.still_needed()
        total: list[int] = coordinator.open().tolist()
        return total

    def forged(self, sender: str, peer: str, **changes: str) -> tuple[SignedHeader, ProvenShare]:
        """A header of `sender`, signed by it, over shares of which that for `peer` is another."""
        update, _ = self.updates[sender]
        shares = dict(update.shares or {})
        shares[peer] = shares[peer].model_copy(update=changes)
        leaves = share_leaves(shares)
        header = UpdateHeader.from_json(update.header | {"pairs_root": pairs_root(leaves)})
        identity = self.talk.ward[sender].home.identity()
        signature = identity.sign(UPDATE_PURPOSE, header.signed_bytes())
        proof = inclusion_proof(leaves, sorted(shares).index(peer))
        return (
            SignedHeader(header=header.to_json(), signature=signature.hex()),
            ProvenShare(**shares[peer].model_dump(), proof=tuple(each.hex() for each in proof)),
        )
