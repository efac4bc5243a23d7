"""Parquet files as text: the columns that are used, within bounds, as a CSV file would have them.

(Apache Parquet, format specification; read by pyarrow, which the extra `parquet` brings.)
"""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from wardround.errors import BadInput
from wardround_client.data.sources import file_inside
from wardround_client.data.table_source import Asked, Bound, as_text, text_table
from wardround_client.data.text import TABLE_LIMIT_BYTES

_ENCRYPTED = b"PARE"
_BATCH_ROWS = 1 << 13
_LIMITS = {"thrift_string_size_limit": 64 << 20, "thrift_container_size_limit": 1_000_000}


def read_parquet(asked: Asked) -> pd.DataFrame:
    """The asked columns of one file as stripped text, "" where a value is missing.

    Raises BadInput when the file is missing, too large, encrypted, cut off or no Parquet; when it
    has no rows; when a column in use is nested or of a kind that is no text, number, time or yes
    and no. What is not asked for is not unpacked.
    """
    path = file_inside(asked.folder, asked.path)
    _look_at_size(path, asked.path)
    arrow, parquet = _libraries(asked.path)
    try:
        with parquet.ParquetFile(path, **_LIMITS) as file:
            names = _looked_at(file, asked, arrow)
            texts = [name for name in names if _is_text(file.schema_arrow.field(name).type, arrow)]
        # Opened again, now with texts kept as the file packs them: each once, and where it stands.
        with parquet.ParquetFile(
            path, read_dictionary=texts, page_checksum_verification=True, **_LIMITS
        ) as file:
            columns = _columns(file, names, asked.path, arrow)
    except UnicodeDecodeError:
        raise BadInput(f"{asked.path}: not UTF-8 text") from None
    # pyarrow's own errors are ValueErrors, OSErrors and of most other kinds that Python has
    except (ValueError, OSError, LookupError, RuntimeError, MemoryError, TypeError) as error:
        raise BadInput(
            f"{asked.path}: cannot be read as Parquet ({type(error).__name__}): it is cut off, "
            "damaged, encrypted, or packed in a way that is not known here"
        ) from None
    return text_table(columns)


def _libraries(path: str) -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow as pa  # noqa: PLC0415  # an extra: who has no Parquet goes without
        import pyarrow.parquet as pq  # noqa: PLC0415  # the same
    except ImportError:
        raise BadInput(f"{path}: Parquet is read by pyarrow: install the extra `parquet`") from None
    return pa, pq


def _look_at_size(path: Path, name: str) -> None:
    size = path.stat().st_size
    if size > TABLE_LIMIT_BYTES:
        raise BadInput(f"{name}: over {TABLE_LIMIT_BYTES} bytes")
    with path.open("rb") as file:
        if file.read(len(_ENCRYPTED)) == _ENCRYPTED:
            raise BadInput(f"{name}: the file is encrypted, export it without")


def _looked_at(file: Any, asked: Asked, arrow: ModuleType) -> list[str]:
    """The names of the asked columns, after what the footer says was found to be in order.

    Sizes of columns in the footer are left alone: of an encrypted one pyarrow ends the process.
    """
    schema, metadata = file.schema_arrow, file.metadata
    names = _asked_names(schema, asked)
    _look_at_columns(schema, names, asked.path, arrow)
    if metadata.num_rows == 0:
        raise BadInput(f"{asked.path}: the file has no rows")
    Bound(asked.path).rows(metadata.num_rows)
    return names


def _asked_names(schema: Any, asked: Asked) -> list[str]:
    names = [name for name in schema.names if name in asked.columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadInput(f"{asked.path}: the file names a column twice: {', '.join(twice)}")
    if not names:
        raise BadInput(f"{asked.path}: the file has none of the columns that are described")
    return names


def _look_at_columns(schema: Any, names: Sequence[str], path: str, arrow: ModuleType) -> None:
    strange = [
        f"{name!r} is {_family(schema.field(name).type, arrow)}"
        for name in names
        if not _is_plain(schema.field(name).type, arrow.types)
    ]
    if strange:
        due = "text, numbers, times, or yes and no are due, one a row"
        raise BadInput(f"{path}: column {', '.join(strange)}, but {due}")


def _is_plain(kind: Any, types: ModuleType) -> bool:
    if types.is_dictionary(kind):
        return _is_plain(kind.value_type, types)
    text = (types.is_string, types.is_large_string, types.is_null)
    numbers = (types.is_boolean, types.is_integer, types.is_floating, types.is_decimal)
    times = (types.is_timestamp, types.is_date, types.is_time)
    return any(test(kind) for test in (*text, *numbers, *times))


def _is_text(kind: Any, arrow: ModuleType) -> bool:
    return bool(arrow.types.is_string(kind) or arrow.types.is_large_string(kind))


def _family(kind: Any, arrow: ModuleType) -> str:
    return "nested" if arrow.types.is_nested(kind) else f"of the kind {kind}"


def _columns(file: Any, names: Sequence[str], path: str, arrow: ModuleType) -> dict[str, list[str]]:
    columns: dict[str, list[str]] = {name: [] for name in names}
    bound, rows = Bound(path), 0
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=list(names), use_threads=False):
        bound.rows(batch.num_rows)
        rows += batch.num_rows
        for name in names:
            columns[name] += _texts(batch.column(name), bound, arrow)
    if rows != file.metadata.num_rows:
        raise BadInput(f"{path}: {rows} rows came, the file says {file.metadata.num_rows}")
    return columns


def _texts(array: Any, bound: Bound, arrow: ModuleType) -> list[str]:
    """One column of one batch; a text that stands in many rows is unpacked once."""
    if _is_text(array.type, arrow):
        array = array.dictionary_encode()
    if not arrow.types.is_dictionary(array.type):
        texts = _plain_texts(array, arrow)
    else:
        different = [*_plain_texts(array.dictionary, arrow), ""]
        # Of a missing value the place is the last one, where the empty text is.
        places = array.indices.fill_null(len(different) - 1).to_pylist()
        texts = [different[place] for place in places]
    bound.cells(len(texts), sum(map(len, texts)))
    return texts


def _plain_texts(values: Any, arrow: ModuleType) -> list[str]:
    kind = values.type
    if arrow.types.is_timestamp(kind):
        # Python's times end at a microsecond. One with a zone is kept in UTC as it is.
        zone = "UTC" if kind.tz is not None else None
        values = values.cast(arrow.timestamp("us", zone), safe=False)
    elif arrow.types.is_floating(kind) and kind.bit_width < 64:
        # As few digits as tell a short float apart; as a long one 0.1 would have seventeen.
        numbers = values.to_numpy(zero_copy_only=False)
        return ["" if np.isnan(one) else str(one) for one in numbers]
    return [as_text(one) or "" for one in values.to_pylist()]
