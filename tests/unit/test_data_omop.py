"""OMOP CDM 5.4 on MIMIC's demo (100 real patients) in SQLite; pandas answers from the CSV files."""

import re
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy.dialects import postgresql, sqlite
from tests.support import omop_from_mimic
from tests.support.described_data import contract, description, encoded, refusal
from tests.support.omop_questions import (
    CONCEPTS,
    ITEMS,
    RANGES,
    UNIT_CONCEPTS,
    UNITS,
    by_pandas,
    form,
    lab,
    local,
)

from wardround.errors import BadInput
from wardround.study.files import checked
from wardround_client.data.check import Verdict, check
from wardround_client.data.database import opened
from wardround_client.data.description import DatasetDescription
from wardround_client.data.omop_query import faults, people, values
from wardround_client.data.omop_source import EventColumn, OmopSource
from wardround_client.data.omop_table import read_omop
from wardround_client.data.sql_source import SqlSource
from wardround_client.data.table_source import Asked

FILE = "mercy.sqlite"
LABEL = {"name": "died", "description": "death in the hospital", "positive": "died > 0"}
RULE = {"source": "died", "positive_when": ">0"}


@pytest.fixture(scope="module")
def mimic(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mimic")
    omop_from_mimic.sqlite(folder / FILE)
    return folder


def read(folder: Path, value: dict) -> pd.DataFrame:
    omop = checked(OmopSource, value, what="omop")
    names = frozenset(column.name for column in omop.columns)
    asked = Asked(folder=folder, path="omop", columns=names)
    source = SqlSource(database=FILE)
    with opened(source, folder) as connection:
        return read_omop(connection, omop, source, asked)


def asked_of(folder: Path, *columns: dict, **cohort: object) -> dict[str, list[str]]:
    """One cohort's columns, without the one that names the person."""
    default = {"table": "visit_occurrence", "concepts": [9201, 262]}
    table = read(folder, {"cohort": {**default, **cohort}, "columns": list(columns)})
    return table.set_index("person_id").to_dict("list")


def why(folder: Path, *columns: dict, **cohort: object) -> str:
    with pytest.raises(BadInput) as caught:
        asked_of(folder, *columns, **cohort)
    return str(caught.value)


def test_every_column_is_what_pandas_finds_in_the_csv_files(mimic):
    found, expected = read(mimic, form()), by_pandas()
    assert list(found["person_id"]) == [str(person) for person in expected.index]
    for name in expected:
        own = pd.to_numeric(found[name].replace("", np.nan)).to_numpy(dtype=np.float64)
        exact = {} if name.endswith("mean") else {"rtol": 0}
        np.testing.assert_allclose(own, expected[name].astype(np.float64), err_msg=name, **exact)
    assert expected["died"].sum() == 33
    assert expected["crp"].notna().sum() == 2


def risk_study() -> tuple:
    """Death in the hospital from the first day's laboratory values: contract and both sources."""
    columns, sources = [], []
    for name in ITEMS:
        unit, low_high = UNITS[name], list(RANGES[name])
        columns.append(
            {"name": name, "kind": "continuous", "description": "x", "unit": unit}
            | {"range": low_high, "may_be_missing": True}
        )
        sources.append({"column": name, "source": f"{name}_last", "unit": unit})
    columns.append(
        {"name": "age", "kind": "continuous", "description": "x", "unit": "a", "range": [0, 120]}
    )
    sources.append({"column": "age", "source": "age", "unit": "a", "out_of_range": "nearest"})
    columns.append({"name": "male", "kind": "binary", "description": "x"})
    sources.append({"column": "male", "source": "gender", "values": {"8507": "1", "8532": "0"}})
    return contract(LABEL, columns), sources


def test_a_hospital_reads_from_omop_what_it_reads_from_a_csv_file_of_the_same_patients(mimic):
    agreed, sources = risk_study()
    by_pandas().rename_axis("person_id").to_csv(mimic / "mercy.csv")
    patient = {"source": "person_id"}
    from_csv = description(RULE, sources, path="mercy.csv", patient=patient)
    wanted = [
        {"name": "age", "table": "person", "value": "age"},
        {"name": "gender", "table": "person", "value": "gender"},
        {"name": "died", "table": "death", "within": "visit", "take": "any"},
        *(lab(name) for name in ITEMS),
    ]
    omop = {"cohort": form()["cohort"], "columns": wanted}
    from_omop = described(RULE, sources, omop=omop)
    one, other = encoded(from_csv, agreed, mimic), encoded(from_omop, agreed, mimic)
    assert one.patients == other.patients
    assert len(one.patients) == 100
    np.testing.assert_array_equal(one.features, other.features)
    np.testing.assert_array_equal(one.labels, other.labels)
    seen = check(from_omop, agreed, mimic)
    assert (seen.rows, seen.path, seen.verdict) == (100, "omop", Verdict.READY_WITH_REMARKS)
    assert seen.columns[0].source == "creatinine_last"
    assert [c.missing for c in seen.columns] == ["<5"] * 4 + ["0", "0"]
    assert [remark[:10] for remark in seen.remarks] == ["column age"]


def described(rule, sources, **more):
    own = {"format": "omop", "sql": {"database": FILE}, "patient": {"source": "person_id"}}
    names = {"hospital": "mercy", "dataset": "mercy-all", "title": "Mercy", "label": rule}
    value = {"schema": "wardround.dataset/1", **names, **own, "columns": sources, **more}
    return checked(DatasetDescription, value, what="mercy.toml")


def test_a_value_in_a_unit_that_is_not_due_is_counted_and_refused(mimic):
    """Of 284 real values some are in EU/dL and some in mg/dL, which cannot be converted."""
    column = {
        "name": "urobilinogen",
        "table": "measurement",
        "source_concepts": [local(51514)],
        "days": [-100_000, 100_000],
        "take": "last",
        "unit": UNIT_CONCEPTS["mg/dL"],
    }
    said = why(mimic, column)
    found = re.search(r"column urobilinogen: (\d+) of (\d+) values are in another unit", said)
    lines = [x for x in omop_from_mimic.lines("labevents") if x["itemid"] == "51514"]
    known = [line for line in lines if line["valuenum"]]
    strange = [line for line in known if line["valueuom"] != "mg/dL"]
    assert [int(found[1]), int(found[2])] == [len(strange), len(known)]
    age = [{"column": "age", "source": "urobilinogen", "unit": "a"}]
    rule = {"source": "urobilinogen", "positive_when": ">0"}
    omop = {"cohort": form()["cohort"], "columns": [column]}
    told = refusal(described(rule, age, omop=omop), contract(LABEL), mimic)
    assert told.startswith("omop: column urobilinogen: ")


def test_ids_and_numbers_are_parameters_and_nothing_is_pasted_into_a_statement():
    value = form("cdm")
    value["cohort"] = {
        **value["cohort"],
        "after": "2150-01-01",
        "require": [{"table": "condition_occurrence", "concepts": [1234567], "days": [-9, 0]}],
        "exclude": [{"table": "death", "days": [0, 77], "at_least": 2}],
    }
    omop = checked(OmopSource, value, what="omop")
    events = [column for column in omop.columns if isinstance(column, EventColumn)]
    numbers = [column for column in events if column.is_number]
    queries = [
        people(omop),
        *(values(omop, c) for c in events),
        *(faults(omop, c) for c in numbers),
    ]
    for query in queries:
        for dialect in (postgresql.dialect(), sqlite.dialect()):
            text = str(query.compile(dialect=dialect))
            assert not re.search(r"\d{3}|'20|1234567", text), text
            assert "cdm.visit_occurrence" in text


# One person and what happened; the index is the visit of 2150-03-01, 12:00.
PERSON = {"person_id": 1, "gender_concept_id": 8507, "year_of_birth": 2100}
VISIT = {"visit_occurrence_id": 1, "person_id": 1, "visit_concept_id": 9201}
TIMES = {"visit_start_date": "2150-03-01", "visit_start_datetime": "2150-03-01 12:00:00"}
END = {"visit_end_date": "2150-03-05"}
CREATININE = lab("creatinine")


def ward(folder: Path, **tables: list[dict]) -> Path:
    """A database of SQLite with these rows."""
    whole = {"person": [PERSON], "visit_occurrence": [{**VISIT, **TIMES, **END}], **tables}
    with sqlite3.connect(folder / FILE) as connection:
        for name, columns in omop_from_mimic.COLUMNS.items():
            connection.execute(f"CREATE TABLE {name} ({', '.join(columns)})")
            for row in whole.get(name, []):
                marks = ", ".join("?" * len(row))
                connection.execute(
                    f"INSERT INTO {name} ({', '.join(row)}) VALUES ({marks})", tuple(row.values())
                )
    connection.close()
    return folder


def value(number: object, time: str, row: int = 1, **more: object) -> dict:
    own = {"measurement_id": row, "person_id": 1, "measurement_concept_id": CONCEPTS["creatinine"]}
    when = {"measurement_date": time[:10], "measurement_datetime": time}
    return {**own, **when, "value_as_number": number, "unit_concept_id": 8840, **more}


def test_hours_count_from_the_index_up_to_without_the_last(tmp_path):
    rows = [
        value(1.0, "2150-03-01 11:59:59", 1),
        value(2.0, "2150-03-01 12:00:00", 2),
        value(3.0, "2150-03-02 11:59:59", 3),
        value(4.0, "2150-03-02 12:00:00", 4),
        value(5.0, "2150-03-01 13:00:00", 5, measurement_datetime=None),
    ]
    ward(tmp_path, measurement=rows)
    takes = [{**CREATININE, "name": take, "take": take} for take in ("first", "last", "mean")]
    assert asked_of(tmp_path, *takes) == {"first": ["2.0"], "last": ["3.0"], "mean": ["2.5"]}


def test_days_count_by_the_date_with_both_ends_and_a_visit_has_its_own(tmp_path):
    days = ["2150-02-28", "2150-03-01", "2150-03-05", "2150-03-06"]
    rows = [value(n, f"{day} 00:00:00", n) for n, day in enumerate(days)]
    ward(tmp_path, measurement=rows)
    count = {"table": "measurement", "concepts": [CONCEPTS["creatinine"]], "take": "count"}
    windows = {
        "before": {"days": [-1, -1]},
        "from_index": {"days": [0, 4]},
        "visit": {"within": "visit"},
        "never": {"days": [-9, -5]},
    }
    columns = [{"name": name, **count, **window} for name, window in windows.items()]
    assert asked_of(tmp_path, *columns) == {
        "before": ["1"],
        "from_index": ["2"],
        "visit": ["2"],
        "never": ["0"],
    }


def test_rows_of_one_time_are_told_apart_by_their_ids(tmp_path):
    rows = [value(n, "2150-03-01 13:00:00", row) for n, row in ((7.0, 12), (8.0, 11), (9.0, 10))]
    ward(tmp_path, measurement=rows)
    last = {**CREATININE, "name": "last"}
    first = {**CREATININE, "name": "first", "take": "first"}
    assert asked_of(tmp_path, last, first) == {"last": ["7.0"], "first": ["9.0"]}


def test_a_value_that_is_missing_stays_missing_and_a_unit_that_is_missing_is_0(tmp_path):
    rows = [
        value(None, "2150-03-01 13:00:00", 1),
        value(50.0, "2150-03-01 12:30:00", 2, unit_concept_id=None),
    ]
    ward(tmp_path, measurement=rows)
    assert "1 of 1 values are in another unit than 8840" in why(tmp_path, CREATININE)
    scaled = {**CREATININE, "units": {"0": {"scale": 0.01, "offset": 1.0}}}
    assert asked_of(tmp_path, scaled) == {"creatinine_last": ["1.5"]}
    other = {**CREATININE, "concepts": [1]}
    assert asked_of(tmp_path, other) == {"creatinine_last": [""]}


def test_text_among_the_numbers_is_counted_and_not_taken_for_0(tmp_path):
    ward(tmp_path, measurement=[value("Meier", "2150-03-01 13:00:00")])
    said = why(tmp_path, CREATININE)
    assert "1 of 1 values are not numbers" in said
    assert "Meier" not in said


def test_a_concept_that_was_found_is_a_value_too(tmp_path):
    rows = [value(None, "2150-03-01 13:00:00", 1, value_as_concept_id=45878745)]
    ward(tmp_path, measurement=rows)
    found = {**CREATININE, "value": "concept"}
    del found["unit"]
    assert asked_of(tmp_path, found) == {"creatinine_last": ["45878745"]}


AGE = {"name": "age", "table": "person", "value": "age"}


@pytest.mark.parametrize(
    ("month", "day", "age"), [(3, 1, "50"), (3, 2, "49"), (None, None, "50"), (12, None, "50")]
)
def test_an_age_is_in_full_years_at_the_index(tmp_path, month, day, age):
    ward(tmp_path, person=[{**PERSON, "month_of_birth": month, "day_of_birth": day}])
    assert asked_of(tmp_path, AGE) == {"age": [age]}


def test_the_index_is_the_first_or_the_last_between_two_dates(tmp_path):
    days = ["2150-03-01", "2151-03-01", "2152-03-01"]
    visits = [
        {**VISIT, **END, "visit_occurrence_id": n, "visit_start_date": day}
        for n, day in enumerate(days)
    ]
    ward(tmp_path, visit_occurrence=visits)
    assert asked_of(tmp_path, AGE) == {"age": ["50"]}
    assert asked_of(tmp_path, AGE, which="last") == {"age": ["52"]}
    assert asked_of(tmp_path, AGE, after="2150-03-02") == {"age": ["51"]}
    assert asked_of(tmp_path, AGE, which="last", before="2151-03-01") == {"age": ["51"]}
    assert "nobody is in the cohort" in why(tmp_path, AGE, after="2160-01-01")
    assert "nobody is in the cohort" in why(tmp_path, AGE, concepts=[1])


def test_who_is_required_and_who_is_left_out_and_what_is_below_a_concept(tmp_path):
    people_here = [{**PERSON, "person_id": n, "year_of_birth": 2100 + n} for n in (1, 2, 3)]
    visits = [
        {**VISIT, **TIMES, **END, "person_id": n, "visit_occurrence_id": n} for n in (1, 2, 3)
    ]
    seen = {"condition_start_date": "2150-02-20", "condition_concept_id": 77}
    conditions = [{**seen, "condition_occurrence_id": n, "person_id": p}
                  for n, p in enumerate((1, 1, 2))]  # fmt: skip
    below = [{"ancestor_concept_id": 7, "descendant_concept_id": 77}]
    ward(tmp_path, person=people_here, visit_occurrence=visits,
         condition_occurrence=conditions, concept_ancestor=below)  # fmt: skip
    had = {"table": "condition_occurrence", "concepts": [7], "descendants": True, "days": [-30, 0]}
    born = {"name": "born", "table": "person", "value": "year_of_birth"}
    assert asked_of(tmp_path, born) == {"born": ["2101", "2102", "2103"]}
    assert asked_of(tmp_path, born, require=[had]) == {"born": ["2101", "2102"]}
    assert asked_of(tmp_path, born, require=[{**had, "at_least": 2}]) == {"born": ["2101"]}
    assert asked_of(tmp_path, born, exclude=[had]) == {"born": ["2103"]}
    assert asked_of(tmp_path, born, exclude=[{**had, "days": [-5, 0]}])["born"][0] == "2101"
    assert "nobody" in why(tmp_path, born, require=[{**had, "descendants": False}])


@pytest.mark.parametrize(
    ("visit", "people_here", "said"),
    [
        ({**TIMES, **END}, [], "1 of 1 persons have no row in the table person"),
        ({**END, "visit_start_date": "1.3.2150"}, [PERSON], "whose date cannot be read"),
        ({**END, "visit_start_date": "2150-03-01"}, [PERSON], "without a time of day"),
        (TIMES, [PERSON], "have a visit without an end"),
    ],
)
def test_what_would_read_as_did_not_happen_and_is_not_known_is_a_fault(
    tmp_path, visit, people_here, said
):
    ward(tmp_path, person=people_here, visit_occurrence=[{**VISIT, **visit}])
    died = {"name": "died", "table": "death", "within": "visit", "take": "any"}
    assert said in why(tmp_path, AGE, died, CREATININE)


def test_a_table_that_the_database_has_not_is_named(tmp_path):
    ward(tmp_path)
    drug = {"name": "drug", "table": "drug_exposure", "concepts": [1], "days": [0, 1]}
    assert "no such table: drug_exposure" in why(tmp_path, {**drug, "take": "any"})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"take": "median"}, "take"),
        ({"unit": None}, "`unit` is due"),
        ({"units": {"8840": {"scale": 1.0}}}, "`units` are those"),
        ({"units": {"8751": {"scale": 0}}}, "scale of 0"),
        ({"table": "condition_occurrence"}, "`any` or `count`"),
        ({"value": "concept", "take": "max"}, "the `first` or the `last`"),
        ({"concepts": []}, "`concepts` or `source_concepts` are due"),
        ({"concepts": [-1]}, "greater than or equal to 0"),
        ({"days": [0, 1]}, "one of `days`"),
        ({"hours": [1, 1]}, "from < to"),
        ({"hours": None, "days": [2, 1]}, "`days` = [from, to]"),
        ({"hours": None}, "one of `days`"),
        ({"concepts": [], "source_concepts": [1], "descendants": True}, "belongs to `concepts`"),
        ({"name": "person_id"}, "none is person_id"),
        ({"table": "note"}, "table"),
        ({"unti": 8840}, "the nearest known one is `unit`"),
    ],
)
def test_a_form_that_makes_no_sense_is_refused(changes, said):
    value = {"cohort": form()["cohort"], "columns": [{**CREATININE, **changes}]}
    with pytest.raises(BadInput, match=re.escape(said)):
        checked(OmopSource, value, what="north.toml")


def test_a_schema_is_a_name_and_a_window_of_a_visit_needs_a_visit_as_the_index():
    died = {"name": "died", "table": "death", "within": "visit", "take": "any"}
    value = {"cohort": {"table": "death"}, "columns": [died]}
    with pytest.raises(BadInput, match="with a visit as the index"):
        checked(OmopSource, value, what="north.toml")
    for name in ("cdm; drop table person", 'cdm"', "", "1cdm"):
        with pytest.raises(BadInput, match="schema"):
            checked(OmopSource, form(name) | {"schema": name}, what="north.toml")
    by_hour = {**form()["cohort"], "exclude": [{"table": "death", "hours": [0, 1]}]}
    with pytest.raises(BadInput, match="`require` and `exclude` go by"):
        checked(OmopSource, {"cohort": by_hour, "columns": [AGE]}, what="north.toml")


def test_a_description_of_omop_has_no_path_and_every_other_has_one():
    sources = [{"column": "age", "source": "age"}]
    with pytest.raises(BadInput, match="`path` is due, but not with format omop"):
        described(RULE, sources, omop=form(), path="x")
    with pytest.raises(BadInput, match="`path` is due, but not with format omop"):
        described(RULE, sources, format="sql")
    with pytest.raises(BadInput, match="`omop` belongs to format omop"):
        described(RULE, sources)
