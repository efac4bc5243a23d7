"""The hospitals of a study's folder, with their patients, on one machine.

That is a rehearsal: in a real federation nobody has more than one of them.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from wardround.errors import BadInput
from wardround.study.files import checked, read_study_plan
from wardround.study.manifest import Study, StudyPlan
from wardround_client.data.description import DatasetDescription, read_description
from wardround_client.data.encoding import EncodedRecords, encode
from wardround_client.data.reading import read_records
from wardround_client.data.split import learned_from, split
from wardround_client.records import tensors_of
from wardround_client.training.plan import PatientRecords

FEWEST = 2


@dataclass(frozen=True, slots=True)
class Site:
    """One hospital's held-out patients, and of the other ones those that the study trains on."""

    train: PatientRecords = field(repr=False)
    held_out: PatientRecords = field(repr=False)

    @property
    def everybody(self) -> PatientRecords:
        """Both: for a model that was trained without this hospital."""
        return together([self.train, self.held_out])


Sites = Mapping[str, Site]


@dataclass(frozen=True, slots=True)
class Gathered:
    """A study's plan and every hospital's records, encoded by the contract."""

    plan: StudyPlan
    encoded: Mapping[str, EncodedRecords] = field(repr=False)
    datasets: Mapping[str, str]

    def sites(self, name_of: Callable[[str], str] = lambda dataset: dataset) -> dict[str, Site]:
        """Split as the hospitals do, under the data set's name or what `name_of` makes of it."""
        by_record = self.plan.privacy.unit == "record"
        found = {}
        for name, own in self.encoded.items():
            dataset, fraction = name_of(self.datasets[name]), self.plan.evaluation.held_out
            train, held_out = split(own, dataset=dataset, fraction=fraction)
            train = learned_from(train, self.plan.contract.label)
            found[name] = Site(
                tensors_of(train, by_record=by_record), tensors_of(held_out, by_record=False)
            )
        return found


def gather(folder: Path, data: Path, overrides: Sequence[str] = ()) -> Gathered:
    """Read study.toml and what every hospitals/NAME.toml describes. Raises BadInput."""
    plan = read_study_plan(folder / "study.toml", overrides)
    described = [read_description(path) for path in sorted(folder.glob("hospitals/*.toml"))]
    if len(described) < FEWEST:
        raise BadInput(f"{folder.name}/hospitals: {len(described)} descriptions, {FEWEST} are due")
    return Gathered(
        plan,
        {one.hospital: _encoded(one, plan, data) for one in described},
        {one.hospital: one.dataset for one in described},
    )


def _encoded(description: DatasetDescription, plan: StudyPlan, data: Path) -> EncodedRecords:
    return encode(read_records(description, plan.contract, data), plan.contract)


def study_of(plan: StudyPlan, names: Sequence[str], **changes: Mapping[str, object]) -> Study:
    """The plan with a roster of these hospitals and `changes` in its tables. Raises BadInput."""
    value = plan.to_json()
    for table, keys in changes.items():
        value[table] = {**value[table], **keys}
    value["roster"] = [
        {"name": name, "fingerprint": hashlib.sha256(name.encode()).hexdigest()} for name in names
    ]
    return checked(Study, value, what="comparison")


def together(parts: Sequence[PatientRecords]) -> PatientRecords:
    """The patients of all parts, one after the other."""
    records = np.concatenate([np.diff(part.offsets) for part in parts])
    return PatientRecords(
        features=torch.cat([part.features for part in parts]),
        labels=torch.cat([part.labels for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(records)]).astype(np.int64),
    )
