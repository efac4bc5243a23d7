"""`[dicom]` of hospitals/NAME.toml: which slices of a folder of DICOM files are records."""

from typing import Literal

from pydantic import Field

from wardround.study.contract import Frozen
from wardround_client.data.sources import SourceName

Fault = Literal[
    "unreadable", "duplicate", "no-patient", "frames", "mixed", "unplaced", "several-series"
]


class DicomFolder(Frozen):
    """`[dicom]`: which slices of the folder or .zip at `path` are records.

    Those of images of `modality`, and of series with one of `series_description`, if any is named;
    never localizers. A patient with several such series is a fault, or `series` takes the one with
    the most slices, or all; a frame of an enhanced object is a slice as a file is. `slices` is how
    many of a series, evenly over its length (1 is the one in the middle), instead of all;
    `between_mm` limits them before to places along the series' axis. What is wrong ends the
    reading, counted by name, unless it is in `leave_out`: then those files, series or patients are
    not used.
    """

    modality: Literal["CR", "CT", "DX", "MG", "MR"]
    series_description: tuple[SourceName, ...] = Field(default=(), max_length=1000)
    series: Literal["one", "longest", "all"] = "one"
    slices: int | None = Field(default=None, ge=1, le=10_000)
    between_mm: tuple[float, float] | None = None
    leave_out: tuple[Fault, ...] = ()
