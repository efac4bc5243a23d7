"""Measurements over time from Parquet and from a database are those of a CSV file."""

import sqlite3
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pytest
from tests.support.described_data import contract, description, encoded, refusal
from tests.support.postgres import OWNER, cluster, url
from tests.support.study_plans import BINARY

from wardround.errors import BadInput
from wardround_client.data.table import read_tables
from wardround_client.prediction.described import read_described

PULSE = {"name": "pulse", "kind": "series", "description": "x", "unit": "/min", "range": [0, 200]}
AGREED = contract(BINARY, [PULSE], grid={"steps": 4, "step": 2.0, "unit": "h"})
SOURCES = [{"column": "pulse", "source": "HR", "unit": "/min"}]
RULE = {"source": "y", "positive_when": ">0"}
COLUMNS = {"key": "stay", "record": "stay", "time": "t", "variable": "what", "value": "v"}
MAIN = pd.DataFrame({"id": ["b", "a"], "stay": ["s2", "s1"], "y": [1, 0]})
LONG = pd.DataFrame(
    {
        "stay": ["s1", "s1", "s2", "s9"],
        "t": [3.5, 0.0, 7.25, 1.0],
        "what": ["HR", "HR", "HR", "HR"],
        "v": [100.0, None, 62.5, 70.0],
        "nobody": [1, 2, 3, 4],
    }
)
DATABASE = {"format": "sql", "path": "main.sql", "sql": {"database": "ward.sqlite"}}


def described(file: str, **more):
    suffix = file.rpartition(".")[2]
    series = {**COLUMNS, "path": file, "format": suffix}
    return description(RULE, SOURCES, series=series, **more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    MAIN.to_csv(tmp_path / "main.csv", index=False)
    LONG.to_csv(tmp_path / "long.csv", index=False)
    LONG.to_parquet(tmp_path / "long.parquet")
    with sqlite3.connect(tmp_path / "ward.sqlite") as connection:
        MAIN.to_sql("main", connection, index=False)
        LONG.to_sql("long", connection, index=False)
    connection.close()
    (tmp_path / "main.sql").write_text("SELECT * FROM main ORDER BY id")
    (tmp_path / "long.sql").write_text("SELECT stay, t, what, v FROM long ORDER BY stay, t")
    return tmp_path


@pytest.mark.parametrize(("file", "more"), [("long.parquet", {}), ("long.sql", DATABASE)])
def test_they_stand_on_the_grid_as_those_of_a_csv_file(folder, file, more):
    expected = encoded(described("long.csv"), AGREED, folder)
    found = encoded(described(file, **more), AGREED, folder)
    assert found.patients == expected.patients == ("a", "b")
    np.testing.assert_array_equal(found.features, expected.features)
    assert len(np.unique(found.features)) > 2


def test_a_fault_is_told_of_whom_it_is_from_the_lines_that_were_read(folder):
    with sqlite3.connect(folder / "ward.sqlite") as connection:
        connection.execute("UPDATE long SET v = 900 WHERE stay = 's2'")
    connection.close()
    own = described("long.sql", **DATABASE)
    assert "1 of 3 measurements outside 0..200 /min" in refusal(own, AGREED, folder)
    found = read_described(own, AGREED, folder)
    assert list(found.outside) == ["b"]
    assert found.records.patients == ("a",)


def test_lines_of_a_database_are_those_of_the_rows_database():
    with pytest.raises(BadInput, match="with a main table of the same database"):
        described("long.sql")
    series = {**COLUMNS, "path": "x", "format": "parquet", "pattern": "{a}.txt"}
    with pytest.raises(BadInput, match="`pattern` belongs to text files"):
        description(RULE, SOURCES, series=series)


@pytest.mark.slow
def test_rows_and_lines_are_of_one_state_of_the_database(tmp_path, monkeypatch):
    """Somebody writes while the first query runs; the second one does not see it."""
    with cluster() as server, psycopg.connect(url(server, OWNER), autocommit=True) as connection:
        connection.execute("CREATE TABLE long (stay text, t float, what text, v float)")
        connection.execute("INSERT INTO long VALUES ('s1', 1, 'HR', 60)")
        query = "SELECT 'a' AS id, 's1' AS stay, 1 AS y, (pg_sleep(2))::text AS waited"
        (tmp_path / "main.sql").write_text(query)
        (tmp_path / "long.sql").write_text("SELECT * FROM long")
        monkeypatch.setenv("WARD", url(server, OWNER))
        more = {**DATABASE, "sql": {"url_variable": "WARD"}}
        insert = "INSERT INTO long VALUES ('s1', 2, 'HR', 61)"
        writer = threading.Timer(1.0, connection.execute, [insert])
        writer.start()
        first = read_tables(described("long.sql", **more), tmp_path)
        writer.join()
        assert connection.execute("SELECT count(*) FROM long").fetchone() == (2,)
        assert len(first.lines) == 1
        (tmp_path / "main.sql").write_text(query.replace("pg_sleep(2)", "pg_sleep(0)"))
        assert len(read_tables(described("long.sql", **more), tmp_path).lines) == 2
