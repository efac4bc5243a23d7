"""What a model rests on, over all held-out patients of a hospital: each column drawn anew.

Shuffling a column among patients would give each the value of another. Instead it is replaced by
draws from a public distribution, uniform over what the contract allows: so a patient's outcome
depends on that patient alone. Computed at the hospital for the hospital: nothing leaves.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch import Tensor

from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.evaluation.apart import Apart
from wardround.evaluation.aparts import apart_of
from wardround.evaluation.layout import Outcomes
from wardround.evaluation.layouts import exact_layout_of
from wardround.study.contract import Column, ColumnKind
from wardround_client.data.places import places
from wardround_client.explanation.bars import Bar, bar_picture
from wardround_client.explanation.draws import uniform
from wardround_client.explanation.subject import channel_of
from wardround_client.prediction.answers import plain
from wardround_client.prediction.calibration import channel_names
from wardround_client.prediction.own_files import new_folder, write_new
from wardround_client.prediction.standing import Standing
from wardround_client.prediction.support import Support
from wardround_client.training.plan import PatientRecords

DRAWS = 20
SHOWN = 20
_AUROC = "AUROC"
_NEVER_DRAWN = {ColumnKind.IMAGE, ColumnKind.FINGERPRINT}
Scores = npt.NDArray[np.float64]
Asked = tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]
"""Of each patient whether the outcome is known, and whether it is a yes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """One column: means over the draws, with the standard error of the first.

    `moved` is the mean distance by which a patient's score moves; `counts_moved` that by which the
    counts of scores move as a whole (Wasserstein 1: 0 when only patients change places);
    `auroc_lost` what the ranking loses, None where it has no AUROC. `worse_by` is how much worse
    the model does as a whole, by the metric that the study's groups are compared by.
    """

    column: str
    moved: float
    moved_se: float
    counts_moved: float
    auroc_lost: float | None
    worse_by: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """All columns, the one that moves most first.

    `metric` is what the model as a whole is judged by, over all that it predicts, and `value` its
    value as the model stands.
    """

    standing: Standing
    channel: str
    patients: int
    auroc: float | None
    metric: str
    value: float | None
    columns: tuple[Weight, ...]

    def to_json(self) -> Json:
        """All of it."""
        return {
            **self.standing.to_json(),
            "channel": self.channel,
            "held_out_patients": self.patients,
            "draws": DRAWS,
            "auroc": self.auroc,
            "metric": self.metric,
            "value": self.value,
            "columns": [plain(asdict(column)) for column in self.columns],
        }

    def lines(self) -> list[str]:
        """All of it for a person; points are hundredths of the score."""
        said = [
            self.standing.line(),
            f"{self.channel}: {self.patients} held-out patients, {self.metric} "
            f"{_number(self.value)}; each column drawn {DRAWS} times from what the contract allows",
        ]
        lost = "AUROC lost" if self.metric == _AUROC else "worse by"
        said += [
            f"  {100 * one.moved:6.2f} points (se {100 * one.moved_se:.2f})  "
            f"counts {100 * one.counts_moved:6.2f}  {lost} {_number(one.worse_by, sign=True)}  "
            f"{one.column}"
            for one in self.columns
        ]
        return said

    def svg(self) -> str:
        """The columns that move most as a bar picture."""
        bars = [
            Bar(one.column, one.moved, f"{100 * one.moved:.1f}") for one in self.columns[:SHOWN]
        ]
        return bar_picture(
            f"What the score of {self.channel} rests on",
            f"{self.patients} held-out patients of {self.standing.hospital}; a column is replaced "
            "by draws over all that the contract allows",
            "mean movement of a patient's score, in hundredths",
            bars,
        )


def importance(support: Support, *, channel: str | None = None) -> Importance:
    """How far the held-out scores move when one column is drawn anew, for every column.

    Raises BadInput without held-out patients, and for contracts of images or molecules alone, for
    which there is no public distribution to draw from.
    """
    study, held_out = support.standing.study, support.held_out
    drawn = [one for one in study.contract.columns if one.kind not in _NEVER_DRAWN]
    if not drawn or not held_out.patients:
        raise BadInput(
            "importance: held-out patients and columns of numbers or categories are due; "
            "`explain --patient` shows where in an image the network looks"
        )
    before = support.scores(held_out)
    place = channel_of(study, channel, torch.from_numpy(before.mean(axis=0)))
    known = support.calibration.known
    asked = known[place] if place < len(known) else None
    truth = support.calibration.outcomes.truth
    judged = Judged(apart_of(exact_layout_of(study)), truth, place, asked)
    weights = [
        _weight(support, column, where, before, judged)
        for column, where in places(study.contract)
        if column in drawn
    ]
    return Importance(
        standing=support.standing,
        channel=channel_names(study.contract.label)[place],
        patients=held_out.patients,
        auroc=_auroc(before[:, place], asked),
        metric=judged.apart.compared.name,
        value=judged.value(before),
        columns=tuple(sorted(weights, key=lambda weight: -weight.moved)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """How well outputs [patients, channels] do beside what came true.

    By the study's one metric over all channels, and in one `channel` by the AUROC of who is
    `asked`.
    """

    apart: Apart
    truth: Scores = field(repr=False)
    channel: int
    asked: Asked | None = field(repr=False)

    def value(self, outputs: Scores) -> float | None:
        """Counted as finely as a log could hold it; None where the patients cannot say."""
        lanes = self.apart.layout.count(Outcomes(self.truth, outputs)).lanes
        found = self.apart.headline(lanes, 0.0)
        return None if found is None else found.value

    def worse_by(self, before: Scores, after: Sequence[Scores]) -> float | None:
        """How much worse it is on average after, positive for worse whatever the metric."""
        first, then = self.value(before), [self.value(outputs) for outputs in after]
        known = [value for value in then if value is not None]
        if first is None or len(known) < len(then):
            return None
        return self.apart.compared.worse_by(first, float(np.mean(known)))


def _weight(
    support: Support,
    column: Column,
    where: slice,
    before: Scores,
    judged: Judged,
) -> Weight:
    after = [
        support.scores(_drawn_anew(support, column, where, f"{column.name}/{number}".encode()))
        for number in range(DRAWS)
    ]
    was, is_now = (before[:, judged.channel], [outputs[:, judged.channel] for outputs in after])
    moved = [float(np.abs(scores - was).mean()) for scores in is_now]
    counts = [float(np.abs(np.sort(scores) - np.sort(was)).mean()) for scores in is_now]
    first, auroc = _auroc(was, judged.asked), [_auroc(each, judged.asked) for each in is_now]
    known = [value for value in auroc if value is not None]
    return Weight(
        column=column.name,
        moved=float(np.mean(moved)),
        moved_se=float(np.std(moved, ddof=1) / np.sqrt(DRAWS)),
        counts_moved=float(np.mean(counts)),
        auroc_lost=None if first is None else first - float(np.mean(known)),
        worse_by=judged.worse_by(before, after),
    )


def _drawn_anew(support: Support, column: Column, where: slice, seed: bytes) -> PatientRecords:
    """The held-out patients with one column drawn for each record, and in each step of a series."""
    features = support.held_out.features.clone()
    records, steps = features.shape[0], features.shape[1:-1].numel()
    count = records * (steps if column.kind is ColumnKind.SERIES else 1)
    scale = next((s for s in support.standing.released.scales if s.column == column.name), None)
    values = _values(column, uniform(count, seed))
    if scale is not None:
        values[:, 0] = (values[:, 0] - scale.centre) / scale.spread
    block = features[..., where]
    drawn = values.view(records, *([-1] if block.ndim == 3 else []), values.shape[1])
    block[:] = drawn.expand(block.shape)
    return replace(support.held_out, features=features)


def _values(column: Column, places_in_range: Scores) -> Tensor:
    """[count, features of the column], as the contract's encoding has them; never missing."""
    found = np.zeros((len(places_in_range), len(column.features())), dtype=np.float32)
    if column.kind is ColumnKind.CATEGORICAL:
        chosen = (places_in_range * len(column.categories)).astype(np.int64)
        found[np.arange(len(found)), chosen] = 1.0
    elif column.kind is ColumnKind.BINARY:
        found[:, 0] = np.where(places_in_range < 0.5, -1.0, 1.0)
    else:
        found[:, 0] = 2.0 * places_in_range - 1.0
    return torch.from_numpy(found)


def _auroc(scores: Scores, asked: Asked | None) -> float | None:
    """By ranks, ties as halves; None without patients of both kinds."""
    if asked is None:
        return None
    known, yes = asked
    ranks = rankdata(scores[known])
    positives = int((known & yes).sum())
    negatives = len(ranks) - positives
    if not positives or not negatives:
        return None
    above = float(ranks[yes[known]].sum()) - positives * (positives + 1) / 2
    return above / (positives * negatives)


def _number(value: float | None, *, sign: bool = False) -> str:
    if value is None:
        return "NA"
    shown = round(value, 3) + 0.0  # no minus zero
    return f"{shown:+.3f}" if sign else f"{shown:.3f}"


def write_importance(weighed: Importance, out: Path) -> None:
    """Write text, JSON and picture into a new folder `out`, for its owner alone."""
    new_folder(out)
    write_new(out / "importance.txt", ("\n".join(weighed.lines()) + "\n").encode())
    write_new(out / "importance.json", json.dumps(weighed.to_json(), indent=2).encode())
    write_new(out / "importance.svg", weighed.svg().encode())
