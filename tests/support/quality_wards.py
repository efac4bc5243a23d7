"""Hospitals of a real study hold their data against what a noised release says of all."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tests.support.masked_hospitals import seeded

from wardround.noise import discrete_gaussian
from wardround.protocol.specs import (
    statistics_layout,
    statistics_noise_lanes,
    statistics_share_of,
)
from wardround.quality.compare import Reference
from wardround.statistics.released import ReleasedStatistics
from wardround.statistics.tally import tally
from wardround.study.files import checked, read_study_plan
from wardround.study.manifest import StudyPlan
from wardround_client.data.description import DatasetDescription, read_description
from wardround_client.data.encoding import encode
from wardround_client.data.reading import read_records
from wardround_client.quality import Looked, look
from wardround_client.records import StudyRecords, tensors_of
from wardround_client.statistics import patient_rows

REPOSITORY = Path(__file__).parents[2]
STUDIES = REPOSITORY / "deploy" / "studies"
DATA = REPOSITORY.parent / "shared" / "data"
Ward = tuple[DatasetDescription, Path]


def plan_with(study: str, epsilon: float, **more: object) -> StudyPlan:
    """A study of deploy/studies that also asks for statistics."""
    value = read_study_plan(STUDIES / study / "study.toml").to_json()
    value["statistics"] = {"epsilon": epsilon, "bins": 0}
    return checked(StudyPlan, value | more, what="study")


def described(study: str, hospital: str, **changes: object) -> DatasetDescription:
    """One hospital's description, with some keys changed."""
    own = read_description(STUDIES / study / "hospitals" / f"{hospital}.toml")
    value = own.model_dump(mode="json", by_alias=True) | changes
    return checked(DatasetDescription, value, what=hospital)


def records_of(plan: StudyPlan, ward: Ward) -> StudyRecords:
    """All records of a ward, as a session that kept their source has them."""
    description, folder = ward
    source = read_records(description, plan.contract, folder)
    encoded = tensors_of(encode(source, plan.contract), by_record=False)
    nobody = tensors_of(encode(source, plan.contract).of_patients([]), by_record=False)
    return StudyRecords(train=encoded, held_out=nobody, source=source)


def judged(plan: StudyPlan, wards: Mapping[str, Ward]) -> dict[str, Looked]:
    """What each hospital sees once the noised sum over all of them was opened."""
    layout, share = statistics_layout(plan), statistics_share_of(plan, len(wards))
    loaded = {name: records_of(plan, ward) for name, ward in wards.items()}
    own = {
        name: tally(patient_rows(found.source, layout, by_record=False), layout).values
        for name, found in loaded.items()
        if found.source is not None
    }
    randomness = seeded("quality")
    noise = sum(
        discrete_gaussian(layout.lanes, variance=share.variance, randomness=randomness)
        for _ in wards
    )
    total = np.sum(list(own.values()), axis=0) + noise
    released = ReleasedStatistics(layout, total, len(wards), len(wards))
    lanes = statistics_noise_lanes(plan, released)
    return {
        name: look(plan, found, Reference(released, lanes, own[name]))
        for name, found in loaded.items()
    }
