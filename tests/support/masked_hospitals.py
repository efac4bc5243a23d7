"""Hospitals in memory that make real run keys, masks and signatures from seeded randomness."""

import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tests.support.identities import identity_of

from wardround.identity import Identity
from wardround.masking.agreement import Agreement
from wardround.masking.directory import Directory
from wardround.masking.hospital_round import HospitalRound, Upload
from wardround.masking.pairs import PairSecrets
from wardround.masking.quantise import Lanes, largest_limit
from wardround.masking.round_spec import Profile, Purpose, RoundSpec, threshold_of
from wardround.masking.run_key import RunKey, SignedRunKey, sign_run_key
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
    """One hospital that has joined a run and shares a root with every peer."""

    name: str
    identity: Identity
    run_key: RunKey
    entry: SignedRunKey
    secrets: PairSecrets
    first_secrets: PairSecrets
    randomness: Randomness

    def begin(self, spec: RoundSpec) -> HospitalRound:
        """Its part in one attempt."""
        return HospitalRound.begin(
            spec,
            self.secrets,
            identity=self.identity,
            hospital=self.name,
            randomness=self.randomness,
        )

    def answer(self, lanes: Lanes, spec: RoundSpec) -> Upload:
        """Only its upload, for who needs no more of the attempt."""
        return self.begin(spec).upload(lanes)


@dataclass(frozen=True, kw_only=True)
class MaskedFleet:
    """Hospitals that joined one run, and the directory they agree on."""

    hospitals: tuple[MaskedHospital, ...]
    directory: Directory

    @functools.cached_property
    def identity_keys(self) -> dict[str, bytes]:
        return {each.name: each.identity.public_key for each in self.hospitals}

    @property
    def names(self) -> tuple[str, ...]:
        return self.directory.names

    def __getitem__(self, name: str) -> MaskedHospital:
        return next(each for each in self.hospitals if each.name == name)

    def renewed(self) -> "MaskedFleet":
        """The same roots at place 0, as if nothing had been given out."""
        return replace(self, hospitals=tuple(_renewed(each) for each in self.hospitals))

    def spec(self, lanes: int, /, **changes: object) -> RoundSpec:
        """A spec for all, double masks; the threshold and limit fit the cohort and bits given."""
        cohort = changes.get("cohort", list(self.names))
        many = len(cohort) if isinstance(cohort, list) else 0
        # What is no profile, bits or minimum at all is for the spec to refuse, not for us.
        profile = Profile(_one_of(changes, "profile", ["double-mask", "one-trip"]))
        bits = _one_of(changes, "bits", [32, 20, 24])
        minimum = changes.get("minimum", 2)
        fields: dict[str, object] = {
            "purpose": Purpose.TRAIN.value,
            "profile": profile.value,
            "run": self.directory.run,
            "session": self.directory.session,
            "study_digest": "33" * 32,
            "round": 1,
            "attempt": 1,
            "cohort": cohort,
            "partition": [cohort],
            "threshold": threshold_of(profile, many, minimum),
            "directory_digest": self.directory.digest,
            "model_digest": "44" * 32,
            "lanes": lanes,
            "bits": bits,
            "scale": 1024.0,
            "limit": largest_limit(max(many, 1), bits),
            "minimum": minimum,
        }
        return RoundSpec.from_json(fields | changes)


def fleet(
    count: int, *, run: str = RUN, session: str = SESSION, seed: str = "fleet"
) -> MaskedFleet:
    """Enrol `count` hospitals named h000, h001, ..., and let every pair agree."""
    names = [f"h{number:03d}" for number in range(count)]
    identities = {name: _identity(f"{seed}/identity/{name}") for name in names}
    run_keys = {name: _run_key(f"{seed}/{run}/{session}/{name}") for name in names}
    entries = {
        name: sign_run_key(
            identities[name], run_keys[name], run=run, session=session, hospital=name
        )
        for name in names
    }
    identity_keys = {name: identity.public_key for name, identity in identities.items()}
    directory = Directory.checked(
        entries.values(), run=run, session=session, identity_keys=identity_keys
    )
    agreements = {name: Agreement(run_keys[name], directory, name, identity_keys) for name in names}
    secrets = agree(agreements, identities)
    return MaskedFleet(
        directory=directory,
        hospitals=tuple(
            MaskedHospital(
                name=name,
                identity=identities[name],
                run_key=run_keys[name],
                entry=entries[name],
                secrets=secrets[name],
                first_secrets=copied(secrets[name]),
                randomness=seeded(f"{seed}/{run}/{session}/{name}/rounds"),
            )
            for name in names
        ),
    )


def agree(
    agreements: dict[str, Agreement], identities: dict[str, Identity]
) -> dict[str, PairSecrets]:
    """Carry every encapsulation to its recipient."""
    sent = [
        one
        for name, agreement in agreements.items()
        for one in agreement.encapsulations(identities[name])
    ]
    return {
        name: agreement.finish([one for one in sent if one.recipient == name])
        for name, agreement in agreements.items()
    }


def constant_lanes(lanes: int, value: int = 7) -> Lanes:
    """The least random update there is."""
    return np.full(lanes, value, dtype=np.int32)


def plain_sum(vectors: Iterable[Lanes]) -> list[int]:
    """The sum in Python's whole numbers."""
    return [sum(lane) for lane in zip(*(vector.tolist() for vector in vectors), strict=True)]


def _one_of(changes: dict[str, object], name: str, allowed: list[Any]) -> Any:
    value = changes.get(name)
    return value if type(value) is type(allowed[0]) and value in allowed else allowed[0]


def copied(secrets: PairSecrets) -> PairSecrets:
    """Another holder of the same roots: what a process that was copied with its memory has."""
    return replace(secrets, _roots=dict(secrets._roots), _later=dict(secrets._later))


def _renewed(hospital: MaskedHospital) -> MaskedHospital:
    return replace(hospital, secrets=copied(hospital.first_secrets))


# Keys from a seed are the same each time, so they are made once.
@functools.cache
def _identity(seed: str) -> Identity:
    return identity_of(seeded(seed)(32))


@functools.cache
def _run_key(seed: str) -> RunKey:
    return RunKey.generate(seeded(seed))
