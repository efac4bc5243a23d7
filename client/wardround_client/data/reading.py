"""Reads a hospital's records: all faults are collected and told together, in counts.

No message holds a value: a count, a column of the contract and what was due are enough to fix it.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from wardround.errors import BadInput
from wardround.study.contract import Contract
from wardround_client.data.description import DatasetDescription, ImageFiles
from wardround_client.data.examination import examine


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Checked records in the contract's terms: one row a record, missing as NaN or None.

    `labels` is [records] of 0, 1 (binary) or class numbers, [records, 2] of time and event,
    [records, targets] with NaN where one is missing, or [records, 0]. `series` is [records, steps]
    for each column that is measured over time.
    """

    patients: tuple[str, ...] = field(repr=False)
    values: pd.DataFrame = field(repr=False)
    labels: npt.NDArray[np.int8] | npt.NDArray[np.float64] = field(repr=False)
    folder: Path
    remarks: tuple[str, ...] = ()
    series: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict, repr=False)
    images: ImageFiles = field(default_factory=ImageFiles)


def read_records(description: DatasetDescription, contract: Contract, folder: Path) -> Records:
    """Read the records that `description` describes, as `contract` wants them.

    Raises one BadInput with all faults together, each counted. A label with one class and
    repeated rows are remarks: training goes on.
    """
    seen = examine(description, contract, folder)
    if seen.faults:
        raise BadInput(f"{description.path}: " + "; ".join(seen.faults))
    return Records(
        patients=seen.patients,
        values=seen.values,
        labels=seen.labels.astype(np.int8) if seen.labels.ndim == 1 else seen.labels,
        folder=folder,
        remarks=seen.remarks,
        series=seen.series,
        images=description.images,
    )
