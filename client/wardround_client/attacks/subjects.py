"""Whom the attacks are run on: patients of whom a fair coin each decided that they were trained on.

Who is held out is a hash of the patient's key, so a coin of its own with the study's fraction
(`wardround_client.data.split`). A random part of the larger group is taken to make it a fair one;
the rest of that group is known to the attacker.
"""

import hashlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from wardround.privacy.coins import Flags
from wardround_client.records import StudyRecords
from wardround_client.training.plan import PatientRecords

_PURPOSE = b"wardround/1 attack-test subjects\x00"
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subjects:
    """All patients of the hospital, which of them were members, and which are subjects.

    A patient who is no subject is known to be what it is.
    """

    patients: PatientRecords = field(repr=False)
    members: Flags = field(repr=False)
    subjects: Flags = field(repr=False)

    @property
    def known_members(self) -> Places:
        """Patients that every training has, also a simulated one."""
        return np.flatnonzero(self.members & ~self.subjects).astype(np.int64)

    @property
    def places(self) -> Places:
        """Where the subjects are among all patients."""
        return np.flatnonzero(self.subjects).astype(np.int64)

    @property
    def subject_members(self) -> Flags:
        """For each subject whether it was a member."""
        return self.members[self.subjects]


def choose_subjects(records: StudyRecords, *, held_out: float, seed: bytes) -> Subjects:
    """The subjects of one test. `seed` names study and model, so that nobody can choose them."""
    patients = together(records.train, records.held_out)
    members = np.arange(patients.patients) < records.train.patients
    uniform = _uniform(patients.patients, seed)
    kept = np.where(members, held_out / (1.0 - held_out), (1.0 - held_out) / held_out)
    return Subjects(patients=patients, members=members, subjects=uniform < kept)


def together(first: PatientRecords, second: PatientRecords) -> PatientRecords:
    """The patients of both, in this order."""
    return PatientRecords(
        features=torch.cat([first.features, second.features]),
        labels=torch.cat([first.labels, second.labels]),
        offsets=np.concatenate([first.offsets, first.offsets[-1] + second.offsets[1:]]),
    )


def of_patients(patients: PatientRecords, places: Places) -> PatientRecords:
    """Some of the patients, with all their records, in the order of `places`."""
    counts = np.diff(patients.offsets)[places]
    records = [np.arange(patients.offsets[place], patients.offsets[place + 1]) for place in places]
    chosen = torch.from_numpy(np.concatenate([np.zeros(0, dtype=np.int64), *records]))
    return PatientRecords(
        features=patients.features[chosen],
        labels=patients.labels[chosen],
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


def _uniform(count: int, seed: bytes) -> npt.NDArray[np.float64]:
    words = np.frombuffer(hashlib.shake_256(_PURPOSE + seed).digest(8 * count), dtype="<u8")
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
