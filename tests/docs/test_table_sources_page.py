"""The page's descriptions of Parquet, ARFF, a database and OMOP read real files and databases."""

import sqlite3
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from tests.docs.pages import FOLDER, Block, all_blocks, blocks
from tests.support import omop_from_mimic
from tests.support.described_data import contract
from tests.support.omop_questions import by_pandas
from tests.support.postgres import OWNER, cluster, url

from wardround.study.files import checked
from wardround_client.data.check import DataCheck, Verdict, check
from wardround_client.data.description import DatasetDescription
from wardround_client.data.reading import read_records
from wardround_client.data.sql_statement import single_query
from wardround_client.data.sql_table import QUERY_LIMIT_BYTES

PAGE = FOLDER / "data-sources.md"
AGE = {"name": "age", "kind": "continuous", "description": "x", "unit": "a", "range": [0, 120]}
LAB = {"kind": "continuous", "description": "x", "may_be_missing": True, "range": [0, 1000]}
SURGERY = contract(
    {"name": "infection", "description": "x", "positive": "infected"},
    [
        AGE,
        {**LAB, "name": "crp_day_2", "unit": "mg/L"},
        {"name": "urgent", "kind": "binary", "description": "x"},
    ],
)
ADMISSIONS = contract(
    {"name": "death", "description": "x", "positive": "died"},
    [
        AGE,
        {"name": "male", "kind": "binary", "description": "x"},
        {**LAB, "name": "creatinine", "unit": "mg/dL"},
        {**LAB, "name": "sodium", "unit": "meq/L"},
    ],
)
PATIENTS = pd.DataFrame(
    {
        "case": [f"c{n}" for n in range(20)],
        "wound_infected": [n % 3 == 0 for n in range(20)],
        "age": [40.0 + n for n in range(20)],
        "crp": [None if n > 8 else 1.5 * n for n in range(20)],
        "urgent": [n % 2 == 0 for n in range(20)],
    }
)


def block(key: str) -> Block:
    return next(b for b in blocks(PAGE) if b.language == "toml" and key in b.text)


def described(key: str, *changes: tuple[str, str]) -> DatasetDescription:
    """The block's description, with some lines replaced by others."""
    text = block(key).text
    for old, new in changes:
        assert f"{old}\n" in text
        text = text.replace(f"{old}\n", f"{new}\n")
    return checked(DatasetDescription, tomllib.loads(text), what=str(block(key)))


def seen(description: DatasetDescription, folder: Path, rows: int, agreed=SURGERY) -> DataCheck:
    found = check(description, agreed, folder)
    assert found.to_fix == ()
    assert found.verdict is not Verdict.NOT_READY
    assert found.rows == rows
    return found


def test_the_parquet_file_of_the_page_is_read(tmp_path: Path) -> None:
    PATIENTS.to_parquet(tmp_path / "surgery.parquet")
    found = seen(described('format = "parquet"'), tmp_path, 20)
    assert [column.missing for column in found.columns] == ["0", "11", "0"]
    assert (found.positive, found.negative) == ("7", "13")


ARFF = """% the page's columns
@relation surgery
@attribute case string
@attribute age numeric
@attribute 'wound infected' {no,yes}
@attribute "CRP, day 2" real
@attribute urgent {elective,as soon as possible}
@data
"""


def test_the_arff_file_of_the_page_is_read(tmp_path: Path) -> None:
    rows = (
        f"{p.case},{p.age},{'yes' if p.wound_infected else 'no'},"
        f"{'?' if pd.isna(p.crp) else p.crp},{'as soon as possible' if p.urgent else 'elective'}\n"
        for p in PATIENTS.itertuples()
    )
    (tmp_path / "surgery.arff").write_text(ARFF + "".join(rows))
    found = seen(described('format = "arff"'), tmp_path, 20)
    assert [column.missing for column in found.columns] == ["0", "11", "0"]
    assert (found.positive, found.negative) == ("7", "13")


def test_the_query_of_the_page_gives_what_its_description_says(tmp_path: Path) -> None:
    query = next(b.text for b in blocks(PAGE) if b.language == "sql")
    (tmp_path / "surgery.sql").write_text(query)
    with sqlite3.connect(tmp_path / "ward.sqlite") as connection:
        patients = PATIENTS.rename(columns={"case": "case_id", "wound_infected": "infected"})
        patients["operated_on"] = ["2021-12-31"] * 5 + ["2022-01-01"] * 15
        patients.drop(columns="crp").to_sql("patient", connection, index=False)
        lab = PATIENTS.rename(columns={"case": "case_id", "crp": "value"}).dropna()
        lab = lab.assign(code="CRP", day_after=2)[["case_id", "code", "day_after", "value"]]
        lab.to_sql("lab", connection, index=False)
    connection.close()
    description = described(
        'format = "sql"', ('url_variable = "LAKESIDE_WAREHOUSE"', 'database = "ward.sqlite"')
    )
    found = seen(description, tmp_path, 15)
    assert [column.missing for column in found.columns] == ["0", ">10", "0"]


def test_every_query_on_a_page_is_one_that_is_taken() -> None:
    queries = [each for each in all_blocks() if each.language == "sql"]
    assert queries
    for each in queries:
        assert len(each.text) < QUERY_LIMIT_BYTES
        assert single_query(each.text, each.page)


def test_the_omop_form_of_the_page_finds_the_patients_of_a_real_database(tmp_path: Path) -> None:
    omop_from_mimic.sqlite(tmp_path / "mercy.sqlite")
    description = described(
        "[omop]",
        ('url_variable = "LAKESIDE_OMOP"', 'database = "mercy.sqlite"'),
        ('schema = "cdm"', ""),
    )
    is_what_pandas_finds(description, tmp_path)


@pytest.mark.slow
def test_the_omop_form_of_the_page_is_read_as_it_stands(tmp_path, monkeypatch) -> None:
    with cluster() as server:
        engine = sa.create_engine(url(server, OWNER).replace("postgresql", "postgresql+psycopg"))
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE SCHEMA cdm"))
        omop_from_mimic.load(engine, "cdm", every_lab=True)
        engine.dispose()
        monkeypatch.setenv("LAKESIDE_OMOP", url(server, OWNER))
        is_what_pandas_finds(described("[omop]"), tmp_path)


def is_what_pandas_finds(description: DatasetDescription, folder: Path) -> None:
    found = seen(description, folder, 100, ADMISSIONS)
    assert (found.positive, found.negative) == ("33", "67")
    records = read_records(description, ADMISSIONS, folder)
    expected = by_pandas()
    assert list(records.patients) == [str(person) for person in expected.index]
    for column, own in (("creatinine", "creatinine_max"), ("sodium", "sodium_last")):
        pd.testing.assert_series_equal(
            records.values[column], expected[own].reset_index(drop=True), check_names=False
        )
    assert list(records.labels) == list(expected["died"])
