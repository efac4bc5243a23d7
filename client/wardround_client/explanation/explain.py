"""Why the model says what it says of one patient: text, JSON and pictures, for the hospital."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.study.contract import Contract
from wardround_client.data.description import DatasetDescription
from wardround_client.data.reading import Records
from wardround_client.explanation.bars import Bar, bar_picture
from wardround_client.explanation.parts import SHOWN, PartsOfScore, in_words, parts_of_score
from wardround_client.explanation.pictures import PictureMaps, picture_maps
from wardround_client.explanation.subject import Subject, baseline, channel_of
from wardround_client.prediction.answers import Answer, OperatingPoint
from wardround_client.prediction.described import read_described
from wardround_client.prediction.own_files import new_folder, write_new
from wardround_client.prediction.predict import answers, only, outside
from wardround_client.prediction.standing import Standing
from wardround_client.prediction.support import Support

LIMITS = (
    "A part says what moved this model's score. It is no cause, and no advice to change anything."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The patient's answer, and what made it; nothing of that when it was abstained from."""

    standing: Standing
    answer: Answer = field(repr=False)
    points: dict[str, OperatingPoint]
    channel: str | None = None
    parts: PartsOfScore | None = field(default=None, repr=False)
    pictures: tuple[PictureMaps, ...] = field(default=(), repr=False)

    def to_json(self) -> Json:
        """All of it; pictures by the names of their files."""
        return {
            **self.standing.to_json(),
            "answer": self.answer.to_json(),
            "channel": self.channel,
            "table": None if self.parts is None else self.parts.to_json(),
            "images": [picture.to_json() for picture in self.pictures],
            "limits": LIMITS,
        }

    def lines(self) -> list[str]:
        """All of it for a person."""
        said = [self.standing.line(), *self.answer.lines(self.points)]
        if self.channel is None:
            return said
        said.append(f"Why the score of {self.channel} is what it is:")
        if self.parts is not None:
            said += self.parts.lines()
            said += [self.parts.sanity.warning] if self.parts.sanity.warning else []
        said += [line for picture in self.pictures for line in picture.lines()]
        return [*said, LIMITS]

    def svg(self) -> str | None:
        """The ten largest parts as a bar picture; None for images."""
        if self.parts is None or self.channel is None:
            return None
        bars = [
            Bar(f"{part.name} {part.value}".strip(), part.moved, f"{100 * part.moved:+.1f}")
            for part in self.parts.parts[:SHOWN]
        ]
        return bar_picture(
            f"What moved the score of {self.channel}: {self.answer.patient}",
            f"score {self.parts.score:.3f}; {self.parts.of_baseline:.3f} for a patient of whom "
            "nothing is known",
            "hundredths of the score; orange speaks for it, blue against it",
            bars,
            foot=self.parts.sanity.warning or self.parts.sanity.line(),
        )


def explain(
    support: Support,
    description: DatasetDescription,
    folder: Path,
    *,
    patient: str,
    channel: str | None = None,
) -> Explanation:
    """Explain one patient's score.

    Raises BadInput for a file that cannot be read as a whole, and for a patient or channel that is
    not there.
    """
    study = support.standing.study
    asked = only(read_described(description, study.contract, folder), patient)
    points = {point.channel: point for point in support.operating_points}
    (answer,) = outside(asked) or answers(support, asked.encoded, description)
    if answer.abstained is not None:
        return Explanation(standing=support.standing, answer=answer, points=points)
    records = support.scaled(asked.encoded)
    scores = torch.from_numpy(support.scores(records)[0])
    network = support.standing.released.network
    subject = Subject.of(study, network, channel_of(study, channel, scores))
    shown = _shown(support, subject, records.features, asked.records, patient)
    return Explanation(
        standing=support.standing, answer=answer, points=points, channel=subject.name, **shown
    )


def write_explanation(explanation: Explanation, out: Path) -> None:
    """Write text, JSON and pictures into a new folder `out`, for its owner alone."""
    new_folder(out)
    text = "\n".join(explanation.lines()) + "\n"
    write_new(out / "explanation.txt", text.encode())
    write_new(out / "explanation.json", json.dumps(explanation.to_json(), indent=2).encode())
    svg = explanation.svg()
    if svg is not None:
        write_new(out / "parts.svg", svg.encode())
    for picture in explanation.pictures:
        write_new(out / picture.file, picture.png)


def _shown(
    support: Support, subject: Subject, features: Tensor, records: Records, patient: str
) -> Json:
    contract = subject.study.contract
    if contract.image is not None:
        return {"pictures": tuple(picture_maps(subject, features))}
    start = support.scaled_features(baseline(contract))
    values = values_in_words(contract, records, patient)
    return {"parts": parts_of_score(subject, features, start, values)}


def values_in_words(contract: Contract, records: Records, patient: str) -> list[str]:
    """What each column of the contract is in this patient."""
    rows = [row for row, key in enumerate(records.patients) if key == patient]
    if not rows:
        raise BadInput("explanation: the patient has no records")
    said = []
    for column in contract.columns:
        measured = records.series.get(column.name)
        values = [] if measured is not None else list(records.values[column.name].iloc[rows])
        grid = None if measured is None else np.asarray(measured)[rows]
        said.append(in_words(column, values, grid))
    return said
