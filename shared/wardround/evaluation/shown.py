"""What a page shows of an evaluation of any kind: the same few rows, whatever was learned.

The JSON of metrics is a union that its `kind` tells apart: `classes`, `labels`, `regression`,
`survival`, `anomaly`; without one it is that of yes or no, as reports had it before.
"""

from collections.abc import Iterator
from typing import NamedTuple

from wardround.canonical import Json
from wardround.errors import BadInput

BINARY = "binary"


class Shown(NamedTuple):
    """One row: what it is, of what (a class, a target, a time; "" for the whole), and its value.

    `low` and `high` are the 95 % sampling interval, `noise_low` and `noise_high` that of the noise;
    None where there is none. A value of None is not available.
    """

    name: str
    of: str
    value: float | None
    low: float | None = None
    high: float | None = None
    noise_low: float | None = None
    noise_high: float | None = None
    unit: str = ""


def kind_of(metrics: Json) -> str:
    """Which kind of evaluation this is."""
    return str(metrics.get("kind", BINARY))


def rows(metrics: Json) -> tuple[Shown, ...]:
    """The rows of one evaluation, the most telling first. Raises BadInput for an unknown kind."""
    shows = _ROWS.get(kind_of(metrics))
    if shows is None:
        raise BadInput(f"evaluation: metrics of kind {kind_of(metrics)!r} are not known here")
    return tuple(shows(metrics))


def headline(metrics: Json) -> dict[str, float | None]:
    """The first four rows as name and value, for a line of text or JSON."""
    return {f"{row.name}, {row.of}" if row.of else row.name: row.value for row in rows(metrics)[:4]}


def patients_in(metrics: Json) -> int:
    """How many patients the evaluation is over; of targets, those with the best known one."""
    if "patients" in metrics:
        return int(metrics["patients"])
    parts = metrics["channels"] if kind_of(metrics) == "labels" else metrics["targets"]
    return max((int(part["patients"]) for part in parts), default=0)


def _binary(metrics: Json) -> Iterator[Shown]:
    yield _row("AUROC", "", metrics["auroc"])
    yield _row("Sensitivity", "", metrics["sensitivity"])
    yield _row("Specificity", "", metrics["specificity"])
    yield _row("Brier score", "", metrics["brier"])


def _anomaly(metrics: Json) -> Iterator[Shown]:
    yield _row("AUROC", "", metrics["auroc"])


def _classes(metrics: Json) -> Iterator[Shown]:
    yield _row("Mean AUROC, each class against the rest", "", metrics["macro_auroc"])
    yield _row("Balanced accuracy", "", metrics["balanced_accuracy"])
    yield _row("Accuracy", "", metrics["accuracy"])
    for name, channel in zip(metrics["names"], metrics["channels"], strict=True):
        yield _row("AUROC", name, channel["auroc"])


def _labels(metrics: Json) -> Iterator[Shown]:
    yield _row("Mean AUROC over the labels", "", metrics["macro_auroc"])
    for name, channel in zip(metrics["names"], metrics["channels"], strict=True):
        yield _row("AUROC", name, channel["auroc"])


def _regression(metrics: Json) -> Iterator[Shown]:
    if "mean_correlation" in metrics:  # reports had none before
        yield _row("Mean correlation over the targets", "", metrics["mean_correlation"])
    for target in metrics["targets"]:
        name, unit = target["name"], target["unit"]
        yield _row("R squared", name, target["r2"])
        yield _row("Root mean squared error", name, target["rmse"], unit)
        yield _row("Mean absolute error", name, target["mae"], unit)
        yield Shown("Calibration slope", name, target["calibration_slope"])
        if "correlation" in target:
            yield _row("Correlation", name, target["correlation"])


def _survival(metrics: Json) -> Iterator[Shown]:
    yield _row("C-index", "", metrics["c_index"])
    for edge in metrics["edges"]:
        until = f"{edge['time']:g} {metrics['unit']}"
        low, high = edge["observed_low"], edge["observed_high"]
        yield Shown("Observed risk", until, edge["observed"], low, high)
        yield Shown("Mean predicted risk", until, edge["predicted"])
        yield Shown("Brier score", until, edge["brier"])


_ROWS = {
    BINARY: _binary,
    "anomaly": _anomaly,
    "classes": _classes,
    "labels": _labels,
    "regression": _regression,
    "survival": _survival,
}


def _row(name: str, of: str, estimate: Json | None, unit: str = "") -> Shown:
    if estimate is None:
        return Shown(name, of, None, unit=unit)
    ends = (estimate["low"], estimate["high"], estimate["noise_low"], estimate["noise_high"])
    return Shown(name, of, estimate["value"], *ends, unit=unit)
