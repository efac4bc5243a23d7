"""The golden vectors of PROTOCOL.md as the second implementation gives them.

`python -m tests.support.plain_vectors` prints `tests/vectors/masking_good.json`. Everything follows
from a fixed seed and the plain parties; the tests compare each value with the written one, and the
product with the written ones.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tests.support import plain_ml_kem as kem
from tests.support.plain_coordinator import PlainCoordinator
from tests.support.plain_hospital import (
    PlainHospital,
    PlainRound,
    directory_digest,
    identity_keys,
    mask_key,
    next_root,
    pair_commitment,
    pair_root,
    self_mask_key,
    share_key,
)
from tests.support.plain_primitives import (
    keystream_bytes,
    sha256,
    x25519,
    x25519_public,
)

Json = dict[str, Any]

ABOUT = (
    "wardround/1 masking: golden vectors. The private keys are for tests only. Byte strings are "
    "hex, words little-endian. Any implementation that gives these bytes interoperates."
)
RUN, SESSION = "0123456789abcdef" * 2, "fedcba9876543210" * 2
NAMES = ["budapest", "cleveland", "hungarian", "st-mary", "switzerland", "va-long-beach", "zurich"]
FEW = NAMES[1:5]
LANES = 23
# (purpose, profile, round, attempt, cohort, bits, who never uploads, who does not sign)
ROUNDS = (
    ("statistics", "one-trip", 0, 1, NAMES, 32, None, None),
    ("train", "double-mask", 0, 1, NAMES, 20, "st-mary", "va-long-beach"),
    ("train", "double-mask", 1, 2, FEW, 24, None, None),
    ("evaluate", "double-mask", 3, 1, FEW, 32, "hungarian", None),
)


def drawn(seed: str) -> Callable[[int], bytes]:
    """A stream of bytes that depends on the seed alone, however much is drawn at a time."""
    stream, place = hashlib.shake_256(f"wardround vectors/{seed}".encode()).digest(1 << 16), 0

    def randomness(size: int) -> bytes:
        nonlocal place
        place += size
        if place > len(stream):
            raise ValueError("the stream has ended")
        return stream[place - size : place]

    return randomness


def secret_parts(names: Sequence[str] = NAMES) -> list[Json]:
    """The private keys of these hospitals."""
    found = []
    for name in names:
        draw = drawn(f"keys/{name}")
        found.append(
            {
                "name": name,
                "identity_private": draw(32).hex(),
                "run_private": draw(32).hex(),
                "kem_seed": draw(64).hex(),
            }
        )
    return found


def plain_hospitals(parts: list[Json], *, seed: str = "parties") -> dict[str, PlainHospital]:
    """Hospitals of the second implementation with these private keys."""
    identities = identity_keys(parts)
    return {
        part["name"]: PlainHospital(
            name=part["name"],
            identity_private=bytes.fromhex(part["identity_private"]),
            run_private=bytes.fromhex(part["run_private"]),
            kem_seed=bytes.fromhex(part["kem_seed"]),
            identities=identities,
            randomness=drawn(f"{seed}/{part['name']}"),
        )
        for part in parts
    }


def threshold(profile: str, hospitals: int, minimum: int) -> int:
    return hospitals if profile == "one-trip" else max(minimum, 2 * hospitals // 3 + 1)


def spec_of(digest: str, row: tuple[Any, ...]) -> Json:
    """The RoundSpec of one row of ROUNDS."""
    purpose, profile, number, attempt, cohort, bits, *_ = row
    return {
        "purpose": purpose,
        "profile": profile,
        "run": RUN,
        "session": SESSION,
        "study_digest": sha256(b"the study").hex(),
        "round": number,
        "attempt": attempt,
        "cohort": cohort,
        "partition": [cohort],
        "threshold": threshold(profile, len(cohort), 3),
        "directory_digest": digest,
        "model_digest": sha256(b"the model").hex(),
        "lanes": LANES,
        "bits": bits,
        "scale": 65536 if purpose == "train" else 1,
        "limit": (2 ** (bits - 2) - 1) // len(cohort),
        "minimum": 3,
    }


def lanes_of(spec: Json, name: str) -> list[int]:
    """Both ends of the range, zero and numbers between."""
    limit = spec["limit"]
    draw = drawn(f"lanes/{spec['bits']}/{name}")
    middle = [int.from_bytes(draw(8), "big") % (2 * limit + 1) - limit for _ in range(LANES - 3)]
    return [limit, -limit, 0, *middle]


def agreed_session(hospitals: dict[str, PlainHospital]) -> tuple[list[Json], list[Json]]:
    """Run the key agreement; (directory, encapsulations)."""
    directory = [hospitals[name].run_key(RUN, SESSION) for name in sorted(hospitals)]
    sent = [each for name in sorted(hospitals) for each in hospitals[name].agree(directory)]
    for name, hospital in hospitals.items():
        hospital.keys([each for each in sent if each["recipient"] == name])
    return directory, sent


def written_pairs(parts: list[Json], directory: list[Json], sent: list[Json]) -> list[Json]:
    """What the greater name of each pair computes, step by step."""
    public = {entry["hospital"]: bytes.fromhex(entry["public_key"]) for entry in directory}
    private = {part["name"]: part for part in parts}
    found = []
    for each in sent:
        low, high = each["sender"], each["recipient"]
        own = private[high]
        agreed = x25519(bytes.fromhex(own["run_private"]), public[low])
        ciphertext = bytes.fromhex(each["ciphertext"])
        shared = kem.decapsulate(kem.key_pair(bytes.fromhex(own["kem_seed"]))[1], ciphertext)
        roots = [pair_root(agreed + shared, directory_digest(directory), low, high, ciphertext)]
        while len(roots) <= 1 + max(row[2] for row in ROUNDS):
            roots.append(next_root(roots[-1]))
        secrets = {"x25519": agreed.hex(), "kem": shared.hex()}
        found.append(
            {"low": low, "high": high} | secrets | {"roots": [root.hex() for root in roots]}
        )
    return found


def written_round(hospitals: dict[str, PlainHospital], spec: Json, row: tuple[Any, ...]) -> Json:
    """One attempt from first to last, every message and secret of it."""
    absent, silent = row[6:]
    coordinator = PlainCoordinator(spec, next(iter(hospitals.values())).identities)
    rounds = {name: hospitals[name].begin(spec) for name in spec["cohort"]}
    updates = []
    for name, attempt in rounds.items():
        lanes = lanes_of(spec, name)
        header, signature, packed, shares = attempt.upload(lanes)
        updates.append(_written_update(attempt, lanes, signature, packed, shares))
        if name != absent:
            coordinator.take_upload(header, signature, packed, shares)
    transcript = coordinator.transcript
    found: Json = {"spec": spec, "transcript": transcript.hex()}
    found |= {"pairs": _written_masks(rounds, transcript), "updates": updates}
    if spec["profile"] == "double-mask":
        found |= _opening(coordinator, rounds, silent)
    return found | {"sum": coordinator.open(), "sum_digest": coordinator.sum_digest()}


def _opening(
    coordinator: PlainCoordinator, rounds: dict[str, PlainRound], silent: str | None
) -> Json:
    survivors = {name: coordinator.survivors_for(name) for name in coordinator.survivors}
    for name, body in survivors.items():
        signature = rounds[name].survivors(body)
        if name != silent:
            coordinator.take_signature(name, signature)
    reveal = coordinator.reveal()
    revealed = {name: rounds[name].reveal(reveal) for name in reveal["signatures"]}
    for name, body in revealed.items():
        coordinator.take_revealed(name, body)
    coordinator.open()
    last = coordinator.survivors[-1]
    return {
        "survivors": coordinator.survivors,
        "survivors_to": last,
        "survivors_message": survivors[last],
        "reveal_message": reveal,
        "revealed": revealed,
        "recovered": {
            name: {what: secret.hex() for what, secret in secrets.items()}
            for name, secrets in coordinator.recovered.items()
        },
    }


def _written_update(
    attempt: PlainRound, lanes: list[int], signature: bytes, packed: bytes, shares: Json | None
) -> Json:
    own, transcript = attempt.hospital.name, attempt.transcript
    found: Json = {"hospital": own, "lanes": lanes, "packed": packed.hex()}
    found |= {"header": attempt.header, "signature": signature.hex(), "shares": shares}
    if shares is None:
        return found
    key = self_mask_key(attempt.secret, transcript)
    found |= {"self_secret": attempt.secret.hex(), "self_key": key.hex()}
    found["self_keystream"] = keystream_bytes(key, 4 * LANES).hex()
    return found


def _written_masks(rounds: dict[str, PlainRound], transcript: bytes) -> list[Json]:
    found = []
    for low, attempt in rounds.items():
        for high in attempt.peers:
            if low < high:
                root = attempt.roots[high]
                key = mask_key(root, transcript)
                found.append(
                    {
                        "low": low,
                        "high": high,
                        "mask_key": key.hex(),
                        "keystream": keystream_bytes(key, 4 * LANES).hex(),
                        "commitment": pair_commitment(transcript, key),
                        "share_key_up": share_key(root, low, high, transcript).hex(),
                        "share_key_down": share_key(root, high, low, transcript).hex(),
                    }
                )
    return found


def good_vectors() -> Json:
    """All of `masking_good.json`."""
    parts = secret_parts()
    hospitals = plain_hospitals(parts)
    directory, sent = agreed_session(hospitals)
    digest = directory_digest(directory).hex()
    for part in parts:
        part["run_public"] = x25519_public(bytes.fromhex(part["run_private"])).hex()
        part["identity_public"] = hospitals[part["name"]].identities[part["name"]].hex()
    pairs = written_pairs(parts, directory, sent)
    rounds = [written_round(hospitals, spec_of(digest, row), row) for row in ROUNDS]
    found: Json = {"about": ABOUT, "run": RUN, "session": SESSION, "hospitals": parts}
    found |= {"directory": directory, "directory_digest": digest}
    return found | {"encapsulations": sent, "pairs": pairs, "rounds": rounds}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(good_vectors(), indent=1) + "\n")
