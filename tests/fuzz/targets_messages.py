"""Readers of messages, tickets and enrolment."""

import functools
import json
from base64 import urlsafe_b64encode
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from tests.fuzz.mutator import split_head
from tests.fuzz.target import Target
from tests.fuzz.targets_masking import GOOD, LIVE, seeds_of, update_body
from tests.support.identities import identity_of

from wardround.canonical import canonical_bytes
from wardround.errors import BadInput
from wardround.protocol.envelope import unseal
from wardround.protocol.messages import Kind
from wardround.ticket import EnrolmentAnswer, EnrolmentRequest, JoinTicket
from wardround.wire import NONCE_BYTES, PARCEL, SERIALISATION, VERSION, check_objects, unpack

LANES = 64
SPLIT = b"\xff|\xff"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
NOTE = "wardround/coordinator\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
ID = {"run": GOOD["run"], "session": GOOD["session"]}


@functools.cache
def identity() -> Any:
    return identity_of(bytes(range(32)))


def read_message(data: bytes) -> None:
    """A kind on the first line, its body behind; `work` and `update` come with a vector."""
    head, body = split_head(data)
    kind = head.decode("latin-1").rstrip("\n")
    parcel = ConfigRecord({"version": VERSION, "kind": kind, "nonce": bytes(NONCE_BYTES)})
    parcel["body"] = body
    if kind in ("work", "update"):
        parcel["dtype"] = "float32" if kind == "work" else "uint8"
        parcel["vector"] = bytes(4 * LANES)
    unseal(RecordDict({PARCEL: parcel}), lanes=LANES)


def bodies() -> dict[str, Any]:
    """One real body of each kind."""
    update = update_body("cleveland")
    names = LIVE["survivors"]
    encapsulations = GOOD["encapsulations"][:2]
    return {
        "open": ID | {"signed_study": {}, "identity_keys": {}, "checkpoint": NOTE},
        "joined": {
            "hospital": names[0],
            "run_key": GOOD["directory"][0],
            "epsilon_planned": 1.5,
            "witnessed": [3, 9],
            "checkpoint": NOTE,
        },
        "refused": {"code": "budget", "epsilon_that_fits": 0.5, "hospital": None},
        "agree": ID | {"directory": GOOD["directory"][:2]},
        "agreed": {"encapsulations": encapsulations},
        "keys": ID | {"encapsulations": encapsulations},
        "keyed": {"hospital": names[0]},
        "work": {
            "spec": LIVE["spec"],
            "checkpoint": NOTE,
            "consistency": [{"size": 3, "hashes": ["00" * 32]}],
            "statistics": None,
        },
        "update": update,
        "survivors": LIVE["survivors_message"],
        "signed": {"signature": "00" * 64, "checkpoint": NOTE},
        "reveal": LIVE["reveal_message"],
        "revealed": LIVE["revealed"]["cleveland"],
        "close": {"run": GOOD["run"], "log": "{}\n", "checkpoint": NOTE},
        "closed": {"log": "{}\n", "checkpoint": NOTE, "countersignature": "00" * (64 + 3309)},
        "failed": {"error": "BadInput"},
    }


def message_seeds() -> list[bytes]:
    return [kind.encode() + b"\n" + canonical_bytes(body) for kind, body in bodies().items()]


def read_record(data: bytes) -> None:
    """A JSON that says what lies in a RecordDict: fields of a parcel, and arrays beside it."""
    try:
        value = json.loads(data)
        content = RecordDict({PARCEL: ConfigRecord(_fields(value["parcel"]))})
        for name, array in value["arrays"].items():
            content[name] = ArrayRecord({array["key"]: _array(array)})
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise BadInput("input: Flower itself takes no such record") from error
    unpack(content)


def _fields(value: dict[str, Any]) -> dict[str, Any]:
    return {
        key: bytes.fromhex(field["hex"]) if isinstance(field, dict) else field
        for key, field in value.items()
    }


def _array(value: dict[str, Any]) -> Array:
    return Array(
        dtype=value["dtype"],
        shape=tuple(value["shape"]),
        stype=value["stype"],
        data=bytes.fromhex(value["hex"]),
    )


def record_seeds() -> list[bytes]:
    parcel = {"version": 1, "kind": "keyed", "nonce": {"hex": "00" * 16}}
    parcel["body"] = {"hex": canonical_bytes({"hospital": "cleveland"}).hex()}
    vector = {"dtype": "float32", "vector": {"hex": np.zeros(4, np.float32).tobytes().hex()}}
    return seeds_of(
        {"parcel": parcel, "arrays": {}},
        {"parcel": parcel | vector, "arrays": {}},
    )


def refused_records() -> list[bytes]:
    """A body in an array of its own, where only a larger one belongs."""
    parcel = {"version": 1, "kind": "keyed", "nonce": {"hex": "00" * 16}}
    array = {"key": "0", "dtype": "uint8", "shape": [2], "stype": SERIALISATION, "hex": "7b7d"}
    return seeds_of({"parcel": parcel, "arrays": {"body": array}})


def read_objects(data: bytes) -> None:
    """Objects of a message, one behind the other with a sign between."""
    pieces = data.split(SPLIT)
    check_objects({f"{number:064x}": piece for number, piece in enumerate(pieces)})


def object_seeds() -> list[bytes]:
    chunk = b"ArrayChunk  3\x00abc"
    array = b"Array " + b"0" * 64 + b" 90\x00" + json.dumps({"arraychunk_ids": [0, 0, 0]}).encode()
    return [chunk + SPLIT + array, array, b"Message  3\x00abc"]


def ticket_seeds() -> list[bytes]:
    ticket = JoinTicket(
        hospital="cleveland",
        address="coordinator.example:443",
        expires="2026-01-02T03:04:05Z",
        authority_certificate=CERTIFICATE,
        evidence_key=identity().public_key.hex(),
        bootstrap_certificate=CERTIFICATE,
        bootstrap_key=CERTIFICATE.replace("CERTIFICATE", "PRIVATE KEY"),
    )
    return [ticket.encode().encode()]


def read_ticket(data: bytes) -> None:
    JoinTicket.decode(data.decode("latin-1"))


def read_ticket_json(data: bytes) -> None:
    """What is inside of a ticket, written as one: the base64 is no wall to a mutator then."""
    read_ticket(b"wardround-ticket-1." + urlsafe_b64encode(data).rstrip(b"="))


def ticket_json_seeds() -> list[bytes]:
    return [canonical_bytes(JoinTicket.decode(s.decode()).model_dump()) for s in ticket_seeds()]


def request_seeds() -> list[bytes]:
    request = EnrolmentRequest.make(
        hospital="cleveland",
        signing_request=CERTIFICATE,
        authority_certificate=CERTIFICATE,
        identity=identity(),
    )
    return [request.encode()]


def read_request(data: bytes) -> None:
    EnrolmentRequest.decode(data).check_proof(authority_certificate=CERTIFICATE)


def kinds_without_a_seed() -> set[Kind]:
    """Message kinds that no seed is of."""
    return {kind for kind in Kind if kind.value not in bodies()}


TARGETS = (
    Target(name="message", read=read_message, seeds=message_seeds, most_bytes=1 << 15),
    Target(
        name="record",
        read=read_record,
        seeds=record_seeds,
        refused=refused_records,
        most_bytes=1 << 13,
    ),
    Target(name="objects", read=read_objects, seeds=object_seeds, json=False, most_bytes=1 << 13),
    Target(name="ticket", read=read_ticket, seeds=ticket_seeds, json=False, most_bytes=1 << 14),
    Target(name="ticket-json", read=read_ticket_json, seeds=ticket_json_seeds),
    Target(name="enrolment-request", read=read_request, seeds=request_seeds),
    Target(
        name="enrolment-answer",
        read=EnrolmentAnswer.decode,
        seeds=lambda: [EnrolmentAnswer(certificate=CERTIFICATE).encode()],
    ),
)
