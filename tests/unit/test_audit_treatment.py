"""What a report and a model card say where a treatment can be chosen."""

import json
from functools import lru_cache

import numpy as np
import pytest
from tests.support.federation_evidence import federation, study_of
from tests.unit.test_evaluation_treatment import LAYOUT, PLAN, trial

from wardround.audit import treatment_page
from wardround.audit.bundle import evidence_of
from wardround.audit.derive import derive_report
from wardround.audit.html import render_html
from wardround.audit.model_card import markdown, model_card
from wardround.audit.report_model import Report
from wardround.audit.words import words_of
from wardround.evaluation.layout import Outcomes, read_lanes
from wardround.evaluation.treatment import TreatmentLayout
from wardround.study.treatment import CAVEATS


@lru_cache(maxsize=1)
def plain() -> dict:
    return derive_report(evidence_of(federation(study=study_of(rounds=1)).parts())).copy()


def told(plan=PLAN, *, blind: bool = False, count: int = 3000) -> dict:
    outcomes = trial(1, count)
    arms = outcomes.arms[np.random.default_rng(1).permutation(count)] if blind else outcomes.arms
    layout = TreatmentLayout(whole=LAYOUT.whole, plan=plan)
    counted = Outcomes(outcomes.truth, outcomes.outputs, treated=outcomes.treated, arms=arms)
    return layout.metrics(read_lanes(layout.count(counted).exact(), layout), cell_noise_sd=0.0)


def report_with(treatment: dict) -> Report:
    value = json.loads(json.dumps(plain()))
    value["evaluation"]["metrics"]["treatment"] = treatment
    return Report.model_validate(value)


def page(report: Report, lang: str = "en") -> str:
    return " ".join(render_html(report.to_json(), lang=lang).split())


@pytest.mark.parametrize("lang", ["en", "de"])
def test_a_report_without_a_treatment_says_nothing_of_one(lang):
    report = Report.model_validate(plain())
    assert treatment_page.treatment_table(report, words_of(lang)) == {"chosen": None}


def test_the_verdict_is_what_both_intervals_allow():
    verdicts = {
        treatment_page.BETTER: told()["treatment"],
        treatment_page.UNKNOWN: told(count=0)["treatment"],
    }
    blind = told(blind=True, count=300)["treatment"]
    verdicts[treatment_page.NOT_SHOWN.format(treated="drug")] = blind
    for due, treatment in verdicts.items():
        chosen = treatment_page.treatment_table(report_with(treatment), words_of("en"))["chosen"]
        assert chosen["verdict"] == due
        assert chosen["alarm"] is None
    worse = json.loads(json.dumps(blind))
    worse["policy"]["less_than_treated"] |= {"low": -0.2, "high": -0.1}
    chosen = treatment_page.treatment_table(report_with(worse), words_of("en"))["chosen"]
    assert chosen["verdict"] == treatment_page.WORSE_THAN_ALL.format(treated="drug")


def test_arms_that_chance_does_not_give_raise_an_alarm_on_page_and_card():
    wrong = PLAN.model_copy(update={"probability": 0.6})
    report = report_with(told(wrong)["treatment"])
    chosen = treatment_page.treatment_table(report, words_of("en"))["chosen"]
    assert "1800 of them were due" in chosen["alarm"]
    card = model_card(report, b"", {})
    assert any("say nothing of treatment by it" in limit for limit in card["limits"])


@pytest.mark.parametrize("assignment", ["randomised", "assumed"])
def test_the_card_says_what_a_benefit_rests_on(assignment):
    changes = {"assignment": assignment, "protocol": None, "assumption": None}
    changes["protocol" if assignment == "randomised" else "assumption"] = "as the roll of a die"
    report = report_with(told(PLAN.model_copy(update=changes))["treatment"])
    text = markdown(model_card(report, b"", {}))
    assert CAVEATS[assignment].format(basis="as the roll of a die") in text
    assert "nobody can see" in text
    chosen = treatment_page.treatment_table(report, words_of("en"))["chosen"]
    assert chosen["assumed"] == (assignment == "assumed")
    assert "roll of a die" in chosen["caveat"]
    without = markdown(model_card(Report.model_validate(plain()), b"", {}))
    assert "nobody can see" not in without


def test_the_page_has_policies_and_strata_in_both_languages():
    treatment = told()["treatment"]
    english, german = (page(report_with(treatment), lang) for lang in ("en", "de"))
    assert "Would choosing the treatment by this model help?" in english
    assert "Hülfe es, die Behandlung nach diesem Modell zu wählen?" in german
    assert "Would choosing" not in german
    risk = f"{100 * treatment['policy']['risk']['value']:.1f} %"
    assert risk in english
    assert risk in german
    constants = {
        value
        for name, value in vars(treatment_page).items()
        if name.isupper() and isinstance(value, str)
    }
    said = {one for one in constants | set(CAVEATS.values()) if " " in one}
    assert len(said) >= 10
    assert said - set(words_of("de").fixed) == set()
