"""FHIR bulk exports as a table: windows, cohorts, states, units, and what is wrong with them."""

import gzip

import pytest
from tests.support.described_data import AGE, contract, encoded, refusal, write
from tests.support.fhir_exports import (
    SNOMED,
    TODAY,
    UCUM,
    column,
    condition,
    described,
    encounter,
    observation,
    patient,
    put,
)
from tests.support.study_plans import BINARY

from wardround.errors import BadInput
from wardround_client.data import fhir_lines
from wardround_client.data.check import check
from wardround_client.data.table import read_table

CANARY = "CANARY-7"


def values(folder, own, cohort=TODAY):
    table = read_table(described([own], cohort), folder)
    return dict(zip(table["patient"], table["y"], strict=True))


def fault(folder, own, cohort=TODAY):
    with pytest.raises(BadInput) as caught:
        values(folder, own, cohort)
    assert CANARY not in str(caught.value)
    return str(caught.value)


def test_an_export_is_trained_on_as_the_same_table_in_csv(tmp_path):
    put(tmp_path, *(patient(f"p{n}", birthDate=f"19{50 + n}") for n in range(8)))
    put(tmp_path, *(condition(f"c{n}", of=f"p{n}") for n in (2, 5)))
    rows = [f"p{n},{71 - n},{int(n in (2, 5))}" for n in range(8)]
    write(tmp_path, main_csv="\n".join(["patient,age,y", *rows]) + "\n")
    own = described([column("44054006", "any", resource="Condition")])
    plain = own.model_copy(update={"format": "csv", "path": "main.csv", "fhir": None})
    agreed = contract(BINARY, [AGE])
    one, other = encoded(own, agreed, tmp_path), encoded(plain, agreed, tmp_path)
    assert one.patients == other.patients
    assert one.features.tolist() == other.features.tolist()
    assert one.labels.tolist() == other.labels.tolist() == [0, 0, 1, 0, 0, 1, 0, 0]


@pytest.mark.parametrize(
    ("take", "due"),
    [("first", "3.0"), ("last", "5.0"), ("min", "1.0"), ("max", "5.0"), ("mean", "3.0")],
)
def test_values_are_taken_in_the_order_of_time_not_of_lines(tmp_path, take, due):
    times = {"b": "2021-01-01T10:00:00+05:00", "c": "2021-01-01T06:00:00Z", "a": "2021-01-01"}
    put(tmp_path, patient())
    put(tmp_path, observation("c", 5, times["c"]), observation("b", 1, times["b"]))
    put(tmp_path, observation("a", 3, times["a"]))
    assert values(tmp_path, column(take=take)) == {"p1": due}


def test_windows_are_by_days_as_written_or_by_hours(tmp_path):
    put(tmp_path, patient(), encounter("e", "2021-01-10T22:00:00-05:00", "2021-01-12"))
    for own, when in (
        ("a", "2021-01-10T01:00:00-05:00"),
        ("b", "2021-01-10T22:00:00-05:00"),
        ("c", "2021-01-11T21:59:59-05:00"),
        ("d", "2021-01-12"),
        ("e", "2021-01-13"),
        ("f", "2021"),
    ):
        put(tmp_path, observation(own, 1, when))
    cohort = {"index": {"resource": "Encounter"}}
    for window, due in (
        ({"days": [0, 0]}, "2"),
        ({"days": [-1, 3]}, "5"),
        ({"hours": [0, 24]}, "2"),
        ({"hours": [0.5, 24]}, "1"),
        ({"within": "visit"}, "4"),
    ):
        own = {**column(take="count"), **window}
        if "days" not in window:
            own.pop("days")
        assert values(tmp_path, own, cohort) == {"p1": due}, window


def test_who_is_in_the_cohort_is_by_index_dates_and_criteria(tmp_path):
    put(tmp_path, *(patient(f"p{n}") for n in range(4)))
    put(tmp_path, encounter("a", "2019-01-01", of="p0"), encounter("b", "2021-01-01", of="p0"))
    put(tmp_path, *(encounter(f"e{n}", "2021-02-01", of=f"p{n}") for n in (1, 2)))
    put(tmp_path, condition("c1", "2020-12-01", of="p1"), condition("c2", "2021-12-01", of="p2"))
    visit = {"resource": "Encounter", "codes": [f"{SNOMED}|185345009"]}
    own = column("8480-6", "count")
    put(tmp_path, observation("o", 1, "2021-01-01", of="p0"))

    def who(**cohort):
        return list(values(tmp_path, own, {"index": visit} | cohort))

    had = {"resource": "Condition", "codes": [f"{SNOMED}|44054006"], "days": [-365, 0]}
    assert who() == ["p0", "p1", "p2"]
    assert who(after="2021-01-15") == ["p1", "p2"]
    assert who(before="2020-01-01") == ["p0"]
    assert who(require=[had]) == ["p1"]
    assert who(exclude=[had]) == ["p0", "p2"]
    assert who(require=[had | {"days": [-365, 365]}], exclude=[had]) == ["p2"]
    assert "no patient is what `[fhir.cohort]` wants" in fault(
        tmp_path, own, {"index": visit, "require": [had | {"at_least": 2}]}
    )


@pytest.mark.parametrize(
    ("resource", "counts"),
    [
        (observation("o", 1), 1),
        (observation("o", 1, status="entered-in-error"), 0),
        (observation("o", 1, status="cancelled"), 0),
        (observation("o", 1, status="registered"), 0),
        (observation("o", 1, subject={"reference": "Device/7"}), 0),
        (condition("c"), 1),
        (condition("c", status="refuted"), 0),
        (condition("c", status="entered-in-error"), 0),
        (condition("c", "2020"), 0),
    ],
)
def test_what_did_not_happen_is_left_out(tmp_path, resource, counts):
    put(tmp_path, patient(), resource)
    kind = resource["resourceType"]
    code = "8480-6" if kind == "Observation" else "44054006"
    assert values(tmp_path, column(code, "count", resource=kind)) == {"p1": str(counts)}


@pytest.mark.parametrize(
    ("more", "counts"),
    [
        ({}, "1"),
        ({"status": "cancelled"}, "0"),
        ({"intent": "proposal"}, "0"),
        ({"doNotPerform": True}, "0"),
        ({"doNotPerform": False}, "1"),
    ],
)
def test_an_order_that_is_none_is_left_out(tmp_path, more, counts):
    drug = {
        "resourceType": "MedicationRequest",
        "id": "m",
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": {"coding": [{"system": SNOMED, "code": "1"}]},
        "subject": {"reference": "Patient/p1"},
        "authoredOn": "2020-01-01",
    }
    put(tmp_path, patient(), drug | more)
    assert values(tmp_path, column("1", "count", resource="MedicationRequest")) == {"p1": counts}


def test_deaths_within_a_horizon_are_a_label(tmp_path):
    put(tmp_path, patient("p1"), patient("p2", deceasedDateTime="2021-06-20T00:00:00Z"))
    put(tmp_path, patient("p3", deceasedDateTime="2021-08-20"), patient("p4", birthDate="1950"))
    died = {"name": "y", "resource": "death", "take": "any", "days": [0, 30]}
    assert values(tmp_path, died) == {"p1": "0", "p2": "1", "p3": "0", "p4": "0"}
    put(tmp_path, patient("p5", deceasedBoolean=True))
    assert "1 Patients are deceased, and the day is not told" in fault(tmp_path, died)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (observation("o", 1, unit="kPa"), "1 values of column y are in another unit than mm[Hg]"),
        (observation("o", 1, of=CANARY), "resources Observation are of patients not in the export"),
        (observation("o", 1, subject={"reference": f"http://x/{CANARY}"}), "name no patient as"),
        (observation("", 1), "resources Observation have no id, or that of another one"),
        (observation("o", 1, modifierExtension=[]), "have a modifierExtension"),
        (observation("o", 1, implicitRules="x"), "have a modifierExtension or implicitRules"),
        (observation("o", 1) | {"resourceType": "Observation", "id": "o0"}, "that of another one"),
        (
            observation("o", 1)
            | {"valueQuantity": {"value": 5, "comparator": "<", "system": UCUM, "code": "mm[Hg]"}},
            "1 values of column y are bounds",
        ),
        (f'{{"resourceType":"Observation","{CANARY}":1,"{CANARY}":2}}', "no strict JSON"),
        (f'{{"resourceType":"Observation","a":"{CANARY}', "1 lines of Observation are no strict"),
        ('{"resourceType":"Observation","a":NaN}', "no strict JSON"),
        ('{"a":' + "[" * 5000 + "]" * 5000 + "}", "no strict JSON"),
        (f'{{"resourceType":"{CANARY}"}}', "1 lines of Observation are another resource"),
        (f"[{CANARY}]", "1 lines of Observation are no strict JSON"),
    ],
)
def test_faults_are_counted_by_name_and_no_value_is_told(tmp_path, line, why):
    put(tmp_path, patient(), observation("o0", 120), line)
    assert why in fault(tmp_path, column())


def test_other_units_are_converted_as_declared(tmp_path):
    put(tmp_path, patient(), observation("a", 16, unit="kPa"))
    own = column(units={"kPa": {"scale": 7.5}})
    assert values(tmp_path, own) == {"p1": "120.0"}


@pytest.mark.parametrize(("bounds", "due"), [("leave-out", ""), ("take", "5.0")])
def test_bounds_are_left_out_or_taken_when_declared(tmp_path, bounds, due):
    quantity = {"value": 5, "comparator": "<", "system": UCUM, "code": "mm[Hg]"}
    put(tmp_path, patient(), observation("a", 5) | {"valueQuantity": quantity})
    assert values(tmp_path, column(bounds=bounds)) == {"p1": due}


def test_patients_that_are_there_twice_or_were_merged_are_faults(tmp_path):
    put(tmp_path, patient(), observation("o", 1), patient(), patient(""))
    put(tmp_path, patient("p2", link=[{"type": "replaced-by"}]))
    said = fault(tmp_path, column())
    assert "1 Patients have the id of another one" in said
    assert "1 Patients have no id" in said
    assert "1 Patients are replaced by others" in said


def test_a_medication_by_reference_is_found_in_the_order_or_the_export(tmp_path):
    drug = {"resourceType": "MedicationRequest", "id": "m", "status": "active", "intent": "order"}
    drug |= {"authoredOn": "2020-01-01", "subject": {"reference": "Patient/p1"}}
    put(tmp_path, patient(), drug | {"medicationReference": {"reference": "Medication/7"}})
    own = column("1", "count", resource="MedicationRequest")
    code = {"coding": [{"system": SNOMED, "code": "1"}]}
    part = {"contained": [{"resourceType": "Medication", "id": "x", "code": code}]}
    put(tmp_path, drug | part | {"id": "n", "medicationReference": {"reference": "#x"}})
    said = fault(tmp_path, own)
    assert "1 MedicationRequests refer to a medication that is not there (medication)" in said
    lenient = described([own], leave_out=["medication"])
    assert read_table(lenient, tmp_path)["y"].tolist() == ["1"]
    put(tmp_path, {"resourceType": "Medication", "id": "7", "code": code})
    assert values(tmp_path, own) == {"p1": "2"}


def test_files_of_one_type_are_read_together_packed_or_not(tmp_path):
    put(tmp_path, patient("p1"), patient("p2"), packed=True)
    put(tmp_path, observation("a", 1, of="p1"), suffix=".000")
    put(tmp_path, observation("b", 2, of="p2"), "", suffix=".001", packed=True)
    assert values(tmp_path, column()) == {"p1": "1.0", "p2": "2.0"}


def test_a_packed_file_that_would_never_end_is_refused(tmp_path, monkeypatch):
    put(tmp_path, patient(), observation("o", 1))
    with gzip.open(tmp_path / "bulk" / "Observation.9.ndjson.gz", "wb") as file:
        file.write(b"\n" * 50_000)
    monkeypatch.setattr(fhir_lines, "FILES_LIMIT_BYTES", 10_000)
    assert "Observation: over 10000 bytes" in fault(tmp_path, column())
    monkeypatch.undo()
    monkeypatch.setattr(fhir_lines, "LINE_LIMIT_BYTES", 100)
    assert "a line has over 100 bytes" in fault(tmp_path, column())


def test_a_file_that_is_cut_off_or_not_there_is_refused(tmp_path):
    put(tmp_path, patient(), packed=True)
    assert "no file of Observation, as Observation.ndjson" in fault(tmp_path, column())
    path = tmp_path / "bulk" / "Patient.ndjson.gz"
    path.write_bytes(path.read_bytes()[:-9])
    assert "a file of Patient is cut off or cannot be unpacked" in fault(tmp_path, column())


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"take": "mean", "resource": "Condition", "unit": None}, "`any` or `count` is taken"),
        ({"unit": None}, "`unit` is due for a number"),
        ({"value": "code"}, "`system` is due with `value` = code"),
        ({"codes": []}, "which Observation?"),
        ({"codes": ["8480-6"]}, "String should match pattern"),
        ({"name": "age"}, "names in `columns` differ"),
        ({"days": None, "within": "visit"}, "with an Encounter as the index"),
        ({"days": None}, "is due"),
    ],
)
def test_a_form_that_cannot_be_meant_is_refused(wrong, why):
    with pytest.raises(BadInput) as caught:
        described([{k: v for k, v in (column() | wrong).items() if v is not None}])
    assert why in str(caught.value)


def test_the_form_belongs_to_its_format():
    with pytest.raises(BadInput, match="`fhir` belongs to format fhir"):
        described([column()], format="csv")


def test_the_check_tells_what_to_fix_and_no_value(tmp_path):
    put(tmp_path, patient(CANARY), observation("o", 777, of=CANARY, unit="kPa"))
    seen = check(described([column()]), contract(BINARY, [AGE]), tmp_path)
    assert "1 values of column y are in another unit than mm[Hg]" in str(seen.to_fix)
    assert CANARY not in str(seen.to_json())
    assert "777" not in str(seen.to_json())
    assert refusal(described([column()]), contract(BINARY, [AGE]), tmp_path)
