"""Small bulk exports of FHIR R4 for tests, and descriptions of them."""

import gzip
import json

from tests.support.described_data import description

LOINC, SNOMED, UCUM = "http://loinc.org", "http://snomed.info/sct", "http://unitsofmeasure.org"
AGE_COLUMN = {"name": "age", "resource": "Patient", "value": "age"}
TODAY = {"on": "2021-06-01"}


def described(columns, cohort=TODAY, leave_out=(), **more):
    source = {"column": "age", "source": "age", "unit": "a"}
    return description(
        {"source": "y", "positive_when": ">0"},
        [source],
        **{
            "format": "fhir",
            "path": "bulk",
            "patient": {"source": "patient"},
            "fhir": {
                "cohort": cohort,
                "columns": [AGE_COLUMN, *columns],
                "leave_out": [*leave_out],
            },
        }
        | more,
    )


def column(code="8480-6", take="last", unit="mm[Hg]", resource="Observation", **more):
    system = LOINC if resource == "Observation" else SNOMED
    own = {"name": "y", "resource": resource, "codes": [f"{system}|{code}"], "take": take}
    number = resource == "Observation" and take not in {"any", "count"} and "value" not in more
    window = {} if {"hours", "within"} & set(more) else {"days": [-10_000, 10_000]}
    return own | ({"unit": unit} if number else {}) | window | more


def patient(own="p1", **more):
    return {
        "resourceType": "Patient",
        "id": own,
        "birthDate": "1970-06-02",
        "gender": "female",
    } | more


def observation(own, value, when="2021-01-01", *, of="p1", code="8480-6", unit="mm[Hg]", **more):
    quantity = {"value": value, "unit": unit, "system": UCUM, "code": unit}
    return {
        "resourceType": "Observation",
        "id": own,
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": f"Patient/{of}"},
        "effectiveDateTime": when,
        "valueQuantity": quantity,
    } | more


def condition(own, when="2020-05-05", *, of="p1", code="44054006", status="confirmed"):
    return {
        "resourceType": "Condition",
        "id": own,
        "verificationStatus": {"coding": [{"system": "x", "code": status}]},
        "code": {"coding": [{"system": "local", "code": "7"}, {"system": SNOMED, "code": code}]},
        "subject": {"reference": f"urn:uuid:{of}"},
        "onsetDateTime": when,
    }


def encounter(own, start, end=None, *, of="p1", code="185345009"):
    return {
        "resourceType": "Encounter",
        "id": own,
        "status": "finished",
        "class": {"system": "act", "code": "IMP"},
        "type": [{"coding": [{"system": SNOMED, "code": code}]}],
        "subject": {"reference": f"Patient/{of}"},
        "period": {"start": start} | ({"end": end} if end else {}),
    }


def put(folder, *lines, packed=False, suffix=""):
    """Resources, or text, each in the file of its type; more is added to what is there."""
    (folder / "bulk").mkdir(exist_ok=True)
    for line in lines:
        kind = line["resourceType"] if isinstance(line, dict) else "Observation"
        text = (line if isinstance(line, str) else json.dumps(line)) + "\n"
        name = f"{kind}{suffix}.ndjson" + (".gz" if packed else "")
        with (gzip.open if packed else open)(folder / "bulk" / name, "at") as file:
            file.write(text)
