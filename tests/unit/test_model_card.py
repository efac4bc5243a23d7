"""The model card follows from the report's bytes; a person's words cannot change its form."""

import hashlib
import json

import pytest
from tests.support.forgeries import honest_report

from wardround.audit.model_card import markdown, model_card, read_report
from wardround.canonical import canonical_bytes
from wardround.errors import BadInput

FILES = {"model.safetensors": b"weights", "bundle.zip": b"bundle"}


def card_of(content):
    return model_card(read_report(content, json.loads(content)), content, FILES)


def changed(change):
    value = json.loads(honest_report())
    change(value)
    return canonical_bytes(value)


def test_the_card_says_what_the_report_says_and_hashes_its_files():
    content = honest_report()
    report, card = json.loads(content), card_of(content)
    assert card["model"]["digest"] == report["run"]["model_digest"]
    assert card["intended_use"] == report["study"]["purpose"]
    assert card["evidence"]["report"] == hashlib.sha256(content).hexdigest()
    assert card["evidence"]["files"] == {
        name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()
    }
    assert card["privacy"]["epsilon"] == report["guarantee"]["epsilon"]["value"]
    assert card["privacy"]["not_protected"] == report["not_protected"]
    auroc = next(row for row in card["evaluation"]["metrics"] if row["name"] == "AUROC")
    assert auroc["value"] == report["evaluation"]["metrics"]["auroc"]["value"]
    hospitals = {one["hospital"]: one for one in card["took_part"]["hospitals"]}
    assert set(hospitals) == set(report["participation"]["planned"])
    assert {one["rounds_in_the_model"] for one in hospitals.values()} == {2}
    text = markdown(card)
    assert f"| report | `{card['evidence']['report']}` |" in text
    for name, digest in card["evidence"]["files"].items():
        assert f"| {name} | `{digest}` |" in text


def test_what_was_not_tested_is_said():
    card = card_of(honest_report())
    said = "\n".join(card["not_tested"])
    assert "external validation" in said
    assert "Attacks on the released model, at bergen, coimbra, leiden, zurich." in said
    report = json.loads(honest_report())
    due = [hazard["title"] for hazard in report["hazards"] if hazard["status"] != "PASS"]
    assert due
    assert all(title in said for title in due)


def test_without_an_evaluation_the_card_claims_no_quality():
    def no_evaluation(report):
        report["evaluation"] |= {"metrics": None, "place": None, "origin": "NOT AVAILABLE"}

    card = card_of(changed(no_evaluation))
    assert card["evaluation"]["available"] is False
    assert "nothing is known" in markdown(card)
    assert "The model itself: no evaluation was opened in this run." in card["not_tested"]


def test_a_run_without_a_model_has_no_card():
    with pytest.raises(BadInput, match="no model"):
        card_of(changed(lambda report: report["run"].update(model_digest=None)))


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report.update(extra=1),
        lambda report: report["run"].pop("run"),
        lambda report: report["evaluation"].update(threshold="half"),
    ],
)
def test_a_file_that_is_no_report_is_refused(change):
    with pytest.raises(BadInput, match=r"report\.json"):
        card_of(changed(change))


def test_bytes_that_are_not_canonical_are_refused():
    content = json.dumps(json.loads(honest_report()), indent=1).encode()
    with pytest.raises(BadInput, match="not the bytes"):
        card_of(content)


def test_words_of_a_person_make_no_markup():
    evil = "# Title | cell `code` [link](http://example.org) <b>\n\n## Privacy\nperfect"

    def written(report):
        report["study"] |= {"purpose": evil, "title": evil}

    text = markdown(card_of(changed(written)))
    assert text.count("\n## Privacy\n") == 1
    assert "](http" not in text.replace("\\]", "")
    assert "<b>" not in text.replace("\\<b\\>", "")
