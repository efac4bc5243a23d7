"""Hospitals in memory that speak the real bytes: real directories, keys and logs, no network.

Enrolment is the real one in process: invitation, request with proof, certificate. Messages are real
Flower messages whose content is sealed and unsealed on both sides.
"""

import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from flwr.app import RecordDict
from tests.support.ward_files import DATASET_TOML, POLICY_TOML, write_patients

from wardround.canonical import Json, canonical_bytes, parse_canonical
from wardround.evidence.log import EvidenceLog
from wardround.identity import write_secret
from wardround.masking.directory import Directory
from wardround.masking.round_spec import RoundSpec
from wardround.masking.run_key import SignedRunKey
from wardround.models.networks import build, parameters_of
from wardround.protocol.envelope import Vector, seal, unseal
from wardround.protocol.messages import (
    Agree,
    Agreed,
    Body,
    Close,
    Joined,
    Keyed,
    Keys,
    Open,
    Proof,
    Work,
)
from wardround.protocol.specs import attempt_spec
from wardround.renewal import CERTIFICATE_FILE
from wardround.study.files import checked, sign_study
from wardround.study.manifest import Study
from wardround.ticket import EnrolmentRequest, JoinTicket
from wardround_client import joining
from wardround_client.approval import approve, keep_study
from wardround_client.home import HospitalHome
from wardround_client.hospital import Hospital
from wardround_server.authority import peer_of_pem
from wardround_server.home import CoordinatorHome, CoordinatorSettings
from wardround_server.rounds.record import RunRecord

NAMES = ("harbour", "lakeside", "northside")
RUN = "ab" * 16
LANES = 4096

STUDY_TOML = """
schema = "wardround.study/1"
name = "fever"
title = "Fever"
purpose = "Predict who will have a fever."
contact = "research@example.org"
[task]
family = "risk"
model = "logistic-regression"
[contract]
patient_key = "patient"
[contract.label]
name = "fever"
description = "Fever within two days"
positive = "over 38 degrees"
[[contract.columns]]
name = "age"
kind = "continuous"
description = "Age"
unit = "a"
range = [0, 100]
[[contract.columns]]
name = "male"
kind = "binary"
description = "Sex: 1 male, 0 female"
[privacy]
mechanism = "local"
epsilon = 3.0
delta = 1e-4
clip_norm_l2 = 1.0
sampling_rate = 0.5
[training]
local_steps = 1
learning_rate = 1.0
expected_batch = 15.0
update_bound = 64.0
[rounds]
count = 2
spare_attempts = 1
quorum = 2
deadline_s = 5.0
[masking]
minimum_hospitals = 2
[evaluation]
registered = 2026-01-01
bins = 10
"""


def study_json(**changes: Any) -> Json:
    """The manifest without its roster; `privacy__epsilon=1` changes one entry, None removes it."""
    value = tomllib.loads(STUDY_TOML)
    for dotted, new in changes.items():
        *tables, last = dotted.split("__")
        place = value
        for table in tables:
            place = place.setdefault(table, {})
        if new is None:
            place.pop(last, None)
        else:
            place[last] = new
    return value


@dataclass
class MemoryHospital:
    """One real hospital: its directory, its data, and the process that answers."""

    name: str
    home: HospitalHome
    description: Path
    data: Path
    _hospital: Hospital | None = None

    @property
    def hospital(self) -> Hospital:
        if self._hospital is None:
            self._hospital = Hospital.at(self.home)
        return self._hospital

    def restart(self) -> None:
        """The process ends and another begins: what was in memory is gone."""
        self.stop()

    def stop(self) -> None:
        if self._hospital is not None:
            self._hospital.close()
        self._hospital = None

    def set_policy(self, **changes: str) -> None:
        """Replace lines of policy.toml."""
        lines = POLICY_TOML.format(budget=changes.pop("epsilon_budget", "10.0")).splitlines()
        kept = [line for line in lines if line.partition(" =")[0] not in changes]
        new = [f"{key} = {value}" for key, value in changes.items()]
        (self.home.directory / "policy.toml").write_text("\n".join([*kept, *new]))

    def approve(self, signed: bytes) -> None:
        study = keep_study(self.home, signed)
        approve(
            self.home, study, officer="Dr Ada", description=self.description, data_folder=self.data
        )

    def answer(self, content: RecordDict) -> RecordDict:
        """Bytes in, bytes out."""
        body, vector = unseal(content, lanes=LANES)
        return seal(*self.hospital.answer(body, vector))

    def ask(self, body: Body, vector: Vector | None = None) -> tuple[Body, Vector | None]:
        return unseal(self.answer(seal(body, vector)), lanes=LANES)

    def log_entries(self, study: Study) -> list[tuple[str, Json]]:
        with self.home.log(study.digest) as log:
            return [(entry.type, entry.body) for entry in log.entries()]


def enrol(home: CoordinatorHome, name: str, directory: Path) -> HospitalHome:
    """What `joining.join` does, with the coordinator's `admit` called in this process."""
    ticket = home.enrolment().invite(
        name, address=home.settings().address, evidence_key=home.identity().public_key
    )
    ticket = JoinTicket.decode(ticket.encode())
    directory.mkdir(mode=0o700)
    identity = joining._own_identity(directory)
    key = joining.ec.generate_private_key(joining.ec.SECP256R1())
    write_secret(directory / joining.KEY_FILE, joining.key_pem(key))
    request = EnrolmentRequest.make(
        hospital=name,
        signing_request=joining.signing_request(name, key),
        authority_certificate=ticket.authority_certificate,
        identity=identity,
    )
    peer = peer_of_pem(ticket.bootstrap_certificate.encode("ascii"))
    certificate = home.enrolment().admit(peer, EnrolmentRequest.decode(request.encode()))
    joining.check_certificate(certificate, key, ticket.authority_certificate)
    joining._write(directory / CERTIFICATE_FILE, certificate.encode("ascii"))
    joining._write(directory / joining.AUTHORITY_FILE, ticket.authority_certificate.encode("ascii"))
    coordinator = joining.Coordinator(
        hospital=name, address=ticket.address, evidence_key=ticket.evidence_key
    )
    joining._write(directory / joining.COORDINATOR_FILE, canonical_bytes(coordinator.model_dump()))
    return HospitalHome(directory)


@lru_cache
def _enrolled(names: tuple[str, ...]) -> tempfile.TemporaryDirectory[str]:
    kept = tempfile.TemporaryDirectory(prefix="wardround-ward-")
    folder = Path(kept.name)
    settings = CoordinatorSettings(port=8443, address="coordinator.example:8443")
    coordinator = CoordinatorHome.create(folder / "coordinator", settings)
    for seed, name in enumerate(names):
        enrol(coordinator, name, folder / name)
        data = folder / f"{name}-data"
        data.mkdir()
        write_patients(data / "patients.csv", seed)
        (folder / f"{name}.toml").write_text(DATASET_TOML.format(name=name))
        (folder / name / "policy.toml").write_text(POLICY_TOML.format(budget="10.0"))
    return kept


@dataclass
class Ward:
    """A coordinator's directory and hospitals that have joined it, in one folder."""

    folder: Path
    coordinator: CoordinatorHome
    hospitals: dict[str, MemoryHospital]
    logs: list[EvidenceLog] = field(default_factory=list)

    @classmethod
    def make(cls, folder: Path, names: Sequence[str] = NAMES) -> "Ward":
        """Copied from one that has enrolled before: keys are made once for each set of names."""
        shutil.copytree(_enrolled(tuple(names)).name, folder, dirs_exist_ok=True)
        return cls.of(folder, names)

    @classmethod
    @contextmanager
    def holding(cls, folder: Path, write: Callable[[Path, int], None]) -> Iterator["Ward"]:
        """One whose hospitals have the tables that `write` makes of a path and a seed."""
        ward = cls.make(folder)
        for seed, name in enumerate(NAMES):
            write(ward[name].data / "patients.csv", seed)
        try:
            yield ward
        finally:
            ward.close()

    @classmethod
    def of(cls, folder: Path, names: Sequence[str] = NAMES) -> "Ward":
        """The one that lies in this folder, as other processes left it."""
        hospitals = {
            name: MemoryHospital(
                name, HospitalHome(folder / name), folder / f"{name}.toml", folder / f"{name}-data"
            )
            for name in names
        }
        return cls(folder, CoordinatorHome(folder / "coordinator"), hospitals)

    def __getitem__(self, name: str) -> MemoryHospital:
        return self.hospitals[name]

    def close(self) -> None:
        for hospital in self.hospitals.values():
            hospital.stop()
        for log in self.logs:
            log.close()

    @property
    def identity_keys(self) -> dict[str, bytes]:
        return {n: h.home.identity().public_key for n, h in self.hospitals.items()}

    def study(self, **changes: Any) -> Study:
        roster = [
            {"name": name, "fingerprint": hospital.home.identity().fingerprint}
            for name, hospital in self.hospitals.items()
        ]
        return checked(Study, study_json(roster=roster, **changes), what="study")

    def signed(self, study: Study) -> bytes:
        return sign_study(study, self.coordinator.identity())

    def approve_everywhere(self, study: Study) -> None:
        for hospital in self.hospitals.values():
            hospital.approve(self.signed(study))

    def talk(self, **changes: Any) -> "Talk":
        """A study that everybody has approved, and a coordinator's side that follows no rule."""
        study = self.study(**changes)
        self.approve_everywhere(study)
        return Talk(self, study, self.new_log())

    def new_log(self) -> EvidenceLog:
        path = self.folder / f"coordinator-{len(self.logs)}.sqlite"
        log = EvidenceLog.open(path, "coordinator", self.coordinator.identity())
        self.logs.append(log)
        return log


def proofs_of(log: EvidenceLog) -> tuple[Proof, ...]:
    """From every size that a hospital may have seen."""
    found = [(size, log.consistency_proof(size)) for size in range(log.size + 1)]
    return tuple(Proof(size=size, hashes=tuple(h.hex() for h in each)) for size, each in found)


@dataclass
class Talk:
    """What a coordinator says to its hospitals, message by message, true or not."""

    ward: Ward
    study: Study
    log: EvidenceLog
    session: str = "cd" * 16
    directory: Directory | None = None
    encapsulations: dict[str, tuple[Json, ...]] = field(default_factory=dict)

    @property
    def record(self) -> RunRecord:
        return RunRecord(self.study, RUN, self.log, self.ward.folder / "status.json")

    @property
    def model(self) -> Vector:
        return parameters_of(build(self.study)).numpy()

    def open_message(self, **changes: Any) -> Open:
        content = self.ward.signed(self.study)
        fields = {
            "signed_study": parse_canonical(content, what="study", limit_bytes=1 << 20),
            "run": RUN,
            "session": self.session,
            "identity_keys": {n: k.hex() for n, k in self.ward.identity_keys.items()},
            "checkpoint": self.log.checkpoint(),
        }
        return Open(**fields | changes)

    def open(self, session: str | None = None) -> "Talk":
        """Everybody joins and agrees on keys: rounds can begin."""
        return self.join(session).agree()

    def join(self, session: str | None = None) -> "Talk":
        """Everybody joins; the directory is what they sent."""
        self.session = session or self.session
        if not self.log.size:
            self.record.opened()
        entries = []
        for hospital in self.ward.hospitals.values():
            joined, _ = hospital.ask(self.open_message())
            assert isinstance(joined, Joined), joined
            entries.append(SignedRunKey.from_json(joined.run_key))
        self.directory = Directory.checked(
            entries, run=RUN, session=self.session, identity_keys=self.ward.identity_keys
        )
        return self

    def agree(self) -> "Talk":
        """Everybody checks the directory, and gets the secrets of the others."""
        for name, hospital in self.ward.hospitals.items():
            agreed, _ = hospital.ask(self.agree_message())
            assert isinstance(agreed, Agreed), agreed
            self.encapsulations[name] = agreed.encapsulations
        for name, hospital in self.ward.hospitals.items():
            keyed, _ = hospital.ask(self.keys_message(name))
            assert keyed == Keyed(hospital=name), keyed
        return self

    def agree_message(self, **changes: Any) -> Agree:
        assert self.directory is not None
        fields = {"run": RUN, "session": self.session, "directory": self.directory.to_json()}
        return Agree(**fields | changes)

    def keys_message(self, name: str, **changes: Any) -> Keys:
        """The secrets that the others have for `name`."""
        due = [one for sent in self.encapsulations.values() for one in sent]
        fields = {
            "run": RUN,
            "session": self.session,
            "encapsulations": [one for one in due if one["recipient"] == name],
        }
        return Keys(**fields | changes)

    def spec(self, number: int = 0, attempt: int = 1, **changes: Any) -> RoundSpec:
        assert self.directory is not None
        common: dict[str, Any] = {
            "run": RUN,
            "session": self.session,
            "attempt": attempt,
            "cohort": tuple(sorted(self.ward.hospitals)),
            "directory_digest": self.directory.digest,
            "model": self.model,
        }
        common |= changes
        return attempt_spec(self.study, round_number=number, **common)

    def work(self, spec: RoundSpec | Json, **changes: Any) -> Work:
        fields = {
            "spec": spec if isinstance(spec, dict) else spec.to_json(),
            "checkpoint": self.log.checkpoint(),
            "consistency": proofs_of(self.log),
        }
        return Work(**fields | changes)

    def close_message(self, log: EvidenceLog | None = None) -> Close:
        log = log or self.log
        note = log.checkpoint(lasting=True)
        return Close(run=RUN, log=log.export().decode(), checkpoint=note)
