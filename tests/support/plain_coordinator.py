"""The coordinator of the second implementation: PROTOCOL.md section 5, plain and slow."""

from dataclasses import dataclass, field
from typing import Any

from tests.support.plain_hospital import (
    check_survivors,
    leaves,
    pair_commitment,
    proof_for,
    self_commitment,
    self_mask_key,
    survivors_message,
    transcript_of,
)
from tests.support.plain_primitives import (
    PlainFault,
    canonical,
    check_signature,
    keystream,
    sha256,
    words_bytes,
)
from tests.support.plain_sharing import join, read_share, tree_root, unpack

Json = dict[str, Any]


@dataclass
class PlainCoordinator:
    """One attempt; it keeps every upload, which a real coordinator must not."""

    spec: Json
    identities: dict[str, bytes]
    uploads: dict[str, tuple[Json, bytes, list[int], Json | None]] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    revealed: dict[str, Json] = field(default_factory=dict)
    recovered: dict[str, dict[str, bytes]] = field(default_factory=dict)

    @property
    def transcript(self) -> bytes:
        return transcript_of(self.spec)

    @property
    def survivors(self) -> list[str]:
        return sorted(self.uploads)

    @property
    def dropped(self) -> list[str]:
        return [name for name in self.spec["cohort"] if name not in self.uploads]

    @property
    def vanished(self) -> list[str]:
        return [name for name in self.survivors if name not in self.revealed]

    def take_upload(self, header: Json, signature: bytes, packed: bytes, shares: Any) -> None:
        name = header["hospital"]
        key = self.identities[name]
        check_signature(key, "masked-update", canonical(header), signature)
        root = tree_root(leaves(shares)).hex() if shares else None
        if (header["transcript"], header["update_digest"], header["pairs_root"]) != (
            self.transcript.hex(),
            sha256(packed).hex(),
            root,
        ):
            raise PlainFault("a header of something else")
        words = unpack(packed, self.spec["bits"], self.spec["lanes"])
        self.uploads[name] = header, signature, words, shares

    def survivors_for(self, recipient: str) -> Json:
        """M2 for one survivor."""
        check_survivors(self.spec, self.survivors)
        shares: Json = {}
        for sender, (_, _, _, sent) in self.uploads.items():
            if sender != recipient and sent is not None:
                shares[sender] = sent[recipient] | {"proof": proof_for(sent, recipient)}
        headers = {
            name: {"header": header, "signature": signature.hex()}
            for name, (header, signature, _, _) in self.uploads.items()
        }
        about = {"run": self.spec["run"], "session": self.spec["session"]}
        about |= {"transcript": self.transcript.hex()}
        return about | {"survivors": self.survivors, "headers": headers, "shares": shares}

    def take_signature(self, name: str, signature: bytes) -> None:
        message = survivors_message(name, self.transcript, self.survivors)
        check_signature(self.identities[name], "survivors", message, signature)
        self.signatures[name] = signature.hex()

    def reveal(self) -> Json:
        """M4: the same for everybody who signed."""
        return {
            "run": self.spec["run"],
            "session": self.spec["session"],
            "transcript": self.transcript.hex(),
            "signatures": self.signatures,
            "vanished": [name for name in self.survivors if name not in self.signatures],
        }

    def take_revealed(self, name: str, body: Json) -> None:
        header, _, _, shares = self.uploads[name]
        secret = bytes.fromhex(body["self_key"])
        if self_commitment(self.transcript, secret) != header["self_commitment"]:
            raise PlainFault(f"{name} revealed another secret than it committed to")
        if shares is None or sorted(body["pair_keys"]) != self.dropped:
            raise PlainFault(f"{name} revealed other pair keys than those of the dropped")
        for other, key in body["pair_keys"].items():
            due = shares[other]["commitment"]
            if pair_commitment(self.transcript, bytes.fromhex(key)) != due:
                raise PlainFault(f"{name} revealed another pair key than it committed to")
        self.revealed[name] = body

    def open(self) -> list[int]:
        """The sum over the survivors, lane by lane, as signed numbers."""
        bits, lanes = self.spec["bits"], self.spec["lanes"]
        total = [sum(lane) for lane in zip(*(u[2] for u in self.uploads.values()), strict=True)]
        if self.spec["profile"] == "double-mask":
            for name in self.survivors:
                for factor, key in self._masks_of(name):
                    stream = keystream(key, lanes)
                    total = [t - factor * k for t, k in zip(total, stream, strict=True)]
        elif self.dropped:
            raise PlainFault("one trip: somebody is missing")
        half = 2 ** (bits - 1)
        signed = [(word + half) % 2**bits - half for word in total]
        if max(abs(lane) for lane in signed) > len(self.spec["cohort"]) * self.spec["limit"]:
            raise PlainFault("the masks did not cancel")
        return signed

    def sum_digest(self) -> str:
        return sha256(words_bytes(self.open())).hex()

    def _masks_of(self, name: str) -> list[tuple[int, bytes]]:
        """The keys that are in a survivor's update and cancel with nobody's, each with a sign."""
        if name in self.revealed:
            body = self.revealed[name]
            secret = bytes.fromhex(body["self_key"])
            pairs = {other: bytes.fromhex(key) for other, key in body["pair_keys"].items()}
        else:
            secret, pairs = self._recovered(name)
        masks = [(1, self_mask_key(secret, self.transcript))]
        return masks + [(1 if name < other else -1, key) for other, key in pairs.items()]

    def _recovered(self, name: str) -> tuple[bytes, dict[str, bytes]]:
        """The secrets of one who vanished, from the shares of those who did not."""
        shares = {
            1 + self.spec["cohort"].index(holder): body["shares"][name]
            for holder, body in self.revealed.items()
            if name in body["shares"]
        }
        header, _, _, sent = self.uploads[name]
        found = [
            join(
                {x: read_share(bytes.fromhex(each[place])) for x, each in shares.items()},
                self.spec["threshold"],
            )
            for place in range(1 + len(self.dropped))
        ]
        if self_commitment(self.transcript, found[0]) != header["self_commitment"] or not sent:
            raise PlainFault(f"the shares of {name}'s secret join to another one")
        pairs = dict(zip(self.dropped, found[1:], strict=True))
        for other, key in pairs.items():
            if pair_commitment(self.transcript, key) != sent[other]["commitment"]:
                raise PlainFault(f"the shares of {name}'s key with {other} join to another one")
        self.recovered[name] = {"self": found[0]} | pairs
        return found[0], pairs
