"""From a run of real processes to a prediction: the kept model, its explanation, its export."""

import csv
import hashlib
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import onnx
import onnxruntime
import pytest
from fhir.resources.R4B.riskassessment import RiskAssessment as RiskAssessmentR4
from fhir.resources.riskassessment import RiskAssessment as RiskAssessmentR5
from tests.support.small_federation import Federation, standing_federation, wardround

from wardround.audit.model_card import markdown
from wardround.study.manifest import Study

pytestmark = pytest.mark.federation

NAMES = ("alpha", "beta", "gamma")
NEW = [
    ("n1", "63.0", "7.2", "1"),
    ("n2", "30.0", "", "0"),
    ("n3", "200", "5", "1"),
    ("n4", "41.0", "2.0", "?"),
]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory):
    """A federation that has ended one study; new patients of alpha lie beside its old ones."""
    with standing_federation(tmp_path_factory.mktemp("decision"), NAMES) as federation:
        study = federation.sign("decisions")
        federation.approve(study)
        federation.submit(study)
        assert federation.result(study)["exit_code"] == 0
        with (federation.folder / "data" / "new.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("patient", "age", "marker", "smoker"), *NEW])
        text = (federation.folder / "study" / "hospitals" / "alpha.toml").read_text()
        label, columns = text.index("[label]"), text.index("[[columns]]")
        text = (text[:label] + text[columns:]).replace("alpha.csv", "new.csv")
        (federation.folder / "new.toml").write_text(text)
        yield federation, study


def about(federation: Federation, study: Study) -> list[object]:
    directory = federation.hospital("alpha").directory
    return ["--dir", directory, "--study", study.name]


def new_patients(federation: Federation) -> list[object]:
    return ["--description", federation.folder / "new.toml", "--data", federation.folder / "data"]


def test_predict_answers_with_the_model_that_the_run_ended_with(ended, tmp_path) -> None:
    federation, study = ended
    folder = federation.run_folder(study)
    report = json.loads((folder / "report.json").read_text())
    out = tmp_path / "risk.ndjson"
    more = ["--report", folder / "report.json", "--fhir", out, "--json"]
    done = wardround("predict", *about(federation, study), *new_patients(federation), *more)
    assert done.code == 0, done.err
    told = done.json
    assert told["model"] == report["run"]["model_digest"]
    assert told["run"] == report["run"]["run"]
    assert told["report"] == hashlib.sha256((folder / "report.json").read_bytes()).hexdigest()
    (point,) = told["operating_points"]
    assert point["pooled_sensitivity"]["value"] == pytest.approx(
        report["evaluation"]["metrics"]["sensitivity"]["value"]
    )
    answers = {patient["patient"]: patient for patient in told["patients"]}
    assert [answers[key]["abstained"] for key in ("n1", "n2", "n3", "n4")] == [
        None,
        None,
        "outside the contract",
        "outside the contract",
    ]
    one = answers["n1"]["channels"][0]
    assert 0 <= one["low"] <= one["risk"] <= one["high"] <= 1
    assert one["risk"] > answers["n2"]["channels"][0]["risk"]  # older, with a higher marker
    resources = [json.loads(line) for line in out.read_text().splitlines()]
    assert out.stat().st_mode & 0o077 == 0
    for resource in resources:
        for version in (RiskAssessmentR4, RiskAssessmentR5):
            version.model_validate(resource)
    statuses = [resource["status"] for resource in resources]
    assert statuses == ["final", "final", "cancelled", "cancelled"]
    assert resources[0]["prediction"][0]["probabilityDecimal"] == pytest.approx(
        100 * one["risk"], abs=1e-3
    )
    assert "prediction" not in resources[2]
    again = wardround("predict", *about(federation, study), *new_patients(federation), *more)
    assert again.code == 4
    assert "exists already" in again.err


def test_explain_adds_up_to_the_score_and_draws_it(ended, tmp_path) -> None:
    federation, study = ended
    words = ["explain", *about(federation, study), *new_patients(federation)]
    done = wardround(*words, "--patient", "n1", "--out", tmp_path / "why", "--json")
    assert done.code == 0, done.err
    told = json.loads((tmp_path / "why" / "explanation.json").read_text())
    assert told == done.json
    table = told["table"]
    assert sum(part["moved"] for part in table["parts"]) == pytest.approx(
        table["score"] - table["score_of_baseline"] + table["gap"]
    )
    assert abs(table["gap"]) < 1e-6
    assert table["score"] == pytest.approx(told["answer"]["channels"][0]["score"], abs=1e-5)
    picture = ET.fromstring((tmp_path / "why" / "parts.svg").read_text())
    assert len(picture.findall(".//{*}rect")) == 1 + len(table["parts"])
    nothing = wardround(*words, "--patient", "n3", "--out", tmp_path / "none", "--json")
    assert nothing.json["table"] is None
    assert nothing.json["answer"]["abstained"] == "outside the contract"
    assert not (tmp_path / "none" / "parts.svg").exists()


def test_importance_finds_what_the_outcome_was_generated_from(ended, tmp_path) -> None:
    federation, study = ended
    done = wardround("importance", *about(federation, study), "--out", tmp_path / "all", "--json")
    assert done.code == 0, done.err
    columns = [column["column"] for column in done.json["columns"]]
    assert set(columns[:2]) == {"age", "marker"}
    assert {"importance.json", "importance.svg", "importance.txt"} == {
        path.name for path in (tmp_path / "all").iterdir()
    }


def test_an_export_as_onnx_scores_as_predict_does_and_has_a_card(ended, tmp_path) -> None:
    federation, study = ended
    out = tmp_path / "export"
    words = ("--coordinator", federation.home.directory, "--out", out, "--format", "onnx")
    done = wardround("model", "export", study.name, *words, "--json")
    assert done.code == 0, done.err
    session = onnxruntime.InferenceSession(out / "model.onnx")
    record = np.array([[2 * (63 - 18) / 72 - 1, 2 * 7.2 / 10 - 1, 0.0, 1.0]], dtype=np.float32)
    ((score,),) = session.run(["channels"], {"records": record})[0]
    told = wardround("predict", *about(federation, study), *new_patients(federation), "--json").json
    assert score == pytest.approx(told["patients"][0]["channels"][0]["score"], abs=1e-5)
    report = (out / "report.json").read_bytes()
    metadata = {p.key: p.value for p in onnx.load(out / "model.onnx").metadata_props}
    assert metadata == {
        "study": study.name,
        "study_digest": study.digest,
        "run": told["run"],
        "model": told["model"],
        "report": hashlib.sha256(report).hexdigest(),
    }
    card = json.loads((out / "model_card.json").read_text())
    assert card["evidence"]["report"] == metadata["report"]
    for name, digest in card["evidence"]["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    assert (out / "MODEL_CARD.md").read_text() == markdown(card)
    verified = wardround("audit", "verify", out / "bundle.zip")
    assert verified.code == 0, verified.out


def _names_the_personalised_model(out: Path, told) -> None:
    for line in out.read_text().splitlines():
        resource = json.loads(line)
        for version in (RiskAssessmentR4, RiskAssessmentR5):
            version.model_validate(resource)
        named = {one["system"]: one["value"] for one in resource["identifier"]}
        assert named["urn:wardround:model"] == told["personalised"]
        assert named["urn:wardround:released-model"] == told["released"]
        assert "not the audited model" in resource["note"][0]["text"]


@pytest.mark.slow  # eight processes
def test_personalise_says_what_joining_gave_and_its_model_answers(ended, tmp_path) -> None:
    federation, study = ended
    directory = federation.hospital("alpha").directory
    ledgers = [path.read_bytes() for path in sorted(directory.glob("ledgers/*.sqlite"))]
    logs = [path.read_bytes() for path in sorted(directory.glob("evidence/*.sqlite"))]
    none = wardround(
        "predict", *about(federation, study), *new_patients(federation), "--personalised"
    )
    assert none.code == 4
    assert "no personalised model is kept here" in none.err
    words = (*about(federation, study), "--steps", 20, "--json")
    done = wardround("personalise", *words, timeout_s=300)
    assert done.code == 0, done.err
    told = done.json
    assert "must not leave" in told["warning"]
    assert "nothing is charged" in told["stays"]
    assert set(told["rows"][0]["values"]) == {"federated", "alone", "personalised"}
    assert told["verdict"] in Path(told["page"]).read_text()
    # A model that stays is no release: neither ledger nor evidence log knows of it.
    assert ledgers == [path.read_bytes() for path in sorted(directory.glob("ledgers/*.sqlite"))]
    assert logs == [path.read_bytes() for path in sorted(directory.glob("evidence/*.sqlite"))]
    again = wardround("personalise", *about(federation, study))
    assert again.code == 4
    assert "scored once" in again.err
    out = tmp_path / "own.ndjson"
    words = (*about(federation, study), *new_patients(federation), "--personalised")
    own = wardround("predict", *words, "--fhir", out, "--json")
    assert own.code == 0, own.err
    assert own.json["model"] == told["personalised"]
    assert own.json["personalised_from"] == told["released"]
    released = wardround("predict", *about(federation, study), *new_patients(federation), "--json")
    assert released.json["model"] == told["released"]
    assert released.json["patients"] != own.json["patients"]
    _names_the_personalised_model(out, told)
    why = wardround("explain", *words, "--patient", "n1", "--out", tmp_path / "why", "--json")
    assert why.code == 0, why.err
    assert why.json["note"] == "personalised at this hospital, not the audited model"


def test_a_model_file_that_was_changed_is_not_used(ended) -> None:
    federation, study = ended
    (path,) = (federation.hospital("alpha").directory / "models").glob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done = wardround("predict", *about(federation, study), *new_patients(federation))
    path.write_bytes(whole)
    assert done.code == 7
    assert "evidence log ends with model" in done.err
