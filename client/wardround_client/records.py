"""A hospital's records in memory: training patients and held-out patients of one study."""

from dataclasses import dataclass, field

import torch

from wardround_client.approval import ApprovedStudy
from wardround_client.data.encoding import EncodedRecords, encode
from wardround_client.data.reading import read_records
from wardround_client.data.split import split
from wardround_client.training.plan import PatientRecords


@dataclass(frozen=True, slots=True)
class StudyRecords:
    """Both sides of the fixed split."""

    train: PatientRecords = field(repr=False)
    held_out: PatientRecords = field(repr=False)


def load_records(approved: ApprovedStudy) -> StudyRecords:
    """Read, check against the contract, encode and split.

    With `unit = "record"` every record counts as a patient of its own: the study said so out loud
    and the policy allowed it. The split stays by patient. Raises BadInput counting what is wrong.
    """
    study, description = approved.study, approved.description
    records = read_records(description, study.contract, approved.folder)
    encoded = encode(records, study.contract)
    train, held_out = split(
        encoded, dataset=description.dataset, fraction=study.evaluation.held_out
    )
    by_record = study.privacy.unit == "record"
    return StudyRecords(_tensors(train, by_record=by_record), _tensors(held_out, by_record=False))


def _tensors(encoded: EncodedRecords, *, by_record: bool) -> PatientRecords:
    records = len(encoded.labels)
    offsets = torch.arange(records + 1).numpy() if by_record else encoded.offsets
    return PatientRecords(
        features=torch.from_numpy(encoded.features),
        labels=torch.from_numpy(encoded.labels),
        offsets=offsets,
    )
