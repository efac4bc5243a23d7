"""The coordinator's directory: settings, keys, hospitals, studies and runs."""

import json
import re
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from wardround.canonical import Json, canonical_bytes
from wardround.durable import write_durably
from wardround.errors import BadInput
from wardround.identity import Identity
from wardround.study.contract import Frozen
from wardround.study.files import checked, read_signed_study, read_toml
from wardround.study.manifest import Study
from wardround_server.authority import Authority
from wardround_server.enrolment import Enrolment

COMPARISON = "comparison.json"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class CoordinatorSettings(Frozen):
    """coordinator.toml: where the gateway listens, and the address that hospitals use.

    `keep_uploads_bytes` is how much of the masked updates goes into a run's bundle, so that others
    can add them up again: 0 keeps none. `join_grace_s` is how long a study whose quorum has joined
    waits for hospitals that are not connected; they can return in a later round.
    `time_stamp_authority` is the URL of who stamps the bundle of each run (RFC 3161), and
    `time_stamp_ca` a PEM file in this directory with the certificates that its stamps must have.
    """

    listen: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)]
    address: str
    keep_uploads_bytes: Annotated[int, Field(ge=0, le=128 << 20)] = 0
    join_grace_s: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    time_stamp_authority: Annotated[str, Field(max_length=2000)] | None = None
    time_stamp_ca: Annotated[str, Field(max_length=200)] | None = None


@dataclass(frozen=True, slots=True)
class CoordinatorHome:
    """Paths, and how to open what lies there."""

    directory: Path

    @classmethod
    def create(cls, directory: Path, settings: CoordinatorSettings) -> "CoordinatorHome":
        """Make a coordinator: authority, evidence key, settings. An existing one is kept."""
        was_there = directory.exists()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = directory / "coordinator.toml"
        if path.exists():
            raise BadInput(f"{directory.name}: there is a coordinator already")
        text = (
            f'listen = "{settings.listen}"\nport = {settings.port}\n'
            f'address = "{settings.address}"  # as the hospitals reach it\n'
            f"join_grace_s = {settings.join_grace_s}  # a quorum's wait for the unconnected\n"
        )
        try:
            Authority.create(directory / "authority")
            Identity.generate().save(directory / "identity.pem")
            write_durably(path, text.encode())
        except BaseException:
            if not was_there:  # half of one would stand in the way of the next
                shutil.rmtree(directory)
            raise
        return cls(directory)

    def settings(self) -> CoordinatorSettings:
        """coordinator.toml. Raises BadInput when there is no coordinator here."""
        path = self._settings_file()
        return checked(CoordinatorSettings, read_toml(path), what=path.name)

    def identity(self) -> Identity:
        """The key that signs studies, checkpoints and reports."""
        self._settings_file()
        return Identity.load(self.directory / "identity.pem")

    def enrolment(self) -> Enrolment:
        """Invitations and enrolled hospitals."""
        self._settings_file()
        return Enrolment.open(self.directory, Authority.load(self.directory / "authority"))

    def submit(self, signed: bytes, *, comparison: Json | None = None) -> Study:
        """Queue a signed study; one that failed goes on from its last checkpoint.

        `comparison` is what the coordinator of a rehearsal will state in its log.

        Raises BadInput when it is not signed by this coordinator, waits, runs or is done.
        """
        study = read_signed_study(signed, signer=self.identity().public_key)
        self.identity_keys(study)
        folder = self.run_folder(study.digest)
        if (folder / "study.json").exists():
            _take_up_again(folder, study)
            return study
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(folder / "run-id", secrets.token_hex(16).encode())
        if comparison is not None:
            write_durably(folder / COMPARISON, canonical_bytes(comparison))
        write_durably(folder / "study.json", signed)
        return study

    def identity_keys(self, study: Study) -> dict[str, bytes]:
        """The roster's public keys. Raises BadInput for a hospital that has not joined as such."""
        self.refuse_other_fingerprints(study)
        enrolment = self.enrolment()
        return {
            hospital.name: bytes.fromhex(enrolment.find(hospital.name).identity_key)
            for hospital in study.roster
        }

    def refuse_other_fingerprints(self, study: Study) -> None:
        """Raise BadInput for a hospital of the roster that enrolled with another fingerprint.

        One that has not joined yet may be signed for.
        """
        enrolled = {each.hospital: each.fingerprint for each in self.enrolment().all()}
        for hospital in study.roster:
            if enrolled.get(hospital.name, hospital.fingerprint) != hospital.fingerprint:
                raise BadInput(
                    f"study {study.name}: the roster's fingerprint of {hospital.name} is not the "
                    "one that enrolled; compare both by telephone"
                )

    def run_folder(self, study_digest: str) -> Path:
        """Everything of one study: manifest, log, checkpoint, status, report."""
        if not _DIGEST.fullmatch(study_digest):
            raise BadInput("study digest: 64 lower-case hex digits are due")
        return self.directory / "studies" / study_digest

    def _settings_file(self) -> Path:
        """coordinator.toml, which every coordinator has. Raises BadInput where none is."""
        path = self.directory / "coordinator.toml"
        if not path.is_file():
            raise BadInput(
                f"{self.directory.name}: no coordinator is here, {path.name} is missing; "
                f"`wardround coordinator init {self.directory.name} --address HOST:PORT` makes one"
            )
        return path

    def run_folders(self) -> list[Path]:
        """All submitted studies, oldest first."""
        found = (self.directory / "studies").glob("*/study.json")
        return [path.parent for path in sorted(found, key=lambda path: path.stat().st_mtime_ns)]


def _take_up_again(folder: Path, study: Study) -> None:
    """Set a failed run's result aside, so that the service runs it again; else BadInput."""
    result = folder / "result.json"
    if not result.exists() or "error" not in json.loads(result.read_text()):
        raise BadInput(f"study {study.name}: {study.digest[:16]} was submitted already")
    earlier = len(list(folder.glob("result.failed-*.json")))
    result.rename(folder / f"result.failed-{earlier + 1}.json")
