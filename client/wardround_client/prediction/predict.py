"""Decision support at the hospital: an answer for each patient of a described file, or none.

Everything is computed here, from the model that the hospital kept and its own held-out patients;
nothing of it leaves and nothing is written.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from wardround.canonical import Json
from wardround.errors import BadInput
from wardround_client.data.description import DatasetDescription
from wardround_client.data.encoding import EncodedRecords
from wardround_client.prediction.answers import (
    Answer,
    Channel,
    OperatingPoint,
    Rate,
    Reason,
    Withheld,
    plain,
)
from wardround_client.prediction.calibration import Scores
from wardround_client.prediction.described import DescribedPatients, read_described
from wardround_client.prediction.ranking import ranked, typical_levels
from wardround_client.prediction.support import Support
from wardround_client.prediction.what_if import WhatIf, unchosen

UNLIKE_BELOW = 0.01  # the p-value under which a patient is like none here
LEAST_FOR_PERSONALISED = 20  # held-out patients: nobody else has looked at such a model
_TRAINED = "the model was trained on this patient: the interval does not hold"
_UNLIKE = "of the patients here fewer than 1 in 100 are as far from the others"


@dataclass(frozen=True, slots=True)
class Predictions:
    """The answers for a file's patients, by key, and what they stand on."""

    support: Support
    answers: tuple[Answer, ...] = field(repr=False)

    def to_json(self) -> Json:
        """All of it; JSON has no patient whom the file does not name."""
        return {
            **self.support.standing.to_json(),
            "unlike_patients": self.support.tells_unlike,
            "operating_points": [plain(asdict(one)) for one in self.support.operating_points],
            "patients": [answer.to_json() for answer in self.answers],
        }

    def lines(self) -> list[str]:
        """All of it for a person."""
        points = self.support.operating_points
        by_channel = {point.channel: point for point in points}
        said = [self.support.standing.line(), *(_point_line(point) for point in points)]
        said.append(f"who is unlike the patients here: {self.support.tells_unlike}")
        return said + [line for one in self.answers for line in one.lines(by_channel)]


def predict(
    support: Support, description: DatasetDescription, folder: Path, *, patient: str | None = None
) -> Predictions:
    """Answer for each patient of a described file, or for the one of this key.

    Raises BadInput for a file that cannot be read as a whole, and for a key that is not in it.
    """
    study = support.standing.study
    contract, treatment = study.contract, study.task.treatment
    if treatment is not None:
        description, contract = unchosen(description, contract, treatment)
    asked = read_described(description, contract, folder)
    asked = asked if patient is None else only(asked, patient)
    inside = answers(support, asked.encoded, description)
    both = sorted((*inside, *outside(asked)), key=lambda answer: answer.patient)
    return Predictions(support, tuple(both))


def only(asked: DescribedPatients, patient: str) -> DescribedPatients:
    """The patient of this key alone. Raises BadInput, without the key, when there is none."""
    places = [place for place, key in enumerate(asked.encoded.patients) if key == patient]
    outside = {key: why for key, why in asked.outside.items() if key == patient}
    if not places and not outside:
        raise BadInput("--patient: the file has no patient with this key")
    return DescribedPatients(
        encoded=asked.encoded.of_patients(places), records=asked.records, outside=outside
    )


def outside(asked: DescribedPatients) -> list[Answer]:
    """The answers for patients whose rows do not fit the contract: why, and no number."""
    return [
        Answer(patient=key, abstained=Reason.OUTSIDE, why=why) for key, why in asked.outside.items()
    ]


def answers(
    support: Support, encoded: EncodedRecords, description: DatasetDescription
) -> list[Answer]:
    """An answer for each patient within the contract, in order."""
    keys = encoded.patients
    if not support.standing.evaluated or not support.held_out.patients:
        return [Answer(patient=key, abstained=Reason.NOT_EVALUATED) for key in keys]
    if _too_few(support):
        return [Answer(patient=key, abstained=Reason.FEW) for key in keys]
    shared = shares_keys(description, support.approved.description)
    rows = {key: row for row, key in enumerate(support.held_out_keys)} if shared else {}
    trained = support.trained_keys if shared else frozenset()
    own = [rows.get(key) for key in keys]
    if support.standing.study.task.treatment is not None:
        return _under_both_treatments(support, encoded, own, trained)
    patients = support.scaled(encoded)
    unlike, said = support.unlikeness(patients, own), support.scores(patients)
    found = [
        _answer(support, key, said[place], unlike[place], own[place], trained=key in trained)
        for place, key in enumerate(keys)
    ]
    return _with_ranking(support, found)


def _under_both_treatments(
    support: Support,
    encoded: EncodedRecords,
    own: Sequence[int | None],
    trained: Collection[str],
) -> list[Answer]:
    """What either treatment would do; who is unlike the patients of both arms gets no number."""
    what_if = WhatIf.of(support)
    both = [support.scaled(arm) for arm in what_if.in_both_arms(encoded)]
    said = np.stack([support.scores(arm)[:, 0] for arm in both], axis=1)
    unlike = [support.unlikeness(arm, own) for arm in both]
    found = []
    for place, key in enumerate(encoded.patients):
        likeness = [arm[place] for arm in unlike]
        if all(p is not None and p < UNLIKE_BELOW for p in likeness):
            found.append(Answer(patient=key, abstained=Reason.UNLIKE, why=(_UNLIKE,)))
            continue
        answer = what_if.answer(key, said[place], own_row=own[place])
        notes = (_TRAINED,) if key in trained and answer.abstained is None else ()
        found.append(replace(answer, notes=notes))
    return found


def _with_ranking(support: Support, found: list[Answer]) -> list[Answer]:
    """The same answers; where the study ranks its numbers, with their order."""
    study = support.standing.study
    if study.task.ranking is None:
        return found
    ranges = [target.range for target in study.contract.label.targets if target.range is not None]
    levels = typical_levels((support.train, support.held_out), ranges)
    return [replace(one, choice=ranked(one.channels, levels, study.task.ranking)) for one in found]


def _too_few(support: Support) -> bool:
    """Of the released model all hospitals together have looked at many more."""
    few = support.held_out.patients < LEAST_FOR_PERSONALISED
    return few and support.standing.personalised_from is not None


def shares_keys(one: DatasetDescription, other: DatasetDescription) -> bool:
    """Whether a key means the same patient in both: row numbers do so within one file only."""
    by_row = one.patient.source is None or other.patient.source is None
    return one.dataset == other.dataset and (not by_row or one.path == other.path)


def _answer(
    support: Support,
    key: str,
    said: Scores,
    unlike: float | None,
    own_row: int | None,
    *,
    trained: bool,
) -> Answer:
    if unlike is not None and unlike < UNLIKE_BELOW:
        return Answer(patient=key, abstained=Reason.UNLIKE, why=(_UNLIKE,))
    channels, classes = support.calibration.answer(said, own_row=own_row)
    reasons = _reasons(channels)
    if len(reasons) == 1:
        return Answer(patient=key, abstained=reasons[0])
    notes = []
    if trained:
        notes.append(_TRAINED)
    lost = support.calibration.censoring()
    notes += [] if lost is None else [lost]
    return Answer(patient=key, channels=channels, classes=classes, notes=tuple(notes))


def _reasons(channels: Sequence[Channel]) -> list[Reason]:
    """Why there is no answer, when no channel has one; one reason for each kind."""
    if not all(isinstance(one, Withheld) for one in channels):
        return []
    return sorted({one.reason for one in channels if isinstance(one, Withheld)})[:1]


def _point_line(point: OperatingPoint) -> str:
    here = _rates(point.sensitivity, point.specificity)
    text = f"{point.channel}: threshold {point.threshold:g}; {point.held_out} held-out patients"
    text += f" here: {here}"
    if point.pooled_sensitivity or point.pooled_specificity:
        text += f"; all hospitals: {_rates(point.pooled_sensitivity, point.pooled_specificity)}"
    return text


def _rates(sensitivity: Rate | None, specificity: Rate | None) -> str:
    said = (("sensitivity", sensitivity), ("specificity", specificity))
    return ", ".join(f"{name} {_rate(rate)}" for name, rate in said)


def _rate(rate: Rate | None) -> str:
    return "NA" if rate is None else f"{rate.value:.2f} ({rate.low:.2f} to {rate.high:.2f})"
