"""A hospital's records in memory: training patients and held-out patients of one study."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from wardround.models.family import family_of
from wardround.protocol.specs import statistics_layout
from wardround.statistics.scaling import Standardisation
from wardround.statistics.tally import PatientRows
from wardround.study.contract import Contract
from wardround.study.manifest import StudyPlan
from wardround_client.approval import ApprovedStudy
from wardround_client.data.encoding import EncodedRecords, encode
from wardround_client.data.reading import Records, read_records
from wardround_client.data.split import learned_from, split
from wardround_client.statistics import patient_rows
from wardround_client.subgroups import Groups, groups_of
from wardround_client.training.plan import PatientRecords


@dataclass(frozen=True, slots=True)
class StudyRecords:
    """Both sides of the fixed split; `rows` are the patients of both, when statistics are asked.

    `source` are the records before they were encoded, where somebody looks at their quality.
    `groups` is [held-out patients, groupings], when the study evaluates groups apart.
    """

    train: PatientRecords = field(repr=False)
    held_out: PatientRecords = field(repr=False)
    rows: PatientRows | None = field(default=None, repr=False)
    source: Records | None = field(default=None, repr=False)
    groups: Groups | None = field(default=None, repr=False)


def load_records(approved: ApprovedStudy, *, with_source: bool = False) -> StudyRecords:
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
    train = learned_from(train, study.contract.label)
    by_record = study.privacy.unit == "record"
    rows = None
    if study.statistics is not None:
        rows = patient_rows(records, statistics_layout(study), by_record=by_record)
    return StudyRecords(
        train=tensors_of(train, by_record=by_record),
        held_out=tensors_of(held_out, by_record=False),
        rows=rows,
        source=records if with_source else None,
        groups=groups_of(records, held_out.patients, study),
    )


def learned(patients: PatientRecords, study: StudyPlan) -> PatientRecords:
    """The records with what the study's family learns of them: their labels, or themselves."""
    family = family_of(study)
    return replace(patients, labels=family.targets(patients.features, patients.labels))


def standardised(
    records: StudyRecords, scales: Sequence[Standardisation], contract: Contract
) -> StudyRecords:
    """The records with every feature of `scales` as (v - centre) / spread; a missing one stays 0.

    The scales are public: they follow from what was released and charged.
    """
    return replace(
        records,
        train=_scaled(records.train, scales, contract),
        held_out=_scaled(records.held_out, scales, contract),
    )


def _scaled(
    records: PatientRecords, scales: Sequence[Standardisation], contract: Contract
) -> PatientRecords:
    places = {name: place for place, name in enumerate(contract.features())}
    features = records.features.clone()
    for scale in scales:
        column = features[:, places[scale.column]]
        column.sub_(scale.centre).div_(scale.spread)
        indicator = places.get(f"{scale.column} is missing")
        if indicator is not None:
            column.masked_fill_(features[:, indicator] > 0.5, 0.0)
    return replace(records, features=features)


def tensors_of(encoded: EncodedRecords, *, by_record: bool) -> PatientRecords:
    """Encoded records for training or evaluation; `by_record` makes each a patient of its own."""
    records = len(encoded.labels)
    offsets = torch.arange(records + 1).numpy() if by_record else encoded.offsets
    return PatientRecords(
        features=torch.from_numpy(encoded.features),
        labels=torch.from_numpy(encoded.labels),
        offsets=offsets,
    )
