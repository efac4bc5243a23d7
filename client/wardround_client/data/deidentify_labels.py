"""A table of labels under the names that the de-identified images have."""

import csv
import io
from pathlib import Path

from wardround.errors import BadInput, why
from wardround_client.data.deidentify_keys import Pseudonyms
from wardround_client.data.deidentify_sheet import write_private
from wardround_client.data.sources import CsvFormat
from wardround_client.data.text import read_text

PATIENT = "patient"


def write_labels(
    table: Path, out: Path, *, pseudonyms: Pseudonyms, patient: str, keep: tuple[str, ...]
) -> int:
    """Write `keep`'s columns of a CSV file beside each patient's pseudonym; how many rows.

    The column `patient` holds PatientIDs as the images had them. What is kept is copied as it is,
    so only whoever names it can know that it names nobody. Raises BadInput when a column is not
    there, a row has no patient, a PatientID stands in a kept column, or `out` is there.
    """
    frame = read_text(table.parent, table.name, CsvFormat())
    if absent := [name for name in (patient, *keep) if name not in frame.columns]:
        raise BadInput(f"{table.name}: no column {', '.join(map(repr, absent))}")
    if patient in keep or PATIENT in keep or not keep:
        raise BadInput(f"{table.name}: other columns than {patient!r} are due, none named patient")
    keys = frame[patient]
    if empty := int((keys == "").sum()):
        raise BadInput(f"{table.name}: {empty} of {len(keys)} rows have no patient")
    named = [name for name in keep if frame[name].isin(set(keys)).any()]
    if named:
        raise BadInput(f"{table.name}: column {', '.join(named)}: a value is somebody's PatientID")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([PATIENT, *keep])
    rows = sorted(zip(map(pseudonyms.patient, keys), *(frame[name] for name in keep), strict=True))
    writer.writerows(rows)
    try:
        write_private(out, buffer.getvalue().encode())
    except OSError as error:
        raise BadInput(f"{out.name}: cannot be made ({why(error)})") from None
    return len(rows)
