"""A study's questions to MIMIC's demo in OMOP, and pandas' answers straight from its CSV files."""

from typing import Any

import pandas as pd
from tests.support.omop_from_mimic import LABS, LOCAL, MG_DL, MG_L, MIMIC, condition

FIRST_DAY = {"hours": [0, 24]}
ITEMS = {"creatinine": 50912, "urea": 51006, "sodium": 50983, "potassium": 50971}
UNITS = {"creatinine": "mg/dL", "urea": "mg/dL", "sodium": "meq/L", "potassium": "meq/L"}
CONCEPTS = {"creatinine": 3016723, "urea": 3013682, "sodium": 3019550, "potassium": 3023103}
UNIT_CONCEPTS = {"mg/dL": MG_DL, "meq/L": 9557}
RANGES = {
    "creatinine": (0, 200),
    "urea": (0, 300),
    "sodium": (80, 200),
    "potassium": (1, 12),
}
TAKES = ("first", "last", "min", "max", "mean", "count")
SEPSIS, HEART_FAILURE = "99591", "4280"

COHORT = {"table": "visit_occurrence", "concepts": [9201], "descendants": True}


def lab(name: str, take: str = "last") -> dict[str, Any]:
    unit = {} if take == "count" else {"unit": UNIT_CONCEPTS[UNITS[name]]}
    of = {"table": "measurement", "concepts": [CONCEPTS[name]], "take": take, **unit}
    return {"name": f"{name}_{take}", **of, **FIRST_DAY}


def form(schema: str | None = None) -> dict[str, Any]:
    """Every take of every laboratory value, persons, conditions before and deaths after."""
    columns = [
        {"name": "age", "table": "person", "value": "age"},
        {"name": "gender", "table": "person", "value": "gender"},
        *(lab(name, take) for name in ITEMS for take in TAKES),
        {
            "name": "crp",
            "table": "measurement",
            "concepts": [LABS["1988-5"]],
            "days": [-365, 365],
            "take": "max",
            "unit": MG_L,
            "units": {str(MG_DL): {"scale": 10.0}},
        },
        {
            "name": "heart_failure",
            "table": "condition_occurrence",
            "source_concepts": [condition(HEART_FAILURE)],
            "days": [0, 0],
            "take": "any",
        },
        {"name": "died", "table": "death", "within": "visit", "take": "any"},
        {"name": "died_30", "table": "death", "days": [0, 30], "take": "any"},
    ]
    where = {"schema": schema} if schema else {}
    return {**where, "cohort": COHORT, "columns": columns}


def by_pandas() -> pd.DataFrame:
    """The same columns from the CSV files, missing as NaN: a row a patient, in order of the ids."""
    visits = _table("admissions", "admittime", "dischtime", "deathtime")
    first = visits.sort_values(["subject_id", "admittime"]).groupby("subject_id").first()
    patients = _table("patients", "dob", "dod").set_index("subject_id").loc[first.index]
    found = pd.DataFrame(index=first.index)
    born, came = patients["dob"], first["admittime"]
    birthday_due = born.dt.month * 100 + born.dt.day > came.dt.month * 100 + came.dt.day
    found["age"] = came.dt.year - born.dt.year - birthday_due
    found["gender"] = patients["gender"].map({"M": 8507, "F": 8532})
    labs = _table("labevents", "charttime").join(first[["admittime"]], on="subject_id")
    behind = (labs["charttime"] - labs["admittime"]).dt.total_seconds() / 3600
    day = labs[(behind >= 0) & (behind < 24)].sort_values(["charttime", "row_id"])
    for name, item in ITEMS.items():
        own = day[(day["itemid"] == item)]
        found[f"{name}_count"] = own.groupby("subject_id").size()
        known = own[own["valuenum"].notna()].groupby("subject_id")["valuenum"]
        for take in ("first", "last", "min", "max", "mean"):
            found[f"{name}_{take}"] = known.agg(take)
        found[f"{name}_count"] = found[f"{name}_count"].fillna(0)
    days = (labs["charttime"].dt.normalize() - labs["admittime"].dt.normalize()).dt.days
    crp = labs[(labs["itemid"] == 50889) & days.between(-365, 365) & labs["valuenum"].notna()]
    in_mg_l = crp["valuenum"] * crp["valueuom"].map({"mg/L": 1, "mg/dL": 10})
    found["crp"] = in_mg_l.groupby(crp["subject_id"]).max()
    found["heart_failure"] = _coded(first, HEART_FAILURE)
    found["died"] = first["hospital_expire_flag"]
    left = patients["dod"].dt.normalize() - came.dt.normalize()
    found["died_30"] = left.dt.days.between(0, 30).astype(int)
    return found


def _table(name: str, *times: str) -> pd.DataFrame:
    frame = pd.read_csv(MIMIC / f"{name}.csv.gz", dtype={"icd9_code": str})
    for time in times:
        frame[time] = pd.to_datetime(frame[time]).dt.tz_localize(None)
    return frame


def _coded(first: pd.DataFrame, code: str) -> pd.Series:
    """Whether the first stay has the code; the demo's second stays begin on later days."""
    codes = _table("diagnoses_icd")
    with_it = set(codes[codes["icd9_code"] == code]["hadm_id"])
    return first["hadm_id"].isin(with_it).astype(int)


def local(item: int) -> int:
    """The local concept of one of the demo's items."""
    return LOCAL + item
