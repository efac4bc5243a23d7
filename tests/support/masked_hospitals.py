"""Hospitals in memory that make real run keys, masks and signatures from seeded randomness."""

import hashlib
from dataclasses import dataclass

import numpy as np
from tests.support.identities import identity_of

from wardround.identity import Identity
from wardround.masking.directory import Directory
from wardround.masking.pairs import PairSecrets
from wardround.masking.quantise import Lanes
from wardround.masking.round_spec import Purpose, RoundSpec
from wardround.masking.run_key import RunKey, SignedRunKey, sign_run_key
from wardround.masking.update import MaskedUpdate, mask
from wardround.randomness import Randomness

RUN = "11" * 16
SESSION = "22" * 16


def seeded(seed: str) -> Randomness:
    """A stream of bytes that depends on `seed` alone: for tests, never for a key in use."""
    drawn = 0

    def randomness(count: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return hashlib.shake_256(f"{seed}/{drawn}".encode()).digest(count)

    return randomness


@dataclass(frozen=True, kw_only=True)
class MaskedHospital:
    """One hospital that has joined a run."""

    name: str
    identity: Identity
    run_key: RunKey
    entry: SignedRunKey
    secrets: PairSecrets

    def answer(self, lanes: Lanes, spec: RoundSpec) -> tuple[MaskedUpdate, bytes]:
        return mask(
            lanes,
            spec,
            self.secrets.round_masks(spec),
            identity=self.identity,
            hospital=self.name,
        )


@dataclass(frozen=True, kw_only=True)
class MaskedFleet:
    """Hospitals that joined one run, and the directory they agree on."""

    hospitals: tuple[MaskedHospital, ...]
    directory: Directory

    @property
    def identity_keys(self) -> dict[str, bytes]:
        return {each.name: each.identity.public_key for each in self.hospitals}

    def spec(self, lanes: int, /, **changes: object) -> RoundSpec:
        names = list(self.directory.names)
        fields: dict[str, object] = {
            "purpose": Purpose.TRAIN.value,
            "run": self.directory.run,
            "session": self.directory.session,
            "study_digest": "33" * 32,
            "round": 1,
            "attempt": 1,
            "cohort": names,
            "directory_digest": self.directory.digest,
            "model_digest": "44" * 32,
            "lanes": lanes,
            "scale": 1024.0,
            "limit": (2**30 - 1) // len(names),
            "minimum": 2,
        }
        return RoundSpec.from_json(fields | changes)


def fleet(
    count: int, *, run: str = RUN, session: str = SESSION, seed: str = "fleet"
) -> MaskedFleet:
    """Enrol `count` hospitals named h000, h001, ..."""
    names = [f"h{number:03d}" for number in range(count)]
    identities = {name: identity_of(seeded(f"{seed}/identity/{name}")(32)) for name in names}
    run_keys = {name: RunKey.generate(seeded(f"{seed}/{run}/{session}/{name}")) for name in names}
    entries = {
        name: sign_run_key(
            identities[name], run_keys[name], run=run, session=session, hospital=name
        )
        for name in names
    }
    directory = Directory.checked(
        entries.values(),
        run=run,
        session=session,
        identity_keys={name: identity.public_key for name, identity in identities.items()},
    )
    return MaskedFleet(
        directory=directory,
        hospitals=tuple(
            MaskedHospital(
                name=name,
                identity=identities[name],
                run_key=run_keys[name],
                entry=entries[name],
                secrets=PairSecrets.agree(run_keys[name], directory, name),
            )
            for name in names
        ),
    )


def constant_lanes(lanes: int, value: int = 7) -> Lanes:
    """The least random update there is."""
    return np.full(lanes, value, dtype=np.int32)
