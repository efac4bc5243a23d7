"""Patients as a pandas table, one row each, for statistics against an oracle."""

import numpy as np
import pandas as pd

from wardround.statistics.plan import StatisticsPlan, categories_of
from wardround.statistics.tally import PatientRows
from wardround.study.contract import Column, ColumnKind, Contract, Label

CONTRACT = Contract(
    patient_key="patient",
    label=Label(name="sick", description="disease", positive="1"),
    columns=(
        Column(name="age", kind=ColumnKind.CONTINUOUS, description="age", unit="a", range=(20, 90)),
        Column(
            name="pressure",
            kind=ColumnKind.CONTINUOUS,
            description="systolic pressure",
            unit="mm[Hg]",
            range=(60, 220),
            may_be_missing=True,
        ),
        Column(name="male", kind=ColumnKind.BINARY, description="sex"),
        Column(
            name="pain",
            kind=ColumnKind.CATEGORICAL,
            description="kind of pain",
            categories=("typical", "atypical", "other"),
            may_be_missing=True,
        ),
    ),
)


def plan_of(**changes: object) -> StatisticsPlan:
    """A plan with some of its fields changed."""
    return StatisticsPlan.model_validate({"epsilon": 1.0, **changes})


def random_table(patients: int, seed: int = 0, *, at_bounds: bool = False) -> pd.DataFrame:
    """Patients with skewed numbers and missing values; `at_bounds` puts numbers on the bounds."""
    random = np.random.default_rng(seed)
    age = random.choice([20.0, 90.0], patients)
    pressure = random.choice([60.0, 220.0], patients)
    if not at_bounds:
        age = np.clip(random.normal(62, 11, patients), 20, 90)
        pressure = np.clip(90 + random.gamma(3, 14, patients), 60, 220)
    pressure[random.random(patients) < 0.2] = np.nan
    pain = random.choice(["typical", "atypical", "other", None], patients, p=[0.3, 0.2, 0.4, 0.1])
    return pd.DataFrame(
        {
            "age": age,
            "pressure": pressure,
            "male": random.integers(0, 2, patients).astype(float),
            "pain": pain,
            "sick": random.integers(0, 2, patients),
        }
    )


def rows_of(table: pd.DataFrame) -> PatientRows:
    """The rows as statistics take them."""
    (pain,) = (column for column in CONTRACT.columns if column.name == "pain")
    places = {category: code for code, category in enumerate(categories_of(pain))}
    return PatientRows(
        outcomes=(table["sick"] == 1).to_numpy().astype(np.int64),
        numbers={name: table[name].to_numpy(dtype=float) for name in ("age", "pressure")},
        codes={
            "male": table["male"].to_numpy().astype(np.int64),
            "pain": table["pain"].map(places).fillna(-1).to_numpy().astype(np.int64),
        },
    )
