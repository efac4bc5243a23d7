"""Groups and shuffled columns in a report: recomputed, on both pages, and nowhere another."""

import io
import re
from functools import lru_cache

import pytest
from pypdf import PdfReader
from tests.support.federation_evidence import Federation, federation
from tests.support.figures_of_groups import every_changed_figure_is_found
from tests.support.forgeries import sealed

from wardround.audit.bundle import evidence_of
from wardround.audit.derive import report_of
from wardround.audit.hazard_case import Case
from wardround.audit.hazards_of_groups import small_groups
from wardround.audit.html import render_html
from wardround.audit.model_card import markdown, model_card
from wardround.audit.pdf import render_pdf
from wardround.audit.report_model import Hazard, Origin, Report, Status
from wardround.audit.verify import verify_bytes
from wardround.audit.words import words_of
from wardround.canonical import Json

ANGINA, OLD = {"column": "angina"}, {"column": "age", "edges": [45, 65]}
NOBODY_OLD = {"column": "age", "edges": [45, 80]}
KINDS: dict[str, Json] = {
    "worse": {"subgroups": [ANGINA, OLD], "importance": True},
    "alike": {"subgroups": [ANGINA], "smallest_group": 500},
    "nobody": {"subgroups": [NOBODY_OLD], "smallest_group": 500},
    "few": {"subgroups": [ANGINA]},
    "noised": {
        "subgroups": [ANGINA, OLD],
        "importance": ["age"],
        "counts": "noised",
        "epsilon": 1.5,
        "bins": 8,
        "smallest_group": 100,
    },
}


@lru_cache(maxsize=8)
def run(kind: str) -> Federation:
    return federation(rounds=1, changes={"evaluation": KINDS[kind]})


@lru_cache(maxsize=8)
def report(kind: str) -> Report:
    return report_of(evidence_of(run(kind).parts()))


def hazard(kind: str) -> Hazard:
    return next(each for each in report(kind).hazards if each.id == "small-groups")


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_with_groups_verifies_and_its_charge_is_the_studys(kind: str):
    verdicts = verify_bytes(sealed(run(kind).parts()))
    assert verdicts.ok, list(verdicts.lines())


def test_counts_that_cost_more_than_a_hospital_says_are_named():
    dear = KINDS["noised"] | {"epsilon": 2.5}
    fed = federation(rounds=1, changes={"evaluation": dear})  # its parties count training alone
    failures = verify_bytes(sealed(fed.parts())).recomputed.failures
    assert {failure.code for failure in failures} == {"epsilon-under-reported"}
    assert "its own releases give 2.49" in failures[0].reason


def test_a_group_that_is_served_worse_fails_the_hazard_by_evidence():
    found = hazard("worse")
    assert (found.status, found.origin) == (Status.FAIL, Origin.RECOMPUTED)
    assert "age ≥ 65" in found.finding
    assert "angina" not in found.finding
    assert [place.log for place in found.evidence] == ["coordinator"]


def test_groups_that_are_served_alike_pass_and_an_empty_one_does_not_count():
    assert hazard("alike").status is Status.PASS
    assert "None of 2 groups" in hazard("alike").finding
    found = next(g for g in report("nobody").evaluation.subgroups[0].groups if g.group == "≥ 80")
    assert found.standing == "nobody counted"


def test_a_group_that_nobody_counts_apart_is_not_known_to_be_served_alike():
    evidence = evidence_of(run("alike").parts())
    facts = report("alike").evaluation
    (grouping,) = facts.subgroups
    left = grouping.groups[-1].model_copy(update={"standing": "too few"})
    mixed = grouping.model_copy(update={"groups": (*grouping.groups[:-1], left)})
    case = Case(
        evidence=evidence,
        attempts=(),
        releases={},
        guarantee=report("alike").guarantee,
        evaluation=facts.model_copy(update={"subgroups": (mixed,)}),
    )
    found = small_groups(case)
    assert found.status is Status.REMARK
    assert found.text.startswith("Of 4 groups 2 are too small")


def test_groups_of_which_too_little_is_known_are_a_remark():
    found = hazard("few")
    assert found.status is Status.REMARK
    assert "may be ranked worse" in found.finding


def test_noise_is_part_of_what_a_gap_may_be():
    groups = report("noised").evaluation.subgroups[1].groups
    assert groups[2].auroc_gap.noise_low < groups[2].auroc_gap.value
    assert hazard("noised").status is Status.FAIL
    assert report("noised").evaluation.subgroups[0].count_noise > 10


def test_what_the_model_rests_on_stands_in_the_report():
    age, angina = report("worse").evaluation.importance
    assert (age.column, angina.column) == ("age", "angina")
    assert age.lost.low > 0.1
    assert angina.lost.value == 0.0


def test_a_report_without_groups_has_no_word_of_them():
    value = report_of(evidence_of(federation(rounds=1).parts())).to_json()
    assert not {"subgroups", "importance"} & set(value["evaluation"])


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["worse", "noised"])
def test_no_figure_of_a_group_or_column_can_be_another(
    kind: str, every: int, monkeypatch: pytest.MonkeyPatch
):
    evidence = evidence_of(run(kind).parts())
    every_changed_figure_is_found(report(kind), evidence, every, monkeypatch)


@pytest.mark.parametrize("lang", ["en", "de"])
@pytest.mark.parametrize("kind", ["worse", "noised", "alike"])
def test_both_pages_show_every_group_in_both_languages(kind: str, lang: str):
    value = report(kind).to_json()
    html = re.sub(r"<[^>]+>", " ", render_html(value, lang=lang))
    reader = PdfReader(io.BytesIO(render_pdf(value, lang=lang)))
    pdf = " ".join(page.extract_text() for page in reader.pages)
    t = words_of(lang)
    for text in (html.replace("&#39;", "'"), pdf):
        solid = re.sub(r"\s+|\xad", "", text)
        for grouping in value["evaluation"]["subgroups"]:
            head = t.plain("How well the model does for whom: {column}", column=grouping["column"])
            assert re.sub(r"\s+", "", head) in solid
            for group in grouping["groups"]:
                shown = group["standing"] == "shown"
                count = f"{group['patients']}({group['positives']})" if shown else group["standing"]
                assert re.sub(r"\s+", "", t.word(count)) in solid
                if group["auroc"]:
                    assert f"{group['auroc']['value']:.3f}" in solid
        for column in value["evaluation"].get("importance", []):
            assert f"{column['lost']['value']:+.3f}".replace("-", "") in solid.replace("-", "")


def test_what_is_hidden_is_not_in_the_report_at_all():
    hidden = [g for g in report("noised").evaluation.subgroups[1].groups if g.standing != "shown"]
    assert {g.group for g in hidden} == {"not known"}
    for group in hidden:
        told = group.model_dump(exclude={"group", "standing"})
        assert set(told.values()) == {None}


def test_the_label_says_that_exact_counts_of_groups_are_not_protected():
    told = [text for text in report("worse").not_protected if text.startswith("The same counts")]
    assert len(told) == 1
    assert "groups by angina, age, of 5 patients or more" in told[0]
    assert not any(text.startswith("The same counts") for text in report("noised").not_protected)


def test_the_model_card_has_the_groups_and_what_the_model_rests_on():
    found = report("worse")
    card = model_card(found, found.to_bytes(), {})
    text = markdown(card)
    old = found.evaluation.subgroups[1].groups[2]
    assert f"| age ≥ 65 | {old.patients} | {old.auroc.value:.4g} |" in text
    assert "| age not known | nobody counted | NA |" in text
    assert f"| age | {found.evaluation.importance[0].lost.value:.4g} |" in text
    assert card["evaluation"]["groups"][1]["groups"][2]["standing"] == "shown"


def test_the_model_card_no_longer_says_that_subgroups_were_not_tested():
    found = report("worse")
    told = model_card(found, found.to_bytes(), {})["not_tested"]
    assert not any("Subgroups, by age" in line for line in told)
    assert any(line.startswith("FAIL: Utility lost for small groups") for line in told)
