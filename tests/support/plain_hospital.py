"""A hospital of the second implementation: PROTOCOL.md sections 3 and 5, plain and slow."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.support import plain_ml_kem as kem
from tests.support.plain_primitives import (
    PlainFault,
    canonical,
    check_signature,
    ed25519_public,
    framed,
    from_words,
    gcm_open,
    gcm_seal,
    hkdf,
    hkdf_expand,
    keystream,
    sha256,
    sign,
    words_bytes,
    x25519,
    x25519_public,
)
from tests.support.plain_sharing import (
    SHARE_BYTES,
    check_inclusion,
    inclusion_path,
    pack,
    shares_in,
    split,
    tree_root,
)

Json = dict[str, Any]
Randomness = Callable[[int], bytes]


def without_signature(signed: Json) -> bytes:
    return canonical({name: value for name, value in signed.items() if name != "signature"})


def transcript_of(spec: Json) -> bytes:
    return sha256(framed("round-spec", canonical(spec)))


def place_of(spec: Json) -> int:
    return 0 if spec["purpose"] == "statistics" else 1 + int(spec["round"])


def directory_digest(directory: list[Json]) -> bytes:
    return sha256(framed("directory", canonical(directory)))


def pair_root(shared: bytes, digest: bytes, low: str, high: str, ciphertext: bytes) -> bytes:
    context = low.encode() + b"\0" + high.encode() + b"\0" + sha256(ciphertext)
    return hkdf(shared, digest, framed("pair", context))


def next_root(root: bytes) -> bytes:
    return hkdf_expand(root, framed("ratchet", b""))


def next_attempt(root: bytes) -> bytes:
    return hkdf_expand(root, framed("attempt", b""))


def attempt_root(root: bytes, attempt: int) -> bytes:
    """Of a place's root: what the keys of its `attempt`, counted from 1, come from."""
    for _ in range(1, attempt):
        root = next_attempt(root)
    return root


def mask_key(root: bytes, transcript: bytes) -> bytes:
    return hkdf_expand(root, framed("mask", transcript))


def share_key(root: bytes, sender: str, recipient: str, transcript: bytes) -> bytes:
    context = sender.encode() + b"\0" + recipient.encode() + b"\0" + transcript
    return hkdf_expand(root, framed("share", context))


def self_mask_key(secret: bytes, transcript: bytes) -> bytes:
    return hkdf_expand(secret, framed("self-mask", transcript))


def self_commitment(transcript: bytes, secret: bytes) -> str:
    return sha256(framed("commit-self", transcript + secret)).hex()


def pair_commitment(transcript: bytes, key: bytes) -> str:
    return sha256(framed("commit-pair", transcript + key)).hex()


def leaf(peer: str, commitment: str, sealed: bytes) -> bytes:
    return canonical({"peer": peer, "commitment": commitment, "share": sha256(sealed).hex()})


def leaves(shares: Json) -> list[bytes]:
    """The leaves of an upload's shares {peer: {commitment, sealed}}, sorted by peer."""
    return [
        leaf(peer, shares[peer]["commitment"], bytes.fromhex(shares[peer]["sealed"]))
        for peer in sorted(shares)
    ]


def check_survivors(spec: Json, survivors: list[str]) -> None:
    if survivors != sorted(set(survivors)) or not set(survivors) <= set(spec["cohort"]):
        raise PlainFault("survivors that are not sorted, or not of the cohort")
    if len(survivors) < spec["threshold"]:
        raise PlainFault("fewer survivors than the threshold")


def survivors_message(hospital: str, transcript: bytes, survivors: list[str]) -> bytes:
    signed = {"hospital": hospital, "transcript": transcript.hex(), "survivors": survivors}
    return canonical(signed)


@dataclass
class PlainHospital:
    """One hospital in one session; `identities` are the Ed25519 keys that its roster pins."""

    name: str
    identity_private: bytes
    run_private: bytes
    kem_seed: bytes
    identities: dict[str, bytes]
    randomness: Randomness
    directory: list[Json] = field(default_factory=list)
    sent: list[Json] = field(default_factory=list)
    roots: dict[str, bytes] = field(default_factory=dict)
    kem_secrets: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    place: int = 0
    attempt: int = 0

    def run_key(self, run: str, session: str) -> Json:
        entry: Json = {
            "hospital": self.name,
            "run": run,
            "session": session,
            "public_key": x25519_public(self.run_private).hex(),
            "kem_key": kem.key_pair(self.kem_seed)[0].hex(),
        }
        signature = sign(self.identity_private, "run-key", canonical(entry))
        return entry | {"signature": signature.hex()}

    def agree(self, directory: list[Json]) -> list[Json]:
        """M `agree` -> `agreed`: an encapsulation for each peer with a greater name, once."""
        if self.directory:
            if directory != self.directory:
                raise PlainFault("a second directory")
            return self.sent
        for entry in directory:
            key = self.identities[entry["hospital"]]
            signature = bytes.fromhex(entry["signature"])
            check_signature(key, "run-key", without_signature(entry), signature)
            if not kem.check_key(bytes.fromhex(entry["kem_key"])):
                raise PlainFault("a malformed ML-KEM key")
            if not any(x25519(bytes(32), bytes.fromhex(entry["public_key"]))):
                raise PlainFault("an X25519 key of low order")
        if self.entry_of(self.name, directory)["public_key"] != self._public():
            raise PlainFault("our own run key is not the one we made")
        self.directory = directory
        self.sent = [
            self._encapsulation(entry) for entry in directory if entry["hospital"] > self.name
        ]
        return self.sent

    def keys(self, encapsulations: list[Json]) -> None:
        """M `keys` -> `keyed`: the secrets of the peers with smaller names, and all roots."""
        due = [e["hospital"] for e in self.directory if e["hospital"] < self.name]
        if sorted(e["sender"] for e in encapsulations) != due:
            raise PlainFault("other encapsulations than those of all smaller names")
        digest = directory_digest(self.directory)
        for each in encapsulations:
            if each["recipient"] != self.name or each["directory_digest"] != digest.hex():
                raise PlainFault("an encapsulation for somebody else or another directory")
            key, signature = self.identities[each["sender"]], bytes.fromhex(each["signature"])
            check_signature(key, "encapsulation", without_signature(each), signature)
            ciphertext = bytes.fromhex(each["ciphertext"])
            private = kem.key_pair(self.kem_seed)[1]
            self.kem_secrets[each["sender"]] = kem.decapsulate(private, ciphertext), ciphertext
        for peer, (shared, ciphertext) in self.kem_secrets.items():
            public = bytes.fromhex(self.entry_of(peer, self.directory)["public_key"])
            both = x25519(self.run_private, public) + shared
            low, high = sorted((self.name, peer))
            self.roots[peer] = pair_root(both, digest, low, high, ciphertext)

    def begin(self, spec: Json) -> "PlainRound":
        """Advance the ratchet to the round's place and derive the secrets of this attempt."""
        place, attempt = place_of(spec), int(spec["attempt"])
        if (place, attempt) <= (self.place, self.attempt):
            raise PlainFault("a place or an attempt that the ratchet has left")
        while self.place < place:
            self.roots = {peer: next_root(root) for peer, root in self.roots.items()}
            self.place += 1
        self.attempt = attempt
        roots = {peer: attempt_root(root, attempt) for peer, root in self.roots.items()}
        return PlainRound(self, spec, transcript_of(spec), roots)

    def entry_of(self, hospital: str, directory: list[Json]) -> Json:
        (found,) = [entry for entry in directory if entry["hospital"] == hospital]
        return found

    def _public(self) -> str:
        return x25519_public(self.run_private).hex()

    def _encapsulation(self, entry: Json) -> Json:
        kem_key = bytes.fromhex(entry["kem_key"])
        shared, ciphertext = kem.encapsulate(kem_key, self.randomness(32))
        self.kem_secrets[entry["hospital"]] = shared, ciphertext
        encapsulation: Json = {
            "sender": self.name,
            "recipient": entry["hospital"],
            "run": entry["run"],
            "session": entry["session"],
            "directory_digest": directory_digest(self.directory).hex(),
            "ciphertext": ciphertext.hex(),
        }
        signature = sign(self.identity_private, "encapsulation", canonical(encapsulation))
        return encapsulation | {"signature": signature.hex()}


@dataclass
class PlainRound:
    """One attempt at one hospital."""

    hospital: PlainHospital
    spec: Json
    transcript: bytes
    roots: dict[str, bytes]
    header: Json = field(default_factory=dict)
    secret: bytes = b""
    signed_for: list[str] = field(default_factory=list)
    opened: dict[str, list[int]] = field(default_factory=dict)

    @property
    def peers(self) -> list[str]:
        return [name for name in self.spec["cohort"] if name != self.hospital.name]

    @property
    def double(self) -> bool:
        return bool(self.spec["profile"] == "double-mask")

    def pair_key(self, peer: str) -> bytes:
        return mask_key(self.roots[peer], self.transcript)

    def upload(self, lanes: list[int]) -> tuple[Json, bytes, bytes, Json | None]:
        """M1: (header, signature, packed vector, shares)."""
        words = [int(lane) for lane in lanes]
        for peer in self.peers:
            stream = keystream(self.pair_key(peer), len(words))
            sign_of = 1 if self.hospital.name < peer else -1
            words = [word + sign_of * key for word, key in zip(words, stream, strict=True)]
        shares: Json | None = None
        if self.double:
            self.secret = self.hospital.randomness(32)
            stream = keystream(self_mask_key(self.secret, self.transcript), len(words))
            words = [word + key for word, key in zip(words, stream, strict=True)]
            shares = self._shares()
        packed = pack(words, self.spec["bits"])
        self.header = {
            "hospital": self.hospital.name,
            "transcript": self.transcript.hex(),
            "update_digest": sha256(packed).hex(),
            "self_commitment": self_commitment(self.transcript, self.secret) if shares else None,
            "pairs_root": tree_root(leaves(shares)).hex() if shares else None,
        }
        signature = sign(self.hospital.identity_private, "masked-update", canonical(self.header))
        return self.header, signature, packed, shares

    def survivors(self, body: Json) -> bytes:
        """M2 -> M3: check everything, then sign these survivors and no others."""
        survivors = body["survivors"]
        if body["transcript"] != self.transcript.hex():
            raise PlainFault("survivors of another attempt")
        if self.signed_for and survivors != self.signed_for:
            raise PlainFault("a second survivor set")
        check_survivors(self.spec, survivors)
        if self.hospital.name not in survivors or sorted(body["headers"]) != survivors:
            raise PlainFault("survivors without us, or other headers than theirs")
        for name in survivors:
            self._check_header(name, body["headers"][name])
        if sorted(body["shares"]) != [name for name in survivors if name != self.hospital.name]:
            raise PlainFault("shares of others than the other survivors")
        for sender, share in body["shares"].items():
            self._check_share(sender, share, body["headers"][sender]["header"]["pairs_root"])
        self.signed_for = survivors
        message = survivors_message(self.hospital.name, self.transcript, survivors)
        return sign(self.hospital.identity_private, "survivors", message)

    def reveal(self, body: Json) -> Json:
        """M4 -> M5: our own secret, pair keys with the dropped, shares of the vanished."""
        survivors, vanished = self.signed_for, body["vanished"]
        if body["transcript"] != self.transcript.hex() or not survivors:
            raise PlainFault("a reveal before we signed, or of another attempt")
        for name, signature in body["signatures"].items():
            if name not in survivors:
                raise PlainFault("a signature of somebody who is no survivor")
            message = survivors_message(name, self.transcript, survivors)
            key = self.hospital.identities[name]
            check_signature(key, "survivors", message, bytes.fromhex(signature))
        if len(body["signatures"]) < self.spec["threshold"]:
            raise PlainFault("fewer signatures than the threshold")
        if self.hospital.name in vanished or not set(vanished) <= set(survivors):
            raise PlainFault("vanished who are no survivors, or we ourselves")
        if len(survivors) - len(vanished) < self.spec["threshold"]:
            raise PlainFault("more have vanished than the threshold leaves")
        dropped = [name for name in self.spec["cohort"] if name not in survivors]
        return {
            "self_key": self.secret.hex(),
            "pair_keys": {name: self.pair_key(name).hex() for name in dropped},
            "shares": {v: self._shares_of(v, dropped) for v in vanished if v in self.opened},
            "unreadable": [v for v in vanished if v not in self.opened],
        }

    def _shares(self) -> Json:
        """A bundle for each peer: the share of our own secret, then of our key with each peer."""
        secrets = [self.secret, *(self.pair_key(peer) for peer in self.peers)]
        dealt = split(
            secrets,
            threshold=self.spec["threshold"],
            holders=len(self.spec["cohort"]),
            randomness=self.hospital.randomness,
        )
        shares: Json = {}
        for peer in self.peers:
            holder = self.spec["cohort"].index(peer)
            bundle = b"".join(words_bytes(share) for share in dealt[holder])
            key = share_key(self.roots[peer], self.hospital.name, peer, self.transcript)
            shares[peer] = {
                "commitment": pair_commitment(self.transcript, self.pair_key(peer)),
                "sealed": gcm_seal(key, bundle, self.transcript).hex(),
            }
        return shares

    def _check_header(self, name: str, came: Json) -> None:
        header = came["header"]
        if header["hospital"] != name or header["transcript"] != self.transcript.hex():
            raise PlainFault("a header of another hospital or attempt")
        if name == self.hospital.name and header != self.header:
            raise PlainFault("our own header is not the one we sent")
        key = self.hospital.identities[name]
        check_signature(key, "masked-update", canonical(header), bytes.fromhex(came["signature"]))

    def _check_share(self, sender: str, share: Json, pairs_root: str) -> None:
        sealed, own = bytes.fromhex(share["sealed"]), self.hospital.name
        signed = leaf(own, share["commitment"], sealed)
        holders = [name for name in self.spec["cohort"] if name != sender]
        path = [bytes.fromhex(each) for each in share["proof"]]
        place = holders.index(own)
        check_inclusion(signed, place, len(holders), path, bytes.fromhex(pairs_root))
        if share["commitment"] != pair_commitment(self.transcript, self.pair_key(sender)):
            raise PlainFault(f"{sender} committed to another key than ours")
        key = share_key(self.roots[sender], sender, own, self.transcript)
        self.opened.pop(sender, None)  # unreadable until it is read: noted when it is asked for
        with contextlib.suppress(PlainFault):
            bundle = gcm_open(key, sealed, self.transcript)
            if len(bundle) == SHARE_BYTES * len(self.spec["cohort"]):
                shares_in(bundle)
                self.opened[sender] = from_words(bundle)

    def _shares_of(self, vanished: str, dropped: list[str]) -> list[str]:
        others = [name for name in self.spec["cohort"] if name != vanished]
        bundle = self.opened[vanished]
        places = [0, *(1 + others.index(name) for name in dropped)]
        return [words_bytes(bundle[9 * place : 9 * place + 9]).hex() for place in places]


def proof_for(shares: Json, recipient: str) -> list[str]:
    """The inclusion path of one recipient's leaf among an upload's shares."""
    path = inclusion_path(leaves(shares), sorted(shares).index(recipient))
    return [hashed.hex() for hashed in path]


def identity_keys(hospitals: list[Json]) -> dict[str, bytes]:
    return {h["name"]: ed25519_public(bytes.fromhex(h["identity_private"])) for h in hospitals}
