"""The sample of a bulk export (synthetic patients) against plain json and pandas."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest
from tests.support.described_data import AGE, contract
from tests.support.fhir_exports import SNOMED, column, described
from tests.support.study_plans import BINARY

from wardround_client.data.check import check
from wardround_client.data.table import read_table

SYNTHEA = Path(__file__).parents[3] / "shared" / "data" / "fhir_synthea_sample"


def real(kind):
    with gzip.open(SYNTHEA / f"{kind}.ndjson.gz", "rt") as file:
        return [json.loads(line) for line in file]


def oracle_events(kind, time, code):
    """Patient, day, instant and number of each resource with the code: plain json and pandas."""
    rows = []
    for one in real(kind):
        for part in [one, *one.get("component", [])]:
            concept = part.get("code") or part.get("medicationCodeableConcept") or {}
            if code in [coding["code"] for coding in concept.get("coding", [])]:
                moment = one[time]["start"] if isinstance(one[time], dict) else one[time]
                number = part.get("valueQuantity", {}).get("value")
                answer = part.get("valueCodeableConcept", {}).get("coding", [{}])[0].get("code")
                whose = one["subject"]["reference"].removeprefix("Patient/")
                rows.append((whose, moment, number, answer))
                break
    frame = pd.DataFrame(rows, columns=["patient", "moment", "number", "answer"])
    frame["day"] = pd.to_datetime(frame["moment"].str[:10])
    frame["instant"] = pd.to_datetime(frame["moment"], utc=True)
    return frame.sort_values("instant")


COLUMNS = [
    column("8480-6", "last", name="systolic", days=[-2000, 0]),
    column("8480-6", "mean", name="systolic mean"),
    column("8462-4", "max", name="diastolic"),
    column("29463-7", "first", "kg", name="weight", days=[-2000, 0]),
    column("72166-2", "last", name="smoking", value="code", system=SNOMED),
    column("8480-6", "count", name="pressures", days=[-800, -1]),
    column("66383009", "any", resource="Condition", name="gingivitis"),
    column("430193006", "count", resource="Procedure", name="reconciliations"),
    column("997488", "any", resource="MedicationRequest", name="allergy drug")
    | {"codes": ["http://www.nlm.nih.gov/research/umls/rxnorm|997488"]},
]


def test_the_sample_gives_what_plain_json_and_pandas_give():
    own = described(COLUMNS, path="fhir_synthea_sample", leave_out=["medication"])
    table = read_table(own, SYNTHEA.parent).set_index("patient")
    people = {one["id"]: one for one in real("Patient")}
    assert sorted(people) == list(table.index)
    index = pd.Timestamp("2021-06-01")
    for name, born in ((name, one["birthDate"]) for name, one in people.items()):
        had = (index.month, index.day) >= tuple(map(int, born.split("-")[1:]))
        assert int(table["age"][name]) == index.year - int(born[:4]) - (not had)
    systolic = oracle_events("Observation", "effectiveDateTime", "8480-6")
    before = (systolic["day"] - index).dt.days
    recent = systolic[(before >= -2000) & (before <= 0)]
    agree(table["systolic"], recent.groupby("patient")["number"].last())
    agree(table["systolic mean"], systolic.groupby("patient")["number"].mean())
    pressures = systolic[(before >= -800) & (before <= -1)].groupby("patient").size()
    agree(table["pressures"], pressures.reindex(table.index, fill_value=0))
    diastolic = oracle_events("Observation", "effectiveDateTime", "8462-4")
    agree(table["diastolic"], diastolic.groupby("patient")["number"].max())
    weight = oracle_events("Observation", "effectiveDateTime", "29463-7")
    days = (weight["day"] - index).dt.days
    early = weight[(days >= -2000) & (days <= 0)]
    agree(table["weight"], early.groupby("patient")["number"].first())
    smoking = oracle_events("Observation", "effectiveDateTime", "72166-2")
    assert table["smoking"].to_dict() == {
        **dict.fromkeys(table.index, ""),
        **smoking.groupby("patient")["answer"].last().to_dict(),
    }
    for name, kind, time, code in (
        ("gingivitis", "Condition", "onsetDateTime", "66383009"),
        ("allergy drug", "MedicationRequest", "authoredOn", "997488"),
    ):
        have = set(oracle_events(kind, time, code)["patient"])
        assert have
        assert {p for p in table.index if table[name][p] == "1"} == have
    done = oracle_events("Procedure", "performedPeriod", "430193006").groupby("patient").size()
    agree(table["reconciliations"], done.reindex(table.index, fill_value=0))


def agree(own, due):
    assert len(due) > 3
    assert {p for p in own.index if own[p] != ""} == set(due.index)
    for name, value in due.items():
        assert float(own[name]) == pytest.approx(float(value), rel=1e-12)


def test_visits_of_the_sample_are_an_index():
    """The last well child visit of each child, and what was measured on that day."""
    code = f"{SNOMED}|410620009"
    cohort = {"index": {"resource": "Encounter", "codes": [code]}, "which": "last"}
    own = described([column("8302-2", "last", "cm", within="visit")], cohort)
    own = own.model_copy(update={"path": "fhir_synthea_sample"})
    table = read_table(own, SYNTHEA.parent)
    rows = [
        (one["subject"]["reference"].removeprefix("Patient/"), one["period"]["start"])
        for one in real("Encounter")
        if one["type"][0]["coding"][0]["code"] == "410620009"
    ]
    visits = pd.DataFrame(rows, columns=["patient", "start"])
    visits["day"] = pd.to_datetime(visits["start"].str[:10])
    last = visits.groupby("patient")["day"].max()
    assert list(table["patient"]) == sorted(last.index)
    height = oracle_events("Observation", "effectiveDateTime", "8302-2")
    measured = 0
    for name, value in zip(table["patient"], table["y"], strict=True):
        due = height[(height["patient"] == name) & (height["day"] == last[name])]["number"]
        assert value == ("" if due.empty else str(float(due.iloc[-1])))
        measured += not due.empty
    assert measured >= 3


def test_data_check_works_on_the_sample():
    drug = {"name": "y", "resource": "MedicationRequest", "take": "any", "days": [-9000, 9000]}
    drug |= {"codes": ["http://www.nlm.nih.gov/research/umls/rxnorm|997488"]}
    where = {"path": "fhir_synthea_sample"}
    strict = check(described([drug], **where), contract(BINARY, [AGE]), SYNTHEA.parent)
    what = "23 MedicationRequests refer to a medication that is not there (medication)"
    assert strict.to_fix == (f"fhir_synthea_sample: {what}",)
    own = described([drug], leave_out=["medication"], **where)
    seen = check(own, contract(BINARY, [AGE]), SYNTHEA.parent)
    assert (seen.to_fix, seen.rows, seen.patients) == ((), 10, 10)
    assert f"left out, as declared: {what}" in seen.remarks
