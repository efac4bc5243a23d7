"""The product's hospital and coordinator with the manners of the plain ones: JSON in, JSON out.

So parties of both implementations can sit in one session, and neither knows what the other is.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tests.support.identities import identity_of
from tests.support.plain_hospital import Randomness

from wardround.canonical import canonical_bytes, parse_canonical
from wardround.identity import Identity
from wardround.masking.agreement import Agreement, Encapsulate, Encapsulation, encapsulate_768
from wardround.masking.coordinator_round import CoordinatorRound
from wardround.masking.directory import Directory
from wardround.masking.hospital_round import HospitalRound
from wardround.masking.pairs import PairSecrets
from wardround.masking.round_spec import RoundSpec
from wardround.masking.run_key import RunKey, sign_run_key
from wardround.protocol.messages import Reveal, Revealed, SealedShare, Survivors

Json = dict[str, Any]


def travelled(value: Any) -> Any:
    """What the other side reads: through canonical bytes."""
    text = canonical_bytes({"value": value})
    return parse_canonical(text, what="message", limit_bytes=1 << 24)["value"]


@dataclass
class RealHospital:
    """The product's hospital with the given private keys."""

    name: str
    identity: Identity
    run_keys: RunKey
    identity_keys: dict[str, bytes]
    randomness: Randomness
    agreement: Agreement | None = None
    pairs: PairSecrets | None = None
    encapsulate: Encapsulate = encapsulate_768

    @classmethod
    def of(
        cls, part: Json, identity_keys: dict[str, bytes], randomness: Randomness
    ) -> "RealHospital":
        secrets = iter([bytes.fromhex(part["run_private"]), bytes.fromhex(part["kem_seed"])])
        run_keys = RunKey.generate(lambda size: next(secrets)[:size])
        identity = identity_of(bytes.fromhex(part["identity_private"]))
        return cls(part["name"], identity, run_keys, identity_keys, randomness)

    def run_key(self, run: str, session: str) -> Json:
        entry = sign_run_key(
            self.identity, self.run_keys, run=run, session=session, hospital=self.name
        )
        return travelled(entry.to_json())

    def agree(self, directory: list[Json]) -> list[Json]:
        run, session = directory[0]["run"], directory[0]["session"]
        read = Directory.from_json(
            travelled(directory), run=run, session=session, identity_keys=self.identity_keys
        )
        self.agreement = Agreement(self.run_keys, read, self.name, self.identity_keys)
        sent = self.agreement.encapsulations(self.identity, self.encapsulate)
        return [travelled(each.to_json()) for each in sent]

    def keys(self, encapsulations: list[Json]) -> None:
        assert self.agreement is not None
        read = [Encapsulation.from_json(travelled(each)) for each in encapsulations]
        self.pairs = self.agreement.finish(read)

    def begin(self, spec: Json) -> "RealRound":
        assert self.pairs is not None
        begun = HospitalRound.begin(
            RoundSpec.from_json(travelled(spec)),
            self.pairs,
            identity=self.identity,
            hospital=self.name,
            randomness=self.randomness,
        )
        return RealRound(begun, self.identity_keys)


@dataclass
class RealRound:
    """The product's hospital in one attempt."""

    round: HospitalRound
    identity_keys: dict[str, bytes]

    def upload(self, lanes: list[int]) -> tuple[Json, bytes, bytes, Json | None]:
        sent = self.round.upload(np.array(lanes, np.int32))
        shares = None
        if sent.shares is not None:
            shares = {name: share.model_dump(mode="json") for name, share in sent.shares.items()}
        header = travelled(sent.header.to_json())
        return header, sent.signature, sent.packed.tobytes(), travelled(shares)

    def survivors(self, body: Json) -> bytes:
        read = Survivors.model_validate(travelled(body))
        return self.round.sign(self.round.check_survivors(read, self.identity_keys))

    def reveal(self, body: Json) -> Json:
        read = Reveal.model_validate(travelled(body))
        return travelled(self.round.reveal(read, self.identity_keys).model_dump(mode="json"))


@dataclass
class RealCoordinator:
    """The product's coordinator in one attempt."""

    spec: Json
    identity_keys: dict[str, bytes]
    sent: dict[str, Survivors] = field(default_factory=dict)
    asked: dict[str, Reveal] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.round = CoordinatorRound(RoundSpec.from_json(self.spec), self.identity_keys)

    def take_upload(self, header: Json, signature: bytes, packed: bytes, shares: Any) -> None:
        read = None
        if shares is not None:
            read = {name: SealedShare.model_validate(share) for name, share in shares.items()}
        self.round.take_upload(
            header["hospital"],
            header,
            signature,
            read,
            lambda: iter([packed[:7], packed[7:]]),
            digest=hashlib.sha256(packed).hexdigest(),
            size_bytes=len(packed),
        )

    @property
    def survivors(self) -> list[str]:
        return list(self.round.survivors)

    def survivors_for(self, recipient: str) -> Json:
        self.sent = self.sent or self.round.close_uploads()
        return travelled(self.sent[recipient].model_dump(mode="json"))

    def take_signature(self, name: str, signature: bytes) -> None:
        self.round.take_signature(name, signature)

    def reveal(self) -> Json:
        self.asked = self.round.close_signatures()
        return travelled(next(iter(self.asked.values())).model_dump(mode="json"))

    def take_revealed(self, name: str, body: Json) -> None:
        self.round.take_reveal(name, Revealed.model_validate(body))

    def open(self) -> list[int]:
        if self.spec["profile"] == "one-trip":
            self.round.close_uploads()
        assert self.round.still_needed() == {}
        return [int(lane) for lane in self.round.open()]

    def sum_digest(self) -> str:
        return self.round.sum_digest
