"""registry.yaml: what the registry's schema asks, of any study, and never of a run without DP."""

import json
from functools import lru_cache
from pathlib import Path

import pytest
import yaml
from tests.support.federation_evidence import federation, study_of
from typer.testing import CliRunner

from wardround.audit.bundle import evidence_of, write_bundle
from wardround.audit.derive import derive_report
from wardround.audit.registry import TO_FILL_IN, render_registry
from wardround.audit.report_model import Report, report_schema
from wardround.canonical import Json
from wardround.cli.audit import app
from wardround.errors import BadInput

SCHEMA = Path("shared/wardround/audit/report.schema.json")
BARE: Json = {"privacy": {"mechanism": "none", "epsilon": None, "delta": None}}
# The names that the registry's schema knows; those of `basic` are due.
BASIC = {"name", "data_curators", "description", "intended_use", "data_product_type"}
BASIC |= {"data_product_region", "publication_date"}
NAMES = {
    "basic": BASIC | {"data_product_sector"},
    "dp_variant": {"variant_name", "data_domain", "unprotected_quantities"},
    "privacy_loss": {
        *("privacy_unit", "privacy_unit_details"),
        *("privacy_parameters", "privacy_parameters_details"),
    },
    "deployment_model": {
        *("model_name", "model_name_details", "actors", "release_type", "release_type_details"),
        *("data_source_type", "data_source_type_details", "access_type", "access_type_details"),
    },
    "accounting": {"post_processing", "composition"},
    "implementation": {
        *("preprocessing_and_hyperparameter_tuning", "mechanisms", "justification"),
    },
    "administrative": {"sources", "notes", "registry_authors"},
}
VALUES = {
    ("basic", "data_product_type"): {"Machine learning model", "Summary statistics"},
    ("basic", "data_product_sector"): {"Healthcare"},
    ("dp_variant", "variant_name"): {"Approximate DP"},
    ("deployment_model", "model_name"): {"Federated"},
    ("deployment_model", "release_type"): {"One release", "Many releases"},
    ("deployment_model", "data_source_type"): {"Static", "Dynamic"},
    ("deployment_model", "access_type"): {"Interactive", "Non-interactive"},
}


@lru_cache(maxsize=4)
def report(kind: str = "") -> str:
    statistics: Json = {"statistics": {"epsilon": 1.0}, "rounds": {"count": 0, "quorum": 3}}
    changes: dict[str, Json] = {"none": BARE, "statistics": statistics}
    study = study_of(rounds=1, changes=changes.get(kind, {}))
    fed = federation(study=study, described=kind == "described", compared=kind == "compared")
    return json.dumps(derive_report(evidence_of(fed.parts())))


def record(kind: str = "", **study: object) -> Json:
    value = json.loads(report(kind))
    value["study"] |= study
    found: Json = yaml.safe_load(render_registry(value))
    return found


@pytest.mark.parametrize("kind", ["", "statistics"])
def test_it_has_the_names_and_values_of_the_registry(kind: str):
    found = record(kind)
    assert set(found) == {"url_slug", "status", "tier", "deployment"}
    assert (found["status"], found["tier"]) == ("Draft", 3)
    assert set(found["deployment"]) == set(NAMES)
    for part, content in found["deployment"].items():
        assert set(content) <= NAMES[part]
        for name, value in content.items():
            assert (part, name) not in VALUES or value in VALUES[part, name]
    assert set(found["deployment"]["basic"]) >= BASIC
    product = found["deployment"]["basic"]["data_product_type"]
    assert product == ("Summary statistics" if kind else "Machine learning model")


def test_epsilon_is_a_number_no_smaller_than_the_reports_and_delta_is_one_too():
    guarantee = json.loads(report())["guarantee"]
    parameters = record()["deployment"]["privacy_loss"]["privacy_parameters"]
    assert guarantee["epsilon"]["value"] <= parameters["epsilon"]
    assert parameters["epsilon"] < guarantee["epsilon"]["value"] + 0.011
    assert parameters["delta"] == guarantee["delta"]["value"]
    small = json.loads(report())
    small["guarantee"]["delta"]["value"] = 1e-7
    read = yaml.safe_load(render_registry(small))["deployment"]["privacy_loss"]
    assert read["privacy_parameters"]["delta"] == 1e-7


def test_a_date_stays_a_string_and_what_nobody_knows_is_to_be_filled_in():
    found = record()["deployment"]
    assert found["basic"]["publication_date"] == "2026-03-02"
    assert found["basic"]["data_product_region"] == TO_FILL_IN
    assert found["administrative"]["registry_authors"] == [TO_FILL_IN]
    for line in json.loads(report())["not_protected"]:
        assert line in found["dp_variant"]["unprotected_quantities"]


@pytest.mark.parametrize(
    "text", ["yes", "1e9", "a: b # c", "\"'\\n", "- x", "&a *b !c", "\x85\u2028\ufeff\x9f", "😀 中"]
)
def test_the_words_of_a_study_are_read_back_as_they_were(text: str):
    assert record(title=text, purpose=text)["deployment"]["basic"]["name"] == text
    assert record(purpose=text)["deployment"]["basic"]["intended_use"] == text


def test_a_run_without_dp_has_no_place_in_it():
    with pytest.raises(BadInput, match="NO FORMAL GUARANTEE came, FORMAL DP was due"):
        render_registry(json.loads(report("none")))
    with pytest.raises(BadInput, match=r"wardround\.report/1"):
        render_registry({"schema": "wardround.report/1"})


def test_the_published_schema_is_that_of_the_reports():
    """When this fails: `wardround audit schema > shared/wardround/audit/report.schema.json`."""
    assert json.loads(SCHEMA.read_text()) == report_schema()
    done = CliRunner().invoke(app, ["schema"])
    assert done.stdout == SCHEMA.read_text()


@pytest.mark.parametrize("kind", ["", "none", "statistics", "described", "compared"])
def test_real_reports_have_every_name_of_the_schema_and_no_other(kind: str):
    """What came later is written only where it says something: older reports keep their bytes."""
    value, later = json.loads(report(kind)), {"described": "datasheets", "compared": "comparison"}
    always = set(report_schema()["required"])
    assert set(value) == always | ({later[kind]} if kind in later else set())
    assert set(report_schema()["properties"]) == always | set(later.values())
    assert Report.model_validate(value).to_json() == value
    for broken in ({**value, "more": 1}, {k: v for k, v in value.items() if k != "dpia"}):
        with pytest.raises(ValueError, match="1 validation error"):
            Report.model_validate(broken)


def test_the_command_writes_the_forms_that_were_asked_for(tmp_path: Path):
    fed = federation(rounds=1)
    write_bundle(tmp_path / "bundle.zip", fed.parts(), identity=fed.coordinator.identity)
    words = ["report", str(tmp_path / "bundle.zip"), "--out", str(tmp_path / "o")]
    done = CliRunner().invoke(
        app, [*words, "--format", "registry", "--format", "html", "--lang", "de", "--json"]
    )
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert set(answer) == {"registry", "report", "ok"}
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["registry.yaml", "report.html"]
    page = (tmp_path / "o" / "report.html").read_text()
    assert '<html lang="de">' in page
    assert "Nachgerechnet: ja" in page
    assert "Noch hat niemand aus einem Krankenhaus über diesen Bericht entschieden." in page
    assert CliRunner().invoke(app, [*words, "--lang", "fr"]).exit_code == 2
