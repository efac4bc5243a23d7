"""Readers of what a hospital's tables come from: Parquet, ARFF, a query, the form for OMOP."""

import io
import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tests.fuzz.target import Target
from tests.fuzz.targets_masking import parsed

from wardround.canonical import canonical_bytes
from wardround.study.files import checked
from wardround_client.data.arff_table import read_arff
from wardround_client.data.omop_source import OmopSource
from wardround_client.data.parquet_table import read_parquet
from wardround_client.data.sql_statement import single_query
from wardround_client.data.table_source import Asked

_HANDLE, _NAME = tempfile.mkstemp(suffix=".parquet")
os.close(_HANDLE)

ARFF = """% a comment
@relation 'a ward'
@attribute id string
@attribute 'the age' numeric
@attribute stage {'stage I', "II, late" ,well differentiated}
@data
'p\\'1', 40.5,well differentiated
?,?,"II, late"
"""
QUERY = """-- the ward's patients; one row each
WITH ward AS (SELECT id, 'it''s ; no end' AS "odd;name", $a$;$a$ AS b FROM t /* ; */)
SELECT * FROM ward ORDER BY id;
"""
OMOP = {
    "cohort": {
        "table": "visit_occurrence",
        "concepts": [9201],
        "after": "2150-01-01",
        "exclude": [{"table": "condition_occurrence", "source_concepts": [1], "days": [-9, 0]}],
    },
    "columns": [
        {"name": "age", "table": "person", "value": "age"},
        {
            "name": "crp",
            "table": "measurement",
            "concepts": [3020460],
            "hours": [0, 24],
            "take": "last",
            "unit": 8751,
            "units": {"8840": {"scale": 10.0}},
        },
    ],
}


def parquet(**options: object) -> bytes:
    file = io.BytesIO()
    columns = {
        "id": ["p1", None, "p1"],
        "age": [40.5, None, 60],
        "time": pa.array([0, None, 1], pa.timestamp("us", "UTC")),
        "odd": [[1], None, [2]],
    }
    pq.write_table(pa.table(columns), file, **options)
    return file.getvalue()


def from_parquet(data: bytes) -> object:
    path = Path(_NAME)
    path.write_bytes(data)
    names = frozenset({"id", "age", "time"})
    return read_parquet(Asked(folder=path.parent, path=path.name, columns=names))


def from_arff(data: bytes) -> object:
    path = Path(_NAME)
    path.write_bytes(data)
    names = frozenset({"id", "the age", "stage"})
    return read_arff(Asked(folder=path.parent, path=path.name, columns=names))


TARGETS = (
    Target(name="arff", read=from_arff, seeds=lambda: [ARFF.encode()], json=False),
    Target(
        name="parquet",
        read=from_parquet,
        seeds=lambda: [parquet(), parquet(compression="none", use_dictionary=False)],
        json=False,
    ),
    Target(
        name="query",
        read=lambda data: single_query(data.decode(errors="replace"), "query.sql"),
        seeds=lambda: [QUERY.encode()],
        json=False,
    ),
    Target(
        name="omop-form",
        read=lambda data: checked(OmopSource, parsed(data), what="north.toml"),
        seeds=lambda: [canonical_bytes(OMOP)],
    ),
)
