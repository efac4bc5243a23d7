"""What the coordinator of a rehearsal states: models beside each other, of a study's hospitals."""

import numpy as np

from wardround.audit.body_comparison import LEFT_OUT, ONE_PLACE, WITH_NOISE, Way
from wardround.audit.check_comparison import ways_due
from wardround.canonical import Json
from wardround.evaluation.layout import read_lanes
from wardround.evaluation.layouts import layout_of
from wardround.evaluation.shown import patients_in
from wardround.evaluation.single import metric_of
from wardround.study.manifest import Mechanism, Study

PER_HOSPITAL = {
    "bergen": 0.81,
    "coimbra": 0.78,
    "leiden": None,
    "zurich": 0.9,
}


def held_out(study: Study, counts: list[int]) -> int:
    """How many patients an evaluation counted."""
    layout = layout_of(study)
    lanes = read_lanes(np.array(counts, dtype=np.int64), layout)
    return patients_in(layout.metrics(lanes, cell_noise_sd=0.0))


def comparison(study: Study, *, run: str, patients: int) -> tuple[str, Json]:
    """The entry, for so many held-out patients; the first hospital has all but one of each."""
    return "comparison", {
        "run": run,
        "made_of": ONE_PLACE,
        "metric": metric_of(study),
        "ways": [_way(study, way, patients) for way in ways_due(study)],
        "next_hospital": {
            "hospitals": 3,
            "mean": 0.83,
            "low": 0.7,
            "high": 0.91,
            "prediction_low": 0.4,
            "prediction_high": 0.97,
        },
    }


def _way(study: Study, way: Way, patients: int) -> Json:
    noised = way in WITH_NOISE and study.privacy.mechanism is not Mechanism.NONE
    total = 4 * patients if way == LEFT_OUT else patients
    names = study.names()
    shares = [total - len(names) + 1, *[1] * (len(names) - 1)]
    return {
        "way": way,
        "epsilon": study.privacy.epsilon if noised else None,
        "whole": _number(0.84, total),
        "hospitals": {
            name: _number(PER_HOSPITAL.get(name, 0.8), own)
            for name, own in zip(names, shares, strict=True)
        },
    }


def _number(value: float | None, patients: int) -> Json:
    ends = (None, None) if value is None else (value - 0.05, value + 0.04)
    return {"patients": patients, "value": value, "low": ends[0], "high": ends[1]}
