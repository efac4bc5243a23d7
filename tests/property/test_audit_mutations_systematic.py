"""Everything in a bundle, changed in every way: each change fails under its own name and place.

By field, entry, line, member and file; by whoever carried it, by a coordinator, by a hospital. The
lies in well-formed entries and an eighth of the rest run with every change of the code, all of
them with `slow`.
"""

import json

import pytest
from tests.support.forgeries import Forgery, honest, honest_bundle, honest_report
from tests.support.forgeries_entries import SEEN_LIES, UNSEEN_LIES
from tests.support.forgeries_parties import FORGERIES
from tests.support.forgeries_resealed import another, changed, figures, reported
from tests.support.forgeries_table import ALL, SYSTEMATIC, found, lines

from wardround.audit import check_recomputed
from wardround.audit.bundle import evidence_of
from wardround.audit.verify import verify_bytes

MALFORMED = ("left out", "of another kind", "of another party", "one too many")
LABEL = (
    "guarantee.epsilon.value",
    "guarantee.epsilon.origin",
    "guarantee.delta.value",
    "guarantee.kind",
    "guarantee.headline",
    "guarantee.odds_percent.value",
    "guarantee.worst_hospital",
    "participation.headline",
    "participation.verdict",
    "participation.planned.0",
    "run.model_digest",
    "study.digest",
    "evaluation.metrics.auroc.value",
    "engine_audits.0.verdict",
    "noise_audits.0.sigma_ratio.value",
    "outflow.0.megabytes.value",
    "not_protected.0",
    "hazards.0.status",
    "logs.0.head",
)


def cases() -> list[object]:
    """Every forgery; most of those that are named early are for `make test-all`."""
    marked, place = [], 0
    for forgery in SYSTEMATIC:
        early = forgery not in SEEN_LIES or forgery.name.endswith(MALFORMED)
        place += early
        marks = [pytest.mark.slow] if early and place % 8 else []
        marked.append(pytest.param(forgery, id=forgery.name, marks=marks))
    return marked


@pytest.mark.parametrize("forgery", cases())
def test_a_change_fails_under_its_own_name_and_place(forgery: Forgery):
    seen = found(forgery)
    assert (forgery.verdict, forgery.code, forgery.place) in seen, sorted(seen)


def test_the_bundle_that_is_changed_was_honest():
    assert verify_bytes(honest_bundle()).ok


def test_there_are_over_two_hundred_changes_and_each_has_its_name():
    names = [forgery.name for forgery in ALL]
    assert len(set(names)) == len(names) >= 200
    quick = [case for case in cases() if not case.marks]
    assert len(quick) + len(FORGERIES) >= 200
    reasons = {(forgery.verdict, forgery.code) for forgery in ALL}
    assert len(reasons) >= 50
    assert len(list(lines())) == len(ALL) + len(UNSEEN_LIES)


@pytest.mark.parametrize("forgery", UNSEEN_LIES, ids=lambda forgery: forgery.name)
def test_what_a_hospital_says_of_itself_after_its_last_answer_is_its_word(forgery: Forgery):
    """BUNDLE.md, "What it cannot see": its own budget, its other studies, its last entries."""
    assert verify_bytes(forgery.forge(honest().fork())).ok


@pytest.mark.parametrize("path", LABEL)
def test_a_figure_of_the_report_that_is_not_the_evidences_is_named(path: str):
    failures = verify_bytes(reported(path).forge(honest().fork())).recomputed.failures
    dotted = path.replace(".0", "[0]")
    named = [failure for failure in failures if failure.code == "report-differs"]
    assert [failure.reason.startswith(f"{dotted}: ") for failure in named] == [True]


@pytest.mark.slow
def test_no_figure_of_the_report_can_be_another(monkeypatch: pytest.MonkeyPatch):
    """All of them, with the report derived once: it is a pure function of the evidence."""
    due = json.loads(honest_report())
    evidence = evidence_of(honest().parts())
    monkeypatch.setattr(check_recomputed, "derive_report", lambda *_, **__: due)
    paths = list(figures(due))
    assert len(paths) > 150
    for path in paths:
        report = changed(json.loads(honest_report()), path)
        codes = {failure.code for failure in check_recomputed.check_report(evidence, report)}
        assert "report-differs" in codes, path
    assert list(check_recomputed.check_report(evidence, honest_report())) == []


def test_another_value_is_another_value():
    assert [another(v) for v in (True, 1, 0.5, "a", None)] == [False, 2, 1.5, "a ", "a value"]
