"""Which record of a batch belongs to which patient."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from wardround.errors import BadInput


@dataclass(frozen=True, slots=True)
class Patients:
    """The records of a batch, sorted by patient. Made by `Patients.of`."""

    counts: tuple[int, ...] = field(repr=False)
    patient_of_record: Tensor = field(repr=False)

    @classmethod
    def of(cls, patient_of_record: Tensor) -> "Patients":
        """Raise BadInput unless records are sorted by patient, counted from 0 without a gap."""
        if patient_of_record.numel() == 0:
            return cls((), patient_of_record)
        apart = _one_record_each(len(patient_of_record))
        if patient_of_record.dtype == torch.int64 and patient_of_record.equal(
            apart.patient_of_record
        ):
            return apart
        numbers = patient_of_record.numpy()
        steps = np.diff(numbers)
        if numbers[0] != 0 or ((steps != 0) & (steps != 1)).any():
            raise BadInput("batch: records are not sorted by patient, counted from 0 without a gap")
        return cls(tuple(np.bincount(numbers).tolist()), patient_of_record)

    @classmethod
    def one_record_each(cls, records: int) -> "Patients":
        """Every record is a patient of its own."""
        return _one_record_each(records)

    @property
    def count(self) -> int:
        """How many patients there are."""
        return len(self.counts)

    @property
    def records(self) -> int:
        """How many records they have together."""
        return self.patient_of_record.shape[0]

    @property
    def one_each(self) -> bool:
        """Whether every patient has one record: then a record's row is the patient's row."""
        return len(self.counts) == self.patient_of_record.shape[0]

    @property
    def most(self) -> int:
        """The most records that one patient has."""
        return max(self.counts, default=0)

    def summed(self, rows: Tensor) -> Tensor:
        """[records, ...] -> [patients, ...]: the sum over each patient's records."""
        if self.one_each:
            return rows
        return rows.new_zeros(self.count, *rows.shape[1:]).index_add_(
            0, self.patient_of_record, rows
        )

    def together(self, rows: Tensor) -> Tensor:
        """[records, ...] -> [patients, most records of one, ...], filled up with zeros."""
        most = self.most
        if most * self.count == self.records:
            return rows.reshape(self.count, most, *rows.shape[1:])
        padded = rows.new_zeros(self.count * most, *rows.shape[1:])
        counts = torch.tensor(self.counts)
        starts = torch.arange(self.count) * most - (counts.cumsum(0) - counts)
        places = torch.arange(self.records) + starts[self.patient_of_record]
        return padded.index_copy_(0, places, rows).view(self.count, most, *rows.shape[1:])

    def of_records(self, factors: Tensor) -> Tensor:
        """[patients] -> [records]: each record gets its patient's value."""
        return factors if self.one_each else factors[self.patient_of_record]

    def parts(self, records_at_once: int) -> Iterator[tuple[slice, slice, "Patients"]]:
        """Cut into runs of whole patients of about `records_at_once` records.

        Each run: its patients, its records, and these as patients of their own. One patient's
        records stay together, however many.
        """
        if 0 < self.records <= records_at_once:
            yield slice(None), slice(None), self
            return
        first = start = end = 0
        for patient, count in enumerate(self.counts):
            if end > start and end + count - start > records_at_once:
                yield self._run(first, patient, start, end)
                first, start = patient, end
            end += count
        if self.counts:
            yield self._run(first, self.count, start, end)

    def _run(self, first: int, last: int, start: int, end: int) -> tuple[slice, slice, "Patients"]:
        own = Patients(self.counts[first:last], self.patient_of_record[start:end] - first)
        return slice(first, last), slice(start, end), own


@functools.lru_cache(maxsize=8)
def _one_record_each(records: int) -> Patients:
    return Patients((1,) * records, torch.arange(records))
