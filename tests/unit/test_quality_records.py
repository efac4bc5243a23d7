"""From a hospital's records to its own numbers: every kind of label and column, by patient."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from wardround.quality.assess import assess
from wardround.quality.numbers import may_lack, outcomes_of
from wardround.quality.plan import QualityPlan
from wardround.quality.verdict import Reason
from wardround.study.contract import Column, ColumnKind, Contract, Grams, Grid, Label
from wardround_client.data.reading import Records
from wardround_client.quality import described, look, looks, own_numbers
from wardround_client.quality_view import QualityView
from wardround_client.records import StudyRecords

AGE = Column(
    name="age",
    kind=ColumnKind.CONTINUOUS,
    description="age",
    unit="a",
    range=(0, 100),
    may_be_missing=True,
)
MALE = Column(name="male", kind=ColumnKind.BINARY, description="sex", may_be_missing=True)
YES_NO = Label(name="sick", description="sick", positive="yes")
SCAN = Column(
    name="scan",
    kind=ColumnKind.IMAGE,
    description="CT",
    unit="[hnsf'U]",
    range=(-1000, 400),
    shape=(1, 8, 8),
)


def contract(label=YES_NO, columns=(AGE, MALE), **more):
    return Contract(patient_key="patient", label=label, columns=columns, **more)


def records(patients, labels, *, series=None, **values):
    return Records(
        patients=tuple(patients),
        values=pd.DataFrame(values, index=pd.RangeIndex(len(patients))),
        labels=np.array(labels),
        folder=Path(),
        series=series or {},
    )


def test_several_records_are_one_patient_who_lacks_what_no_record_has():
    source = records(
        ["a", "a", "b", "c", "c"],
        [0, 1, 0, 1, 1],
        age=[np.nan, 40.0, np.nan, 50.0, np.nan],
        male=[1.0, np.nan, np.nan, np.nan, np.nan],
    )
    own = own_numbers(source, contract(), [])
    assert (own.patients, own.records, own.outcomes) == (3, 5, (2, 1))
    assert [column.missing for column in own.columns] == [1, 2]
    assert {column.median for column in own.columns} == {None}  # of three patients none is told


def test_of_eleven_patients_the_middle_and_the_used_range_are_known():
    ages = np.linspace(20, 80, 11)
    source = records(range(11), [0, 1] * 5 + [0], age=ages, male=[1.0] * 11)
    age, male = own_numbers(source, contract(), []).columns
    assert age.median == pytest.approx(50)
    assert age.used == pytest.approx(np.diff(np.quantile(ages, [0.05, 0.95]))[0] / 100)
    assert male.median is None


def target(name, **more):
    return {"name": name, "description": name, **more}


CLASSES = Label.model_validate(
    {"name": "kind", "description": "k", "kind": "classes", "classes": ["x", "y", "z"]}
)
PROGNOSIS = Label.model_validate(
    {
        "name": "death",
        "description": "d",
        "kind": "time-to-event",
        "positive": "died",
        "time": {"unit": "mo", "edges": [12, 24]},
    }
)
TOXIC = Label.model_validate(
    {
        "name": "tox",
        "description": "t",
        "kind": "targets",
        "targets": [target("liver"), target("heart")],
    }
)
DOSES = Label.model_validate(
    {
        "name": "dose",
        "description": "d",
        "kind": "targets",
        "targets": [target("solubility", unit="1", range=[-10, 2])],
    }
)
UNLABELLED = Label.model_validate({"name": "none", "description": "n", "kind": "none"})
NAN = float("nan")


@pytest.mark.parametrize(
    ("label", "values", "due", "words"),
    [
        (YES_NO, [0, 1, 1], (2, 1), ("yes", "no")),
        (CLASSES, [0, 2, 2], (1, 0, 2), ("x", "y", "z")),
        (PROGNOSIS, [[5, 1], [20, 0], [24, 0]], (1, 2), ("event", "no event")),
        (TOXIC, [[1, NAN], [0, 0], [NAN, 0]], (1, 1, 0, 2), ("yes", "no", "yes", "no")),
        (DOSES, [[1.5], [NAN], [-3.0]], (2,), ("known",)),
        (UNLABELLED, np.zeros((3, 0)), (), ()),
        (
            YES_NO.model_copy(update={"kind": UNLABELLED.kind}),
            np.zeros((3, 0)),
            (0, 0),
            ("yes", "no"),
        ),
    ],
)
def test_every_label_has_its_outcomes_in_the_order_that_is_told(label, values, due, words):
    source = records(["a", "b", "c"], values, age=[1.0, 2.0, 3.0], male=[1.0, 0.0, 1.0])
    own = own_numbers(source, contract(label), [])
    assert own.outcomes == due
    assert tuple(word for _, word in outcomes_of(label)) == words


def test_a_variable_over_time_is_missing_where_it_was_never_measured():
    pulse = Column(
        name="pulse", kind=ColumnKind.SERIES, description="p", unit="/min", range=(0, 300)
    )
    measured = np.full((12, 4), np.nan, dtype=np.float32)
    measured[1:, 2] = 80.0
    source = records(range(12), [0, 1] * 6, series={"pulse": measured})
    own = own_numbers(source, contract(columns=(pulse,), grid=Grid(steps=4, step=1, unit="h")), [])
    (column,) = own.columns
    assert (column.missing, column.median, column.used) == (1, 80.0, 0.0)
    assert may_lack(contract(columns=(pulse,), grid=Grid(steps=4, step=1, unit="h"))) == (pulse,)


def test_a_molecule_is_never_missing():
    smiles = Column(
        name="smiles",
        kind=ColumnKind.FINGERPRINT,
        description="m",
        grams=Grams(size=16, longest=2),
    )
    source = records(["a", "b"], [0, 1], smiles=["CCO", "C"])
    (column,) = own_numbers(source, contract(columns=(smiles,)), []).columns
    assert (column.missing, column.median) == (0, None)


def slices(low, high, seed=0):
    """Pixels as a hospital encodes them: windowed to -1000..400 and scaled to [-1, 1]."""
    values = np.random.default_rng(seed).uniform(low, high, (20, 1, 8, 8))
    return ((np.clip(values, -1000, 400) + 1000) / 700 - 1).astype(np.float32)


def test_another_scanner_shows_by_the_expected_median_and_by_a_window_that_is_hardly_used():
    """Hounsfield units are as they should be; 8-bit values and half the contrast are not."""
    plan = QualityPlan.model_validate({"expect": [{"column": "scan", "median": [-800, -100]}]})
    agreed = contract(columns=(SCAN,))
    assert plan.faults(agreed) == ()
    source = records(range(20), [0, 1] * 10, scan=[f"{n}.npy" for n in range(20)])

    def reasons(low, high):
        own = own_numbers(source, agreed, [slices(low, high)[:15], slices(low, high)[15:]])
        return assess(own, agreed, plan).reasons

    rare = Reason.OUTCOME_RARE
    assert reasons(-1000, 300) == (rare,)
    assert reasons(0, 255) == (Reason.UNIT_OR_SCALE, rare)
    assert reasons(-500, -400) == (rare, Reason.HARDLY_USED)
    assert reasons(3000, 4000) == (Reason.UNIT_OR_SCALE, rare, Reason.HARDLY_USED)


def whole(source):
    """A study's records, of which the look takes the source and, for images, the features."""
    side = SimpleNamespace(features=torch.zeros((0, 1)), patients=0)
    return StudyRecords(train=side, held_out=side, source=source)


def study(**more):
    fields = {"contract": contract(), "quality": None, "privacy": SimpleNamespace(unit="patient")}
    return SimpleNamespace(**(fields | more))


def test_what_is_told_has_no_exact_count_and_only_what_the_policy_lets_leave():
    patients = 57
    source = records(
        range(patients),
        [1] * 4 + [0] * (patients - 4),
        age=[NAN] * 23 + [50.0] * (patients - 23),
        male=[1.0] * patients,
    )
    looked = look(study(), whole(source), None)
    body = described(looked, study(), run="ab" * 16, with_counts=True)
    assert body["numbers"] == {
        "patients": 55,
        "records": 55,
        "outcomes": [None, 55],
        "missing": [25, None],
    }
    assert body["reasons"] == ["an outcome is rare", "much is missing", "a range is hardly used"]
    assert (body["verdict"], body["compared_with"]) == ("ready with remarks", None)
    silent = described(looked, study(), run="ab" * 16, with_counts=False)
    assert silent == {**body, "numbers": None}
    assert "57" not in str(looked)


def test_the_view_says_when_there_is_nothing_to_compare_with_and_hides_what_is_small():
    source = records(range(57), [1] * 4 + [0] * 53, age=[NAN] * 55 + [50.0] * 2, male=[1.0] * 57)
    view = QualityView("north", "Sickness", look(study(), whole(source), None), "nothing")
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(view)
    said = console.export_text()
    assert "nothing to compare with" in said
    assert "57 records of 57 patients" in said
    assert ">52" in said  # of 57, two have an age
    assert said.splitlines()[-2:] == [
        "ready with remarks",
        "the policy lets the report tell: nothing",
    ]
    value = view.to_json()
    assert value["missing"] == {"age": ">52", "male": "0"}
    assert value["differences"] == []
    assert [each["reason"] for each in value["to_fix"]] == ["an outcome is rare", "much is missing"]


def test_the_records_are_kept_only_where_somebody_will_look():
    with pytest.raises(ValueError, match="without their source"):
        look(study(), whole(None), None)
    for datasheet, quality, due in (
        ("nothing", None, False),
        ("nothing", QualityPlan(), False),
        ("nothing", QualityPlan(refuse=True), True),
        ("verdict", None, True),
    ):
        assert looks(SimpleNamespace(datasheet=datasheet), study(quality=quality)) is due
