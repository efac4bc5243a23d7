"""Readers of the masking protocol, fed with the golden vectors and with one live attempt."""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from tests.fuzz.target import Target
from tests.support import plain_vectors
from tests.support.identities import identity_of
from tests.support.mixed_parties import RealHospital, RealRound, travelled

from wardround.canonical import Json, canonical_bytes, parse_canonical
from wardround.errors import ProtocolViolation
from wardround.masking.agreement import Encapsulation
from wardround.masking.coordinator_round import CoordinatorRound
from wardround.masking.directory import Directory
from wardround.masking.packing import packed_size, unpack_add
from wardround.masking.round_spec import LANE_BITS, RoundSpec
from wardround.masking.run_key import SignedRunKey
from wardround.masking.sealing import open_sealed, seal
from wardround.masking.shamir import ELEMENTS, SECRET_BYTES, join, join_checked, split
from wardround.masking.update import UpdateHeader
from wardround.protocol.messages import Reveal, Revealed, Survivors, Update
from wardround.study.files import checked

GOOD: Json = json.loads(
    (Path(__file__).parents[1] / "vectors/masking_good.json").read_text(encoding="utf-8")
)
LIVE = GOOD["rounds"][1]
LIMIT = 1 << 20


def parsed(data: bytes) -> Json:
    return parse_canonical(data, what="input", limit_bytes=LIMIT)


def seeds_of(*values: Any) -> list[bytes]:
    return [canonical_bytes(value) for value in values]


@functools.cache
def identity_keys() -> dict[str, bytes]:
    return {
        part["name"]: identity_of(bytes.fromhex(part["identity_private"])).public_key
        for part in GOOD["hospitals"]
    }


def read_directory(data: bytes) -> None:
    """The list of a directory in an object, as it stands in the body of `agree`."""
    Directory.from_json(
        parsed(data).get("directory"),
        run=GOOD["run"],
        session=GOOD["session"],
        identity_keys=identity_keys(),
    )


def uploaded() -> RealRound:
    """A real hospital that has uploaded in the golden attempt."""
    part = next(p for p in GOOD["hospitals"] if p["name"] == "zurich")
    randomness = plain_vectors.drawn("parties/zurich")  # it draws the written bytes
    hospital = RealHospital.of(part, identity_keys(), randomness)
    hospital.agree(GOOD["directory"])
    hospital.keys([e for e in GOOD["encapsulations"] if e["recipient"] == "zurich"])
    begun = hospital.begin(LIVE["spec"])
    begun.upload(next(u["lanes"] for u in LIVE["updates"] if u["hospital"] == "zurich"))
    return begun


@functools.cache
def live_hospital() -> RealRound:
    return uploaded()


@functools.cache
def signed_hospital() -> RealRound:
    begun = uploaded()
    begun.survivors(LIVE["survivors_message"])
    return begun


def read_survivors(data: bytes) -> None:
    body = checked(Survivors, parsed(data), what="survivors")
    live_hospital().round.check_survivors(body, identity_keys())


def read_reveal(data: bytes) -> None:
    body = checked(Reveal, parsed(data), what="reveal")
    signed_hospital().round.reveal(body, identity_keys())


def read_upload(data: bytes) -> None:
    """The body of `update` as a coordinator takes it; the vector is the golden one."""
    body = checked(Update, parsed(data), what="update")
    name = "cleveland"
    packed = bytes.fromhex(update_of(name)["packed"])
    CoordinatorRound(RoundSpec.from_json(LIVE["spec"]), identity_keys()).take_upload(
        name,
        body.header,
        bytes.fromhex(body.signature),
        body.shares,
        lambda: iter([packed]),
        digest=hashlib.sha256(packed).hexdigest(),
        size_bytes=len(packed),
    )


def update_of(name: str) -> Json:
    found: Json = next(u for u in LIVE["updates"] if u["hospital"] == name)
    return found


@functools.cache
def asking_coordinator() -> CoordinatorRound:
    """The golden attempt up to its reveals."""
    coordinator = CoordinatorRound(RoundSpec.from_json(LIVE["spec"]), identity_keys())
    for name in LIVE["survivors"]:
        update = update_of(name)
        packed = bytes.fromhex(update["packed"])
        body = checked(Update, travelled(update_body(name)), what="update")
        coordinator.take_upload(
            name,
            body.header,
            bytes.fromhex(body.signature),
            body.shares,
            lambda packed=packed: iter([packed]),
            digest=hashlib.sha256(packed).hexdigest(),
            size_bytes=len(packed),
        )
    coordinator.close_uploads()
    for name, signature in LIVE["reveal_message"]["signatures"].items():
        coordinator.take_signature(name, bytes.fromhex(signature))
    coordinator.close_signatures()
    return coordinator


def read_revealed(data: bytes) -> None:
    asking_coordinator().take_reveal("cleveland", checked(Revealed, parsed(data), what="revealed"))


def update_body(name: str) -> Json:
    update = update_of(name)
    parts = {field: update[field] for field in ("header", "signature", "shares")}
    return parts | {"engine": {}, "checkpoint": ""}


def read_packed(data: bytes) -> None:
    """First byte: the width; then two of lanes, one of the block size, and the packed vector."""
    if len(data) < 4:
        raise ProtocolViolation("input: too short")
    bits = LANE_BITS[data[0] % 3]
    lanes, block = int.from_bytes(data[1:3], "little") + 1, data[3] + 1
    packed = data[4:]
    blocks = [packed[start : start + block] for start in range(0, len(packed), block)]
    total = np.zeros(lanes, np.uint32)
    unpack_add(total, blocks, bits)
    if len(packed) != packed_size(lanes, bits):
        raise AssertionError("a packed vector of another length was added")


def packed_seeds() -> list[bytes]:
    sizes = [(kind, lanes) for kind in range(3) for lanes in (1, 2, 3, 23, 500)]
    return [
        bytes([kind])
        + (lanes - 1).to_bytes(2, "little")
        + b"\x06"
        + bytes(packed_size(lanes, LANE_BITS[kind]))
        for kind, lanes in sizes
    ]


def read_shares(data: bytes) -> None:
    """One byte of threshold, one of holders, a point each; then their shares of one secret."""
    if len(data) < 2 or len(data) < 2 + data[1] % 8:
        raise ProtocolViolation("input: too short")
    threshold, holders = data[0] % 10, data[1] % 8
    points, words = list(data[2 : 2 + holders]), data[2 + holders :]
    words = words[: len(words) - len(words) % (4 * ELEMENTS)]
    shares = np.frombuffer(words, "<u4").astype(np.uint32).reshape(-1, 1, ELEMENTS)
    secrets = join(points, shares, threshold=threshold)
    again, wrong = join_checked(points, shares, threshold=threshold, accept=lambda *_: True)
    if wrong == [] and again.tobytes() != secrets.tobytes():
        raise AssertionError("two secrets out of the same shares")


def share_seeds() -> list[bytes]:
    secret = np.frombuffer(bytes(range(SECRET_BYTES)), np.uint8).reshape(1, -1)
    dealt = split(secret, threshold=3, holders=5, randomness=plain_vectors.drawn("fuzz"))
    whole = b"".join(share.astype("<u4").tobytes() for share in dealt)
    return [bytes([3, 5, 1, 2, 3, 4, 5]) + whole]


def read_sealed(data: bytes) -> None:
    open_sealed(data, key=bytes(32), transcript=bytes(32))


TARGETS = (
    Target(
        name="round-spec",
        read=lambda data: RoundSpec.from_json(parsed(data)),
        seeds=lambda: seeds_of(*(written["spec"] for written in GOOD["rounds"])),
    ),
    Target(
        name="run-key",
        read=lambda data: SignedRunKey.from_json(parsed(data)),
        seeds=lambda: seeds_of(*GOOD["directory"]),
    ),
    Target(
        name="encapsulation",
        read=lambda data: Encapsulation.from_json(parsed(data)),
        seeds=lambda: seeds_of(*GOOD["encapsulations"][:3]),
    ),
    Target(
        name="directory",
        read=read_directory,
        seeds=lambda: seeds_of({"directory": GOOD["directory"]}),
    ),
    Target(
        name="header",
        read=lambda data: UpdateHeader.from_json(parsed(data)),
        seeds=lambda: seeds_of(*(u["header"] for w in GOOD["rounds"] for u in w["updates"][:2])),
    ),
    Target(
        name="survivors", read=read_survivors, seeds=lambda: seeds_of(LIVE["survivors_message"])
    ),
    Target(name="reveal", read=read_reveal, seeds=lambda: seeds_of(LIVE["reveal_message"])),
    Target(name="upload", read=read_upload, seeds=lambda: seeds_of(update_body("cleveland"))),
    Target(
        name="revealed",
        read=read_revealed,
        seeds=lambda: seeds_of(LIVE["revealed"]["cleveland"]),
    ),
    Target(name="packed-vector", read=read_packed, seeds=packed_seeds, json=False),
    Target(name="shares", read=read_shares, seeds=share_seeds, json=False),
    Target(
        name="sealed",
        read=read_sealed,
        seeds=lambda: [seal(b"bundle", key=bytes(32), transcript=bytes(32))],
        json=False,
    ),
)
