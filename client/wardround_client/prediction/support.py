"""A hospital's own patients behind its predictions: they calibrate, and say who is unlike them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from wardround.models.family import readings
from wardround.study.contract import LabelKind
from wardround_client.approval import ApprovedStudy
from wardround_client.data.encoding import EncodedRecords, encode
from wardround_client.data.reading import read_records
from wardround_client.data.split import learned_from, split
from wardround_client.held_out import held_out_outcomes
from wardround_client.prediction.answers import OperatingPoint
from wardround_client.prediction.calibration import Calibration, Scores
from wardround_client.prediction.conformal import p_value
from wardround_client.prediction.novelty import NEAREST, Features, Neighbourhood, features_of
from wardround_client.prediction.standing import Standing
from wardround_client.records import StudyRecords, standardised, tensors_of
from wardround_client.training.plan import PatientRecords

LEAST_HELD_OUT = 100  # fewer cannot give a p-value below that


@dataclass(frozen=True, eq=False)
class Support:
    """One hospital's decision support: its standing, and its own patients of both parts."""

    standing: Standing
    approved: ApprovedStudy
    train: PatientRecords = field(repr=False)
    held_out: PatientRecords = field(repr=False)
    trained_keys: frozenset[str] = field(repr=False)
    held_out_keys: tuple[str, ...] = field(repr=False)

    @classmethod
    def of(cls, standing: Standing, approved: ApprovedStudy) -> "Support":
        """Read the hospital's own patients of the study. Raises BadInput as a round would."""
        study, description = approved.study, approved.description
        records = read_records(description, study.contract, approved.folder)
        encoded = encode(records, study.contract)
        train, held_out = split(
            encoded, dataset=description.dataset, fraction=study.evaluation.held_out
        )
        train = learned_from(train, study.contract.label)
        own = StudyRecords(
            train=tensors_of(train, by_record=False),
            held_out=tensors_of(held_out, by_record=False),
        )
        if standing.released.scales:
            own = standardised(own, standing.released.scales, study.contract)
        return cls(
            standing,
            approved,
            own.train,
            own.held_out,
            frozenset(train.patients),
            held_out.patients,
        )

    @cached_property
    def calibration(self) -> Calibration:
        """The model on the held-out patients."""
        study = self.standing.study
        outcomes = held_out_outcomes(self.standing.released.network, self.held_out, study)
        return Calibration(study, outcomes)

    @cached_property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        """What the pre-registered threshold does, here and on all held-out patients."""
        return self.calibration.operating_points(self.standing.metrics)

    def scaled(self, encoded: EncodedRecords) -> PatientRecords:
        """Other patients of the contract, as the model takes them."""
        return self._as_the_model_takes(tensors_of(encoded, by_record=False))

    def _as_the_model_takes(self, patients: PatientRecords) -> PatientRecords:
        if not self.standing.released.scales:
            return patients
        scales, contract = self.standing.released.scales, self.standing.study.contract
        return standardised(StudyRecords(patients, patients), scales, contract).train

    def scaled_features(self, records: Tensor) -> Tensor:
        """Records of the contract's features, as the model takes them; each is a patient."""
        count = len(records)
        patients = PatientRecords(
            features=records, labels=torch.zeros(count), offsets=np.arange(count + 1)
        )
        return self._as_the_model_takes(patients).features

    def scores(self, patients: PatientRecords) -> Scores:
        """[patients, channels] in [0, 1]: the mean over each patient's records."""
        said = readings(self.standing.released.network, patients.features, self.standing.study)
        if not patients.patients:
            return said
        sums = np.add.reduceat(said, patients.offsets[:-1], axis=0)
        means: Scores = np.clip(sums / np.diff(patients.offsets)[:, None], 0.0, 1.0)
        return means

    @property
    def tells_unlike(self) -> str:
        """Whether this hospital can tell who is unlike its patients, in words."""
        if self.standing.study.contract.label.kind is LabelKind.NONE:
            return "the anomaly score says it"
        if self._near is None:
            return (
                f"not told, {self.held_out.patients} held-out patients are too few "
                f"({LEAST_HELD_OUT} are due)"
            )
        return f"told by {self.held_out.patients} held-out patients"

    @cached_property
    def _near(self) -> tuple[Neighbourhood, Features] | None:
        """The training patients, and how far the held-out ones are; None where it says nothing."""
        if self.standing.study.contract.label.kind is LabelKind.NONE:  # strangeness is its answer
            return None
        if self.held_out.patients < LEAST_HELD_OUT or self.train.patients <= NEAREST:
            return None
        near = Neighbourhood.of(features_of(self.train))
        return near, near.distance(features_of(self.held_out))

    def unlikeness(self, patients: PatientRecords, own: Sequence[int | None]) -> list[float | None]:
        """A p-value for each patient, or None where this hospital has too few to say."""
        if self._near is None:
            return [None] * patients.patients
        near, known = self._near
        found: list[float | None] = []
        for distance, row in zip(near.distance(features_of(patients)), own, strict=True):
            others = known if row is None else np.delete(known, row)
            found.append(p_value(float(distance), others))
        return found
