"""The one number that an evaluation is judged by, where several models stand beside each other."""

from typing import Final, Literal, NamedTuple, get_args

from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.evaluation.shown import patients_in
from wardround.study.contract import LabelKind
from wardround.study.manifest import StudyPlan

Metric = Literal["auroc", "c_index", "macro_auroc", "mean_correlation"]
METRICS: Final[tuple[Metric, ...]] = get_args(Metric)
NAMES: Final[dict[str, str]] = {
    "auroc": "AUROC",
    "c_index": "C-index",
    "macro_auroc": "mean AUROC",
    "mean_correlation": "mean correlation",
}


class Single(NamedTuple):
    """A value over some patients, with its 95 % sampling interval; None where there is none."""

    patients: int
    value: float | None
    low: float | None
    high: float | None


def metric_of(study: StudyPlan) -> Metric:
    """Which number it is: what the study's label asks for."""
    label = study.contract.label
    if label.time is not None:
        return "c_index"
    if label.numbers:
        return "mean_correlation"
    return "auroc" if label.kind in {LabelKind.BINARY, LabelKind.NONE} else "macro_auroc"


def single(metrics: Json) -> Single:
    """That number of one evaluation. Raises BadInput for a kind that has none."""
    name = next((name for name in METRICS if name in metrics), None)
    if name is None:
        raise BadInput("evaluation: this kind has no single number to compare by")
    found = metrics[name] or {}
    return Single(patients_in(metrics), found.get("value"), found.get("low"), found.get("high"))
