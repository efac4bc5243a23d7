"""Groups and crossings of every label in a bundle: verified, on both pages, in both languages."""

import io
import re
from functools import lru_cache

import pytest
from pypdf import PdfReader
from tests.support.federation_evidence import Federation, federation
from tests.support.federation_study import CONTRACT
from tests.support.figures_of_groups import every_changed_figure_is_found
from tests.support.forgeries import sealed
from tests.support.labelled_counts import ANGINA, CROSSED, OF_EVERY_LABEL, with_label

from wardround.audit.bundle import evidence_of
from wardround.audit.derive import report_of
from wardround.audit.html import render_html
from wardround.audit.model_card import markdown, model_card
from wardround.audit.pdf import render_pdf
from wardround.audit.report_model import Hazard, Report, Status
from wardround.audit.verify import verify_bytes
from wardround.audit.words import words_of
from wardround.canonical import Json

ASKED: Json = {"subgroups": [CROSSED], "importance": True}
NOISED: Json = {
    "subgroups": [CROSSED, ANGINA],
    "importance": ["age"],
    "counts": "noised",
    "epsilon": 1.5,
    "bins": 8,
    "time_bins": 1,
    "smallest_group": 100,
}
KINDS = dict.fromkeys(OF_EVERY_LABEL, ASKED) | {"noised classes": NOISED}
COMPARED = {
    "classes": "mean AUROC",
    "labels": "mean AUROC",
    "numbers": "mean absolute error, share of the range",
    "survival": "C-index",
}
FAST = {"survival", "noised classes"}


def each(kinds):
    """The kinds as parameters; what takes its time is for make test-all."""
    marked = [pytest.param(k, marks=() if k in FAST else pytest.mark.slow) for k in kinds]
    return pytest.mark.parametrize("kind", marked)


EVERY_KIND = each(KINDS)


@lru_cache(maxsize=8)
def run(kind: str) -> Federation:
    label = kind.rsplit(maxsplit=1)[-1]
    return federation(rounds=1, changes=with_label(label, CONTRACT, KINDS[kind]))


@lru_cache(maxsize=8)
def report(kind: str) -> Report:
    return report_of(evidence_of(run(kind).parts()))


def hazard(found: Report) -> Hazard:
    return next(each for each in found.hazards if each.id == "small-groups")


@EVERY_KIND
def test_a_bundle_with_groups_of_every_label_verifies(kind: str):
    verdicts = verify_bytes(sealed(run(kind).parts()))
    assert verdicts.ok, list(verdicts.lines())


@each(OF_EVERY_LABEL)
def test_the_group_whose_outputs_are_coins_is_named(kind: str):
    found = hazard(report(kind))
    assert found.status is Status.FAIL
    assert "angina by age 1, ≥ 65" in found.finding
    assert "0, < 65" not in found.finding
    assert COMPARED[kind] in found.finding
    assert words_of("de").sentence(found.finding) != found.finding
    age, angina = report(kind).evaluation.importance
    assert (age.metric, age.column) == (COMPARED[kind], "age")
    assert age.lost.low > 0.03
    assert angina.lost.value == 0.0


@pytest.mark.parametrize(
    "kind",
    ["survival", *(pytest.param(k, marks=pytest.mark.slow) for k in KINDS if k != "survival")],
)
def test_both_pages_show_every_number_of_every_group_in_both_languages(kind: str):
    value = report(kind).to_json()
    for lang in ("en", "de"):
        t = words_of(lang)
        html = re.sub(r"<[^>]+>", " ", render_html(value, lang=lang))
        reader = PdfReader(io.BytesIO(render_pdf(value, lang=lang)))
        pdf = " ".join(page.extract_text() for page in reader.pages)
        for text in (html.replace("&lt;", "<"), pdf):
            solid = re.sub(r"\s+|\xad", "", text)
            for grouping in value["evaluation"]["subgroups"]:
                for group in grouping["groups"]:
                    if group["standing"] != "shown":
                        assert re.sub(r"\s+", "", t.word(group["standing"])) in solid
                    for metric in group["metrics"]:
                        size = abs(metric["estimate"]["value"])
                        shown = f"{size:.3g}" if metric["unit"] else f"{size:.3f}"
                        assert shown in solid, (lang, metric)
            for column in value["evaluation"]["importance"]:
                assert f"{abs(column['lost']['value']):.3f}" in solid


def test_a_hidden_group_has_no_number_in_the_report():
    found = report("noised classes").evaluation.subgroups
    assert [part.column for part in found] == ["angina by age", "angina"]
    hidden = [group for part in found for group in part.groups if group.standing != "shown"]
    assert {group.group for group in hidden} == {"not known"}
    for group in hidden:
        told = (group.patients, group.of_outcome, group.metrics, group.worse_by)
        assert told == (None, (), (), None)


@pytest.mark.parametrize("every", [40, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["survival", "noised classes"])
def test_no_figure_of_a_group_can_be_another(
    kind: str, every: int, monkeypatch: pytest.MonkeyPatch
):
    evidence = evidence_of(run(kind).parts())
    every_changed_figure_is_found(report(kind), evidence, every, monkeypatch)


@EVERY_KIND
def test_the_model_card_has_every_metric_of_the_groups(kind: str):
    found = report(kind)
    text = markdown(model_card(found, found.to_bytes(), {}))
    shown = found.evaluation.subgroups[0].groups[1]
    of = f", {shown.metrics[0].of}" if shown.metrics[0].of else ""
    unit = f" ({shown.metrics[0].unit})" if shown.metrics[0].unit else ""
    name = f"{shown.metrics[0].name}{of}{unit}"
    assert f"| angina by age {shown.group} | {shown.patients} | {name} |" in text
    assert f"| column, shuffled | worse by ({found.evaluation.importance[0].metric}) |" in text


def test_the_label_says_of_how_many_of_every_outcome_exact_counts_are():
    told = [text for text in report("survival").not_protected if text.startswith("The same counts")]
    assert len(told) == 1
    assert "groups by angina by age, of 5 patients or more of every outcome" in told[0]
    assert words_of("de").sentence(told[0]) != told[0]
