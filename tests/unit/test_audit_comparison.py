"""A rehearsal's comparison in the report: what is shown of it, and that it is stated only."""

import json

import pytest
from tests.support.comparisons import comparison
from tests.support.federation_evidence import RUN, Federation, federation
from tests.support.forgeries import of_type, only, rewritten, sealed, set_to

from wardround.audit.bodies import COORDINATOR_TYPES
from wardround.audit.bundle import evidence_of
from wardround.audit.comparisons import NOT_COVERED
from wardround.audit.derive import report_of
from wardround.audit.forest import Mark, forest_plot
from wardround.audit.html import render_html
from wardround.audit.pdf import render_pdf
from wardround.audit.report_model import Report
from wardround.audit.verify import verify_bytes
from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.evidence.entry import Entry

FEW: Json = {"evaluation": {"bins": 10}}
NO_NOISE: Json = {**FEW, "privacy": {"mechanism": "none", "epsilon": None, "delta": None}}


def compared(**changes: object) -> Federation:
    return federation(rounds=1, changes={**FEW, **changes}, compared=True)


def report(fed: Federation) -> Report:
    return report_of(evidence_of(fed.parts()))


def test_it_stands_in_the_report_as_logged_and_what_no_epsilon_covers():
    fed = compared()
    found = report(fed)
    assert found.comparison is not None
    assert found.comparison.origin.value == "LOGGED"
    seq = of_type(fed.coordinator, "comparison")
    assert (found.comparison.place.log, found.comparison.place.seq) == ("coordinator", seq)
    assert [(each.way, each.epsilon) for each in found.comparison.ways] == [
        ("local-only", None),
        ("federated", None),
        ("federated with DP", fed.study.privacy.epsilon),
        ("pooled", None),
        ("leave one hospital out", fed.study.privacy.epsilon),
    ]
    assert found.comparison.ways[0].hospitals["leiden"].value is None
    assert found.not_protected.count(NOT_COVERED) == 1
    assert verify_bytes(sealed(fed.parts())).ok


def test_without_noise_no_way_has_an_epsilon_and_none_is_with_dp():
    fed = federation(rounds=1, changes=NO_NOISE, compared=True)
    found = report(fed)
    assert found.comparison is not None
    assert [each.epsilon for each in found.comparison.ways] == [None] * 4
    assert verify_bytes(sealed(fed.parts())).ok


def test_a_report_without_one_keeps_the_bytes_that_it_had():
    found = report(federation(rounds=1, changes=FEW))
    assert found.comparison is None
    assert b"comparison" not in found.to_bytes()
    assert NOT_COVERED not in found.not_protected
    html = render_html(found.to_json())
    assert "Stated, not verified" not in html
    assert '<svg class="plot forest"' not in html


def test_both_pages_show_it_under_a_warning_in_both_languages():
    value = report(compared()).to_json()
    english, german = render_html(value), render_html(value, lang="de")
    warning = "Stated, not verified: this run was a rehearsal"
    assert english.index(warning) < english.index("0.840 (0.790 to 0.880)")
    assert "Angegeben, nicht geprüft: Dieser Lauf war eine Probe" in german
    assert "0.840 (0.790 bis 0.880)" in german
    assert "leiden, left out" in english
    assert "may expect 0.400 to 0.970" in english
    for page in (render_pdf(value), render_pdf(value, lang="de")):
        assert page.startswith(b"%PDF")


def test_a_second_one_is_named_and_so_is_one_after_the_end():
    fed = compared().fork()
    told = comparison(fed.study, run=RUN, patients=40)
    entries = list(fed.coordinator.entries)
    at = of_type(fed.coordinator, "comparison")
    fed.coordinator.rewrite([*entries[: at + 1], entries[at], *entries[at + 1 :]])
    failure = only(verify_bytes(sealed(fed.parts())), "recomputed", "comparison-differs")
    assert "a second comparison" in failure.reason
    late = federation(rounds=1, changes=FEW).fork()
    late.coordinator.append(*told, at=late.tick())
    failure = only(verify_bytes(sealed(late.parts())), "recomputed", "comparison-differs")
    assert "after the run's end" in failure.reason


def test_it_has_to_score_the_patients_that_the_run_held_out():
    fed = compared().fork()
    told = comparison(fed.study, run=RUN, patients=12)[1]
    rewritten(fed.coordinator, "comparison", set_to(ways=told["ways"]))
    failure = only(verify_bytes(sealed(fed.parts())), "recomputed", "comparison-differs")
    assert "scored on 12 patients, the run held out" in failure.reason


def test_of_noised_counts_nobody_knows_how_many_were_held_out():
    noised: Json = {"evaluation": {"counts": "noised", "epsilon": 2.0, "bins": 10}}
    fed = federation(rounds=1, changes=noised).fork()
    at = of_type(fed.coordinator, "run-closed")
    told = comparison(fed.study, run=RUN, patients=77)
    fed.coordinator.append(*told, at=fed.tick())
    entries = list(fed.coordinator.entries)
    fed.coordinator.rewrite([*entries[:at], entries[-1], *entries[at:-1]])
    codes = {f.code for v in verify_bytes(sealed(fed.parts())).four for f in v.failures}
    assert "history-differs" in codes
    assert "comparison-differs" not in codes


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_none_can_be_no_entry(number: float):
    fed = compared()
    body = json.loads(
        json.dumps(fed.coordinator.entries[of_type(fed.coordinator, "comparison")].body)
    )
    body["ways"][0]["whole"]["value"] = number
    with pytest.raises(ValueError, match=r"finite|less than or equal|holds its value"):
        COORDINATOR_TYPES["comparison"].model_validate(body)
    entry = fed.coordinator.entries[0]
    with pytest.raises(BadInput):
        Entry(
            seq=0,
            time=entry.time,
            type="comparison",
            actor="coordinator",
            body=body,
            previous=entry.previous,
        ).to_bytes()


def test_hospitals_cannot_state_one():
    fed = compared().fork()
    body = fed.coordinator.entries[of_type(fed.coordinator, "comparison")].body
    fed.hospitals["leiden"].append("comparison", body, at=fed.tick())
    plain = verify_bytes(sealed(fed.parts(), report=report(compared()).to_bytes()))
    assert "not one that this verifier knows" in only(plain, "intact", "body-malformed").reason


def test_a_forest_plot_has_room_for_all_ends_and_no_mark_for_what_is_missing():
    marks = [
        Mark("good <b>", 0.9, 0.8, 1.0, "0.900", "measured"),
        Mark("bad", -0.31, -0.64, 0.2, "-0.310"),
        Mark("nothing", None, None, None, "NA"),
    ]
    drawn = str(forest_plot(marks, axis="correlation", label="two & one"))
    assert drawn.count("<circle") == 2
    assert drawn.count('class="whisker"') == 2
    assert "good &lt;b&gt;" in drawn
    across = [float(part.split('"')[0]) for part in drawn.split('x1="')[1:]]
    names_end = 258
    assert min(across) > names_end
