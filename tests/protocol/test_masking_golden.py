"""The written bytes, good and tampered, against the product's code.

`tests/vectors/masking_good.json` and `masking_tampered.json` are for any implementation; no
generator belongs to them: `test_masking_plain.py` derives the good ones a second time.
"""

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from tests.support.identities import identity_of

from wardround import errors
from wardround.masking.accumulator import Accumulator
from wardround.masking.directory import Directory
from wardround.masking.keystream import CHUNK_WORDS, add_keystream
from wardround.masking.pairs import PairSecrets
from wardround.masking.round_spec import RoundSpec
from wardround.masking.run_key import RunKey, sign_run_key
from wardround.masking.update import check_update, mask

VECTORS = Path(__file__).parents[1] / "vectors"
GOOD: dict[str, Any] = json.loads((VECTORS / "masking_good.json").read_text())
TAMPERED: list[dict[str, Any]] = json.loads((VECTORS / "masking_tampered.json").read_text())[
    "cases"
]

IDENTITIES = {
    each["name"]: identity_of(bytes.fromhex(each["identity_private"])) for each in GOOD["hospitals"]
}
RUN_KEYS = {
    each["name"]: RunKey.generate(lambda _, key=each["run_private"]: bytes.fromhex(key))
    for each in GOOD["hospitals"]
}


def words(text: str) -> np.ndarray[Any, np.dtype[np.uint32]]:
    return np.frombuffer(bytes.fromhex(text), dtype="<u4")


def read(vectors: dict[str, Any]) -> Accumulator:
    """Do with these vectors what hospital and coordinator do, in their order."""
    spec = RoundSpec.from_json(vectors["spec"])
    directory = Directory.from_json(
        vectors["directory"],
        run=GOOD["spec"]["run"],
        session=GOOD["spec"]["session"],
        identity_keys={name: identity.public_key for name, identity in IDENTITIES.items()},
    )
    hospital = "cleveland"
    masks = PairSecrets.agree(RUN_KEYS[hospital], directory, hospital).round_masks(spec)
    lanes = np.array(vectors["updates"][0]["lanes"], np.int32)
    mask(lanes, spec, masks, identity=IDENTITIES[hospital], hospital=hospital)
    accumulator = Accumulator(spec)
    for sent in vectors["updates"]:
        name = sent["hospital"]
        update = check_update(
            words(sent["masked"]),
            sent["header"],
            bytes.fromhex(sent["signature"]),
            spec=spec,
            identity_key=IDENTITIES[name].public_key,
            hospital=name,
        )
        accumulator.add(name, update)
    accumulator.sum()
    return accumulator


def test_the_good_vectors_are_accepted_and_give_the_written_sum() -> None:
    accumulator = read(GOOD)
    assert accumulator.sum().tolist() == GOOD["sum"]
    assert accumulator.sum_digest == GOOD["sum_digest"]


def test_every_derived_value_is_as_written() -> None:
    spec = RoundSpec.from_json(GOOD["spec"])
    assert spec.transcript().hex() == GOOD["transcript"]
    entries = [
        sign_run_key(IDENTITIES[name], run_key, run=spec.run, session=spec.session, hospital=name)
        for name, run_key in RUN_KEYS.items()
    ]
    assert [entry.to_json() for entry in entries] == GOOD["directory"]
    directory = Directory.checked(
        entries,
        run=spec.run,
        session=spec.session,
        identity_keys={name: identity.public_key for name, identity in IDENTITIES.items()},
    )
    assert directory.digest == GOOD["directory_digest"]
    for pair in GOOD["pairs"]:
        stream = np.zeros(spec.lanes, np.uint32)
        add_keystream(stream, bytes.fromhex(pair["mask_key"]))
        assert stream.tolist() == words(pair["keystream"]).tolist()


@pytest.mark.parametrize("sent", GOOD["updates"], ids=lambda sent: sent["hospital"])
def test_each_hospital_sends_the_written_bytes(sent: dict[str, Any]) -> None:
    name, spec = sent["hospital"], RoundSpec.from_json(GOOD["spec"])
    directory = Directory.from_json(
        GOOD["directory"],
        run=spec.run,
        session=spec.session,
        identity_keys={name: identity.public_key for name, identity in IDENTITIES.items()},
    )
    masks = PairSecrets.agree(RUN_KEYS[name], directory, name).round_masks(spec)
    keys = {pair["mask_key"] for pair in GOOD["pairs"] if name in (pair["low"], pair["high"])}
    assert {key.hex() for key in (*masks.add, *masks.subtract)} == keys
    lanes = np.array(sent["lanes"], np.int32)
    update, signature = mask(lanes, spec, masks, identity=IDENTITIES[name], hospital=name)
    assert update.values.tobytes().hex() == sent["masked"]
    assert update.header.to_json() == sent["header"]
    assert signature.hex() == sent["signature"]


@pytest.mark.parametrize("case", TAMPERED, ids=lambda case: case["claim"])
def test_a_tampered_vector_is_refused_with_its_reason(case: dict[str, Any]) -> None:
    tampered = copy.deepcopy(GOOD)
    *parents, last = case["at"]
    place = tampered
    for step in parents:
        place = place[step]
    if case["to"] == "remove":
        del place[last]
    else:
        place[last] = case["to"]
    with pytest.raises(getattr(errors, case["error"]), match=re.escape(case["says"])) as raised:
        read(tampered)
    assert type(raised.value).__name__ == case["error"]


def test_aes_256_gcm_with_a_zero_iv_gives_the_same_keystream() -> None:
    # What PROTOCOL.md allows another implementation to use, over a whole chunk and more.
    for key in (bytes(32), bytes(range(32))):
        vector = np.zeros(CHUNK_WORDS + 5, np.uint32)
        add_keystream(vector, key)
        gcm = Cipher(algorithms.AES256(key), modes.GCM(bytes(12))).encryptor()
        assert vector.tobytes() == gcm.update(bytes(4 * vector.size))
