"""An evaluation with other models beside the study's: the same patients, counted once for each.

What the others are is the hospital's affair (`wardround_client.beside`): one that it trained alone,
and the study's model fine-tuned. Both learnt from its patients without noise, so exact counts are
all that there can be: noise on the counts would hide no training patient (decision 0022).
"""

from dataclasses import dataclass

import numpy as np

from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.evaluation.aparts import apart_of
from wardround.evaluation.histograms import Counts, CountsMode
from wardround.evaluation.layout import Layout, Outcomes, RawLanes, check_lanes
from wardround.evaluation.shown import rows


@dataclass(frozen=True, slots=True, kw_only=True)
class BesideLayout:
    """Lanes: those of the study's model; then those of each way, of which none is in more detail.

    `study` is the study's own layout, in as much detail as it asks for, `plain` that of its whole
    alone, which `study` begins with.
    """

    study: Layout
    plain: Layout
    ways: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise BadInput for counts with noise, no way, and more lanes than a log holds."""
        if self.mode is not CountsMode.EXACT or not self.ways:
            raise BadInput("evaluation: models beside the study's are counted exactly or not")
        check_lanes(self.lanes, f"{len(self.ways)} models beside the study's in so many bins")

    @property
    def mode(self) -> CountsMode:
        """Exact counts."""
        return self.study.mode

    @property
    def lanes(self) -> int:
        """Length of the vector that travels."""
        return self.study.lanes + len(self.ways) * self.plain.lanes

    @property
    def squared_sensitivity(self) -> int:
        """Of held-out patients alone: one more table for each way. No noise is scaled by it."""
        return self.study.squared_sensitivity + len(self.ways) * self.plain.squared_sensitivity

    def lane_limit(self, patients: int) -> int:
        """The largest value that a lane of so many patients can have."""
        return max(self.study.lane_limit(patients), self.plain.lane_limit(patients))

    def count(self, outcomes: Outcomes) -> RawLanes:
        """Raises BadInput without what each way says of each patient."""
        beside, due = outcomes.beside, (len(self.ways), *outcomes.outputs.shape)
        if beside is None or beside.shape != due:
            raise BadInput(f"evaluation: outputs of {len(self.ways)} models beside were due")
        parts = [self.study.count(outcomes).lanes]
        parts += [self.plain.count(Outcomes(outcomes.truth, said)).lanes for said in beside]
        return RawLanes(self, np.concatenate(parts))

    def check(self, lanes: Counts) -> None:
        """Every model has scored the same patients: what came true is the same in all blocks."""
        own, others = self._read(lanes)
        self.study.check(own)
        apart = apart_of(self.plain)
        truth = apart.of_truth(own[: self.plain.lanes])
        for part in others:
            self.plain.check(part)
            if not np.array_equal(apart.of_truth(part), truth):
                raise BadInput("evaluation counts: a model beside was scored on other patients")

    def metrics(self, lanes: Counts, *, cell_noise_sd: float) -> Json:
        """Those of the study's model, and `beside` a few of each way."""
        own, others = self._read(lanes)
        said = self.study.metrics(own, cell_noise_sd=cell_noise_sd)
        found = [
            {"way": way, "metrics": few(self.plain.metrics(part, cell_noise_sd=cell_noise_sd))}
            for way, part in zip(self.ways, others, strict=True)
        ]
        return said | {"beside": found}

    def _read(self, lanes: Counts) -> tuple[Counts, Counts]:
        """The study's lanes, and [ways, lanes of one]."""
        end = self.study.lanes
        return lanes[:end], lanes[end:].reshape(len(self.ways), self.plain.lanes)


def few(metrics: Json) -> list[Json]:
    """What people are shown of an evaluation, as JSON: name, of what, unit, and the estimate."""
    return [
        {
            "name": row.name,
            "of": row.of,
            "unit": row.unit,
            "estimate": None
            if row.value is None
            else {
                "value": row.value,
                "low": row.low,
                "high": row.high,
                "noise_low": row.noise_low,
                "noise_high": row.noise_high,
            },
        }
        for row in rows(metrics)
    ]
