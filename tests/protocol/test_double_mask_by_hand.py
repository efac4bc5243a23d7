"""The whole protocol in one function, step by step, with the modules that users run.

Seven hospitals; one goes away before it has uploaded, one after it has signed.
"""

from hashlib import sha256

import numpy as np

from wardround.identity import Identity
from wardround.masking.agreement import Agreement
from wardround.masking.coordinator_round import CoordinatorRound
from wardround.masking.directory import Directory
from wardround.masking.hospital_round import HospitalRound
from wardround.masking.round_spec import RoundSpec
from wardround.masking.run_key import RunKey, sign_run_key
from wardround.randomness import system_randomness

NAMES = ("ash", "birch", "cedar", "elm", "fir", "hazel", "oak")
RUN, SESSION = "ab" * 16, "cd" * 16


def test_seven_hospitals_one_dropped_one_vanished_and_the_sum_of_six() -> None:
    # Enrolment, once: every hospital has an identity, and everybody pins everybody's.
    identity = {name: Identity.generate() for name in NAMES}
    pinned = {name: identity[name].public_key for name in NAMES}

    # open -> joined: a fresh run key each, signed by the identity.
    run_key = {name: RunKey.generate(system_randomness) for name in NAMES}
    signed = [
        sign_run_key(identity[name], run_key[name], run=RUN, session=SESSION, hospital=name)
        for name in NAMES
    ]

    # agree -> agreed: everybody checks the directory; of a pair the smaller name encapsulates.
    directory = Directory.checked(signed, run=RUN, session=SESSION, identity_keys=pinned)
    agreement = {name: Agreement(run_key[name], directory, name, pinned) for name in NAMES}
    relayed = [one for name in NAMES for one in agreement[name].encapsulations(identity[name])]

    # keys -> keyed: the coordinator hands each ciphertext to its recipient; now pairs share roots.
    pairs = {
        name: agreement[name].finish(one for one in relayed if one.recipient == name)
        for name in NAMES
    }

    # M0: what is to be summed. Its hash T is inside every mask.
    spec = RoundSpec.from_json(
        {
            "purpose": "train",
            "profile": "double-mask",
            "run": RUN,
            "session": SESSION,
            "study_digest": "01" * 32,
            "round": 0,
            "attempt": 1,
            "cohort": list(NAMES),
            "partition": [list(NAMES)],
            "threshold": 5,
            "directory_digest": directory.digest,
            "model_digest": "02" * 32,
            "lanes": 3,
            "bits": 20,
            "scale": 4.0,
            "limit": 1000,
            "minimum": 3,
        }
    )

    # M1, work -> update: ash never answers. The vector of each is 8 bytes of noise.
    update = {
        "birch": np.array([0.25, -1.0, 5.0], np.float32),
        "cedar": np.array([0.50, 2.00, 5.0], np.float32),
        "elm": np.array([0.75, 0.25, 5.0], np.float32),
        "fir": np.array([-3.0, 0.50, 5.0], np.float32),
        "hazel": np.array([0.0, 0.0, 5.0], np.float32),
        "oak": np.array([1.0, 1.0, 5.0], np.float32),
    }
    coordinator = CoordinatorRound(spec, pinned)
    here = {}
    for name, values in update.items():
        here[name] = HospitalRound.begin(
            spec,
            pairs[name],
            identity=identity[name],
            hospital=name,
            randomness=system_randomness,
        )
        upload = here[name].upload(values)
        packed = upload.packed.tobytes()
        coordinator.take_upload(
            name,
            upload.header.to_json(),
            upload.signature,
            upload.shares,
            lambda packed=packed: [packed],
            digest=sha256(packed).hexdigest(),
            size_bytes=len(packed),
        )

    # M2 -> M3: who uploaded survives. Each stores that set on disk, and signs no other for this T.
    for name, message in coordinator.close_uploads().items():
        survivors = here[name].check_survivors(message, pinned)
        assert survivors.survivors == ("birch", "cedar", "elm", "fir", "hazel", "oak")
        coordinator.take_signature(name, here[name].sign(survivors))

    # M4 -> M5: with five signatures at least, each reveals its own mask key and those it shares
    # with ash. elm has gone by now.
    asked = coordinator.close_signatures()
    for name in ("birch", "cedar", "fir", "hazel", "oak"):
        revealed = here[name].reveal(asked[name], pinned)
        assert sorted(revealed.pair_keys) == ["ash"]
        assert revealed.shares == {}
        coordinator.take_reveal(name, revealed)

    # So the five are asked once more, for their shares of the same keys of elm.
    asked = coordinator.still_needed()
    assert {message.vanished for message in asked.values()} == {("elm",)}
    for name, message in asked.items():
        revealed = here[name].reveal(message, pinned)
        assert [len(shares) for shares in revealed.shares.values()] == [2]
        coordinator.take_reveal(name, revealed)
    assert coordinator.still_needed() == {}

    # Every mask comes off the one vector that the coordinator has kept: scale x the sum of six.
    total = coordinator.open()
    assert (total / spec.scale).tolist() == [-0.5, 2.75, 30.0]
    assert coordinator.faults == {}

    # The attempt's secrets are forgotten; those of the session are moved on by the next round.
    for part in here.values():
        part.forget()
