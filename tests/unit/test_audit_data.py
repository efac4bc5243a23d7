"""What hospitals say of their data: what the report shows of it, and which lies are named."""

import json

import pytest
from tests.support.datasheets import datasheet
from tests.support.federation_evidence import RUN, Federation, federation, study_of
from tests.support.forgeries import VICTIM, of_type, only, rewritten, sealed, set_to

from wardround.audit.attempts import attempts_of
from wardround.audit.bundle import evidence_of
from wardround.audit.check_data import released_digest
from wardround.audit.derive import report_of
from wardround.audit.html import render_html
from wardround.audit.pdf import render_pdf
from wardround.audit.report_model import Report
from wardround.audit.verify import verify_bytes
from wardround.canonical import Json, canonical_bytes
from wardround.quality.verdict import Reason, Verdict

STATISTICS = {"statistics": {"epsilon": 1.0, "bins": 0}, "rounds": {"count": 0, "quorum": 3}}


def told(fed: Federation, **changes: object) -> Federation:
    """The victim's datasheet with other fields, in a federation of its own."""
    fed = fed.fork()
    rewritten(fed.hospitals[VICTIM], "data-described", set_to(**changes))
    return fed


def report(fed: Federation) -> Report:
    return report_of(evidence_of(fed.parts()))


def test_what_a_hospital_told_stands_in_the_report_with_its_origin_and_place():
    fed = federation(rounds=1, described=True)
    found = report(fed)
    assert [each.hospital for each in found.datasheets] == ["bergen", "coimbra", "leiden", "zurich"]
    sheet = found.datasheets[2]
    assert (sheet.verdict, sheet.reasons) == (Verdict.READY_WITH_REMARKS, (Reason.OUTCOME_RARE,))
    assert (sheet.patients.value, sheet.patients.origin.value) == (200, "LOGGED")
    assert [(o.of, o.word, o.patients.value) for o in sheet.outcomes] == [
        ("disease", "yes", 195),
        ("disease", "no", None),
    ]
    assert sheet.outcomes[1].patients.note == "fewer than 11"
    seq = of_type(fed.hospitals["leiden"], "data-described")
    assert (sheet.place.log, sheet.place.seq) == ("hospitals/leiden", seq)
    assert not sheet.compared
    assert "Verdicts on hospitals' data" in found.not_protected[0]


def test_a_report_without_any_keeps_the_bytes_that_it_had():
    found = report(federation(rounds=1))
    assert found.datasheets == ()
    assert b"datasheets" not in found.to_bytes()
    assert Report.model_validate(json.loads(found.to_bytes())) == found


def test_both_pages_show_it_in_both_languages():
    found = report(told(federation(rounds=1, described=True), numbers=None)).to_json()
    english, german = (render_html(found, lang=lang) for lang in ("en", "de"))
    for said in (
        "ready with remarks",
        "an outcome is rare",
        "fewer than 11",
        "195",
        "not compared",
    ):
        assert said in english
    assert "the hospital&#39;s policy tells no number" in english
    for said in ("bereit mit Anmerkungen", "ein Ausgang ist selten", "weniger als 11"):
        assert said in german
    assert "no hospital&#39;s log tells any" not in english
    assert "no hospital&#39;s log tells any" in render_html(report(federation(rounds=1)).to_json())
    assert render_pdf(found).startswith(b"%PDF")
    assert render_pdf(found, lang="de").startswith(b"%PDF")


def statistics_run() -> tuple[Federation, str]:
    """A run that opened statistics, each hospital held against them; and their digest."""
    study = study_of(changes=STATISTICS)
    fed = federation(study=study, described=True).fork()
    evidence = evidence_of(fed.parts())
    digest = released_digest(study, attempts_of(evidence))
    assert digest is not None
    for party in fed.hospitals.values():
        rewritten(party, "data-described", set_to(compared_with=digest))
    return fed, digest


def test_data_are_held_against_the_statistics_that_the_run_opened():
    fed, digest = statistics_run()
    found = verify_bytes(sealed(fed.parts()))
    assert found.ok, list(found.lines())
    assert all(each.compared for each in report(fed).datasheets)
    for other in (None, "f" * 64, digest[::-1]):
        failure = only(
            verify_bytes(sealed(told(fed, compared_with=other).parts())),
            "recomputed",
            "data-differs",
        )
        assert "statistics that the run opened" in failure.reason
        assert failure.log == f"hospitals/{VICTIM}"


def numbers(**changes: object) -> Json:
    body = datasheet(study_of(), run=RUN)[1]["numbers"]
    return {**body, **changes}


LIMITS: Json = {"quality": {"least_patients": 50, "least_per_outcome": 5}}
WITH_REASONS: list[tuple[Json, list[str], bool]] = [
    (numbers(), ["an outcome is rare"], True),
    (numbers(), ["an outcome is too rare", "an outcome is rare"], True),
    (numbers(outcomes=[100, 100]), [], True),
    (numbers(outcomes=[100, 100]), ["an outcome is rare"], False),
    (numbers(outcomes=[100, 100]), ["an outcome is too rare"], False),
    (numbers(patients=50, records=50, outcomes=[25, 25]), ["too few patients"], True),
    (numbers(patients=50, records=50, outcomes=[25, 25]), [], True),
    (numbers(patients=45, records=45, outcomes=[20, 20]), [], False),
    (numbers(patients=60, records=60, outcomes=[30, 30]), ["too few patients"], False),
    (numbers(outcomes=[100, 100]), ["much is missing"], False),
    (numbers(outcomes=[100, 100]), ["too much is missing"], False),
    (numbers(outcomes=[100, 100]), ["unit or scale", "a range is hardly used"], True),
]


@pytest.mark.parametrize(("counts", "reasons", "fits"), WITH_REASONS)
def test_reasons_have_to_fit_the_rounded_counts_and_the_studys_limits(
    counts: Json, reasons: list[str], fits: bool
):
    """A count of 50 told may be 48 or 52: then the hospital's word stands."""
    stops = {"too few patients", "an outcome is too rare", "too much is missing", "unit or scale"}
    verdict = "not ready" if stops & set(reasons) else "ready with remarks" if reasons else "ready"
    fed = federation(study=study_of(rounds=1, changes=LIMITS), described=True)
    fed = told(fed, numbers=counts, reasons=reasons, verdict=verdict)
    found = [
        failure
        for each in verify_bytes(sealed(fed.parts())).four
        for failure in each.failures
        if failure.log == f"hospitals/{VICTIM}"
    ]
    assert bool(found) is not fits, [str(failure) for failure in found]
    assert {failure.code for failure in found} <= {"data-differs"}


def test_a_hospital_that_was_not_in_the_run_has_nothing_to_say_of_it():
    fed = federation(rounds=1).fork()
    fed.hospitals[VICTIM].append(*datasheet(fed.study, run=RUN), at=fed.tick())
    failure = only(verify_bytes(sealed(fed.parts())), "recomputed", "data-differs")
    assert failure.reason == "the hospital was not in the run"


def test_a_datasheet_of_an_earlier_run_is_none_of_this_report():
    fed = federation(rounds=1).fork()
    fed.hospitals[VICTIM].append(*datasheet(fed.study, run="9" * 32), at=fed.tick())
    assert verify_bytes(sealed(fed.parts())).ok
    assert report(fed).datasheets == ()
    assert canonical_bytes(report(fed).to_json()["statistics"])
