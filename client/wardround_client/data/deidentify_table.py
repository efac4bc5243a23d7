"""What identifies a patient in a DICOM file, and what the standard does with it (PS3.15 E.1-1)."""

import csv
import functools
from collections.abc import Mapping
from importlib.resources import files
from typing import NamedTuple

EDITION = "2023b"
REMOVED = "X"


class Attribute(NamedTuple):
    """One row of the table: the attribute and the action of the Basic Profile.

    X removes, Z empties, D puts a dummy there, U another UID; of several the first that the image
    object allows. A star says "and what is nested in it".
    """

    tag: int
    keyword: str
    action: str


@functools.cache
def profile() -> Mapping[str, Attribute]:
    """The attributes of table E.1-1 by keyword, those that have a tag of their own.

    The four rows without one are rules about groups: private attributes (odd groups), curves
    (50xx) and overlays (60xx) are removed whole.
    """
    text = files("wardround_client.data").joinpath("deidentify_table.csv").read_text("ascii")
    rows = csv.DictReader(text.splitlines())
    found = (Attribute(int(row["tag"], 16), row["keyword"], row["action"]) for row in rows)
    return {attribute.keyword: attribute for attribute in found}
