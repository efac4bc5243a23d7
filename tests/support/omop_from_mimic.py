"""MIMIC-III's public demo as an OMOP CDM 5.4: the tables that are read, in any database.

Visits, genders, units and some laboratory values have their standard concepts. The other codes are
local ones, with ids from 2,000,000,000 as OHDSI sets them aside: item 50912 is 2,000,050,912.
Deaths are by the day alone, as the demo has them; all else has its time of day.
"""

import csv
import functools
import gzip
import zlib
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

MIMIC = Path(__file__).parents[3] / "shared" / "data" / "mimic3_demo"

LOCAL = 2_000_000_000
INPATIENT, EMERGENCY = 9201, 262
MALE, FEMALE = 8507, 8532
# From LOINC's codes to OMOP's standard concepts.
LABS = {
    "2160-0": 3016723,  # creatinine
    "3094-0": 3013682,  # urea nitrogen
    "2951-2": 3019550,  # sodium
    "2823-3": 3023103,  # potassium
    "718-7": 3000963,  # haemoglobin
    "1988-5": 3020460,  # C-reactive protein
}
UROBILINOGEN = "51514"  # in two units, of which none is the other's multiple
MG_DL, MG_L, G_DL, MEQ_L = 8840, 8751, 8713, 9557
UNITS = {"mg/dL": MG_DL, "mg/L": MG_L, "g/dL": G_DL, "mEq/L": MEQ_L}

Row = dict[str, Any]

_INTEGER, _WHOLE, _DATE, _TIME = sa.BigInteger, sa.Integer, sa.Date, sa.DateTime
COLUMNS: dict[str, dict[str, Any]] = {
    "person": {
        "person_id": _INTEGER,
        "gender_concept_id": _WHOLE,
        "year_of_birth": _WHOLE,
        "month_of_birth": _WHOLE,
        "day_of_birth": _WHOLE,
        "race_concept_id": _WHOLE,
        "ethnicity_concept_id": _WHOLE,
    },
    "visit_occurrence": {
        "visit_occurrence_id": _INTEGER,
        "person_id": _INTEGER,
        "visit_concept_id": _WHOLE,
        "visit_start_date": _DATE,
        "visit_start_datetime": _TIME,
        "visit_end_date": _DATE,
        "visit_end_datetime": _TIME,
        "visit_source_concept_id": _WHOLE,
    },
    "condition_occurrence": {
        "condition_occurrence_id": _INTEGER,
        "person_id": _INTEGER,
        "condition_concept_id": _WHOLE,
        "condition_start_date": _DATE,
        "condition_start_datetime": _TIME,
        "condition_source_value": sa.String(50),
        "condition_source_concept_id": _WHOLE,
    },
    "measurement": {
        "measurement_id": _INTEGER,
        "person_id": _INTEGER,
        "measurement_concept_id": _WHOLE,
        "measurement_date": _DATE,
        "measurement_datetime": _TIME,
        "value_as_number": sa.Numeric,
        "value_as_concept_id": _WHOLE,
        "unit_concept_id": _WHOLE,
        "measurement_source_concept_id": _WHOLE,
    },
    "death": {
        "person_id": _INTEGER,
        "death_date": _DATE,
        "death_datetime": _TIME,
        "cause_concept_id": _WHOLE,
        "cause_source_concept_id": _WHOLE,
    },
    "concept_ancestor": {"ancestor_concept_id": _WHOLE, "descendant_concept_id": _WHOLE},
}


def load(engine: sa.Engine, schema: str | None = None, *, every_lab: bool = False) -> None:
    """Make the tables and fill them; without `every_lab` with the laboratory values in use."""
    metadata = sa.MetaData(schema=schema)
    tables = {
        name: sa.Table(name, metadata, *(sa.Column(own, kind) for own, kind in columns.items()))
        for name, columns in COLUMNS.items()
    }
    metadata.create_all(engine)
    with engine.begin() as connection:
        for name, rows in _rows(every_lab=every_lab).items():
            connection.execute(tables[name].insert(), rows)


def sqlite(path: Path) -> Path:
    """The demo as a file of SQLite."""
    engine = sa.create_engine(f"sqlite:///{path}")
    load(engine)
    engine.dispose()
    return path


def condition(icd9: str) -> int:
    """The local concept of an ICD-9 code: its place in the dictionary.

    >>> condition("4280") > LOCAL
    True
    """
    return LOCAL + _icd9_places()[icd9]


@functools.cache
def _icd9_places() -> dict[str, int]:
    return {line["icd9_code"]: int(line["row_id"]) for line in lines("d_icd_diagnoses")}


def local_unit(unit: str) -> int:
    """The local concept of a unit that has no standard one here."""
    return LOCAL + 1_000_000 + zlib.crc32(unit.encode()) % 1_000_000


def lines(name: str) -> Iterator[dict[str, str]]:
    """The lines of one of the demo's files, as text."""
    with gzip.open(MIMIC / f"{name}.csv.gz", "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _rows(*, every_lab: bool) -> dict[str, list[Row]]:
    visits = [_visit(line) for line in lines("admissions")]
    starts = {row["visit_occurrence_id"]: row["visit_start_datetime"] for row in visits}
    patients = list(lines("patients"))
    return {
        "person": [_person(line) for line in patients],
        "visit_occurrence": visits,
        "condition_occurrence": list(_conditions(starts)),
        "measurement": list(_measurements(every_lab=every_lab)),
        "death": [
            {"person_id": int(line["subject_id"]), "death_date": _time(line["dod"]).date()}
            for line in patients
            if line["dod"]
        ],
        "concept_ancestor": [
            {"ancestor_concept_id": 9201, "descendant_concept_id": one} for one in (9201, 262)
        ],
    }


def _person(line: dict[str, str]) -> Row:
    born = _time(line["dob"])
    return {
        "person_id": int(line["subject_id"]),
        "gender_concept_id": {"M": MALE, "F": FEMALE}[line["gender"]],
        "year_of_birth": born.year,
        "month_of_birth": born.month,
        "day_of_birth": born.day,
    }


def _visit(line: dict[str, str]) -> Row:
    start = _time(line["admittime"])
    # One patient's discharge was written down a day before the death in the ward.
    end = max(_time(line[one]) for one in ("dischtime", "deathtime") if line[one])
    return {
        "visit_occurrence_id": int(line["hadm_id"]),
        "person_id": int(line["subject_id"]),
        "visit_concept_id": EMERGENCY if line["admission_type"] == "EMERGENCY" else INPATIENT,
        "visit_start_date": start.date(),
        "visit_start_datetime": start,
        "visit_end_date": end.date(),
        "visit_end_datetime": end,
    }


def _conditions(starts: dict[int, datetime]) -> Iterator[Row]:
    places = _icd9_places()
    for line in lines("diagnoses_icd"):
        start, place = starts[int(line["hadm_id"])], places.get(line["icd9_code"])
        yield {
            "condition_occurrence_id": int(line["row_id"]),
            "person_id": int(line["subject_id"]),
            "condition_concept_id": 0,
            "condition_start_date": start.date(),
            "condition_start_datetime": start,
            "condition_source_value": line["icd9_code"],
            "condition_source_concept_id": 0 if place is None else LOCAL + place,
        }


def _measurements(*, every_lab: bool) -> Iterator[Row]:
    loinc = {line["itemid"]: line["loinc_code"] for line in lines("d_labitems")}
    for line in lines("labevents"):
        concept = LABS.get(loinc.get(line["itemid"], ""), 0)
        if not every_lab and not concept and line["itemid"] != UROBILINOGEN:
            continue
        taken = _time(line["charttime"])
        unit = line["valueuom"]
        yield {
            "measurement_id": int(line["row_id"]),
            "person_id": int(line["subject_id"]),
            "measurement_concept_id": concept,
            "measurement_date": taken.date(),
            "measurement_datetime": taken,
            "value_as_number": float(line["valuenum"]) if line["valuenum"] else None,
            "unit_concept_id": UNITS.get(unit, local_unit(unit)) if unit else None,
            "measurement_source_concept_id": LOCAL + int(line["itemid"]),
        }


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=None)


def day(text: str) -> date:
    """The date of one of the demo's times."""
    return _time(text).date()
