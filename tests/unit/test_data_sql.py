"""SQL at the hospital, by SQLite: one query that only reads, within bounds, silent of records."""

import sqlite3
import stat
import traceback
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sqlalchemy import make_url
from tests.support.described_data import contract, description, encoded, refusal

from wardround.errors import BadInput
from wardround_client.data.check import Verdict, check
from wardround_client.data.database import opened, tls
from wardround_client.data.sql_source import SqlSource
from wardround_client.data.sql_statement import single_query
from wardround_client.data.sql_table import read_sql
from wardround_client.data.table_source import Asked

SECRET = "Meier-9173"
PASSWORD = "geheim-4711"
LABEL = {"name": "sick", "description": "x", "positive": "y > 0"}
RULE = {"source": "y", "positive_when": ">0"}
FILE = SqlSource(database="ward.sqlite")


@pytest.fixture
def folder(tmp_path):
    with sqlite3.connect(tmp_path / "ward.sqlite") as connection:
        connection.execute("CREATE TABLE ward (id TEXT, age REAL, y INT, note)")
        rows = [("p1", 40.0, 0, " a "), ("p2", 50.5, 2, None), ("p1", None, 0, 7), ("p3", 60, 1, 1)]
        connection.executemany("INSERT INTO ward VALUES (?, ?, ?, ?)", rows)
    connection.close()
    return tmp_path


def asked(folder: Path, query: str) -> Asked:
    (folder / "ward.sql").write_text(query)
    return Asked(folder=folder, path="ward.sql", columns=frozenset())


def read(folder: Path, query: str, source: SqlSource = FILE) -> pd.DataFrame:
    return run(asked(folder, query), source)


def run(asked_for: Asked, source: SqlSource = FILE) -> pd.DataFrame:
    with opened(source, asked_for.folder) as connection:
        return read_sql(connection, source, asked_for)


def why(folder: Path, query: str, source: SqlSource = FILE) -> str:
    """The refusal; nothing of a record or a URL is in it, nor in what would be printed of it."""
    with pytest.raises(BadInput) as caught:
        read(folder, query, source)
    printed = "".join(traceback.format_exception(caught.value))
    assert SECRET not in printed
    assert PASSWORD not in printed
    return str(caught.value)


def test_the_rows_of_a_query_are_text_as_it_stands_in_an_export(folder):
    query = (
        "SELECT *, '10:30 %s :note' AS free -- ;\nFROM ward WHERE age IS NOT NULL ORDER BY id;\n"
    )
    assert read(folder, query).to_dict("list") == {
        "id": ["p1", "p2", "p3"],
        "age": ["40.0", "50.5", "60.0"],
        "y": ["0", "2", "1"],
        "note": ["a", "", "1"],
        "free": ["10:30 %s :note"] * 3,
    }


def test_a_study_sees_what_it_sees_in_a_csv_file_of_the_same_rows(folder):
    query = "SELECT id, age, y FROM ward WHERE age IS NOT NULL ORDER BY id"
    read(folder, query).to_csv(folder / "main.csv", index=False)
    described = description(RULE, format="sql", path="ward.sql", sql={"database": "ward.sqlite"})
    one = encoded(described, contract(LABEL), folder)
    other = encoded(description(RULE), contract(LABEL), folder)
    assert one.patients == other.patients == ("p1", "p2", "p3")
    np.testing.assert_array_equal(one.features, other.features)
    np.testing.assert_array_equal(one.labels, other.labels)
    seen = check(described, contract(LABEL), folder)
    assert (seen.verdict, seen.path, seen.rows) == (Verdict.READY, "ward.sql", 3)


def test_values_of_the_wrong_type_are_counted_as_in_every_file(folder):
    described = description(RULE, format="sql", path="ward.sql", sql={"database": "ward.sqlite"})
    asked(folder, f"SELECT id, y, CASE WHEN y = 2 THEN '{SECRET}' ELSE 40 END AS age FROM ward")
    said = refusal(described, contract(LABEL), folder)
    assert said == "ward.sql: column age: 1 of 4 values are not numbers"
    asked(folder, "SELECT id, y, x'00' AS age FROM ward")
    assert check(described, contract(LABEL), folder).to_fix == (
        "ward.sql: column 'age': 4 values are neither text nor numbers, times, or yes and no",
    )
    asked(folder, "SELECT id, y FROM ward")
    assert "column age: the file has no column 'age'" in refusal(described, contract(LABEL), folder)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT 1; DROP TABLE ward", "more than one statement"),
        ("SELECT 1;;", "more than one statement"),
        ("SELECT ';' AS a; -- fine\n/* ; */ DELETE FROM ward", "more than one statement"),
        ("DELETE FROM ward", "a query is due"),
        ("PRAGMA query_only = OFF", "a query is due"),
        ("ATTACH 'x' AS y", "a query is due"),
        ("", "a query is due"),
        ("SELECT 'a", "not closed"),
        ("SELECT 1 /* /* */ ; DELETE FROM ward; */", "not closed, or nested"),
        ("SELECT 1 AS a, 2 AS a", "names a column twice"),
        ("SELECT 1 WHERE 0", "gives no row"),
        ("WITH a AS (SELECT 1) DELETE FROM ward", "and may only read"),
        ("WITH a AS (SELECT 1) UPDATE ward SET y = 9", "and may only read"),
        ("SELECT load_extension('x')", "the database refused"),
        ("SELECT * FROM nowhere", "no such table: nowhere"),
        ("SELECT weight FROM ward", "no such column: weight"),
        (f"SELECT '{SECRET}' FROM FROM", "the database refused"),
        ("SELECT CAST(x'4dfc6c6c6572' AS TEXT) AS name", "a text in it is not UTF-8"),
        ("SELECT zeroblob(100000000)", "a field is too large"),
    ],
)
def test_what_is_no_single_query_that_reads_is_refused_and_nothing_is_changed(folder, query, said):
    before = (folder / "ward.sqlite").read_bytes()
    assert said in why(folder, query)
    assert (folder / "ward.sqlite").read_bytes() == before


def test_the_closing_semicolon_may_stand_before_a_comment():
    assert single_query("SELECT 1 ; -- all; of them\n", "x.sql") == "SELECT 1"
    assert single_query("(SELECT $a$;$a$, E'\\';')", "x.sql") == "(SELECT $a$;$a$, E'\\';')"


def test_a_view_that_breaks_midway_gives_nothing_and_quotes_nothing(folder):
    with sqlite3.connect(folder / "ward.sqlite") as connection:
        connection.execute(
            "CREATE VIEW bad AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
            f"WHERE i < 9000) SELECT i, CASE WHEN i > 5000 THEN json('{SECRET}') END AS j FROM n"
        )
    connection.close()
    assert "the database refused (OperationalError, SQLITE_ERROR)" in why(
        folder, "SELECT * FROM bad"
    )


COUNTING = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT {}"


def test_ten_million_rows_end_at_the_bound(folder):
    few = SqlSource(database="ward.sqlite", most_rows=20_000)
    tracemalloc.start()
    assert why(folder, COUNTING.format(10_000_000, "i FROM n"), few) == "ward.sql: over 20000 rows"
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    assert len(read(folder, COUNTING.format(20_000, "i FROM n"), few)) == 20_000


def test_a_query_that_takes_too_long_is_ended(folder):
    short = SqlSource(database="ward.sqlite", timeout_s=1)
    query = COUNTING.format(10_000_000_000, "count(*) FROM n")
    assert "took longer than `timeout_s`" in why(folder, query, short)


def test_a_file_that_is_no_database_or_is_not_there_is_refused(tmp_path):
    (tmp_path / "ward.sqlite").write_text(SECRET * 1000)
    assert "no SQLite database" in why(tmp_path, "SELECT * FROM ward")
    (tmp_path / "ward.sqlite").unlink()
    assert "no such file" in why(tmp_path, "SELECT 1")
    assert not (tmp_path / "ward.sqlite").exists()


def test_a_query_of_another_folder_or_of_no_text_is_refused(folder):
    asked_for = asked(folder, "SELECT 1")
    (folder / "ward.sql").write_bytes("SELECT 'Müller'".encode("latin-1"))
    with pytest.raises(BadInput, match=r"ward.sql: cannot be read \(not UTF-8 text\)"):
        run(asked_for)
    (folder / "ward.sql").unlink()
    with pytest.raises(BadInput, match="no such file"):
        run(asked_for)


URLS = (
    f"postgresql://me:{PASSWORD}@localhost:1/ward",
    f"postgresql://me:{PASSWORD}@:port/ward",
    f"mysql://me:{PASSWORD}@localhost/ward",
    f"sqlite:///{PASSWORD}",
    PASSWORD,
)


@pytest.mark.parametrize("url", URLS)
def test_a_url_with_its_password_is_in_no_error(folder, monkeypatch, url):
    monkeypatch.setenv("WARD_URL", url)
    said = why(folder, "SELECT 1", SqlSource(url_variable="WARD_URL"))
    assert said.startswith("sql: the URL in the variable WARD_URL")
    assert url not in said
    (folder / "url").write_text(url)
    (folder / "url").chmod(0o600)
    said = why(folder, "SELECT 1", SqlSource(url_file="url"))
    assert said.startswith("sql: the URL in url")


def test_a_url_that_is_not_there_or_that_others_can_read_is_refused(folder, monkeypatch):
    monkeypatch.delenv("WARD_URL", raising=False)
    assert "the variable WARD_URL is not set" in why(
        folder, "SELECT 1", SqlSource(url_variable="WARD_URL")
    )
    (folder / "url").write_text(URLS[0])
    (folder / "url").chmod(0o640)
    assert stat.S_IMODE((folder / "url").stat().st_mode) == 0o640
    assert "`chmod 600` is due" in why(folder, "SELECT 1", SqlSource(url_file="url"))
    (folder / "url").write_text("x" * 20_000)
    (folder / "url").chmod(0o600)
    assert "over 10000 bytes" in why(folder, "SELECT 1", SqlSource(url_file="url"))


def test_a_description_has_no_place_for_a_url_and_names_one_of_three():
    for wrong in (
        {},
        {"url": URLS[0]},
        {"database": "a", "url_file": "b"},
        {"url_variable": "a b"},
    ):
        with pytest.raises(ValidationError):
            SqlSource.model_validate(wrong)
    with pytest.raises(BadInput, match="`sql` belongs to format sql"):
        description(RULE, format="sql", path="ward.sql")
    with pytest.raises(BadInput, match="`sql` belongs to format sql"):
        description(RULE, sql={"database": "ward.sqlite"})


def test_a_server_elsewhere_shows_a_certificate_unless_the_url_says_otherwise():
    whole = {"sslmode": "verify-full", "sslrootcert": "system"}
    asked_of = {
        "postgresql://u:p@db.example/ward": whole,
        "postgresql://u:p@db.example/ward?sslrootcert=own.pem": {"sslmode": "verify-full"},
        "postgresql://u:p@/ward?host=db.example": {
            "sslmode": "verify-full",
            "sslrootcert": "system",
        },
        "postgresql://u:p@db.example/ward?sslmode=require": {},
        "postgresql://u:p@localhost/ward": {},
        "postgresql://u:p@/ward?host=/run/postgresql": {},
    }
    assert {url: tls(make_url(url)) for url in asked_of} == asked_of
