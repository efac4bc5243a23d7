"""Who was asked, who is in each sum, who dropped out when: from the logs to the report."""

import math

import pytest
from tests.support.federation_evidence import STATISTICS, Federation, federation, study_of
from tests.support.honest_rounds import UNREVEALED, UNSIGNED

from wardround.audit.attempts import attempts_of
from wardround.audit.bundle import bundle_bytes, evidence_of
from wardround.audit.derive import derive_report, report_of
from wardround.audit.html import render_html
from wardround.audit.report_model import Hazard, Report, Status
from wardround.audit.verdicts import Verdicts
from wardround.audit.verify import verify_bytes
from wardround.canonical import Json, canonical_bytes
from wardround.protocol.specs import statistics_share_of
from wardround.statistics.cells import ONE

THREE = ("bergen", "coimbra", "zurich")
ONE_TRIP: Json = {
    "privacy": {"mechanism": "distributed", "colluders": 1},
    "training": {"local_steps": 1},
    "masking": {"profile": "one-trip", "minimum_hospitals": 3},
}
WITHOUT_NOISE: Json = {"privacy": {"mechanism": "none", "epsilon": None, "delta": None}}
DOES_NOT_FIT = (
    "its share of the keys of zurich does not fit: dealt wrongly by zurich or changed by it"
)


@pytest.fixture(scope="module")
def missing() -> Federation:
    """One hospital lost in the second round, one gone before it signed, one before it revealed."""
    return federation(
        rounds=3,
        lost={"leiden": (2, "disconnected")},
        vanished={"zurich": (0, UNSIGNED), "bergen": (1, UNREVEALED)},
        suspected={"coimbra": (0, DOES_NOT_FIT)},
    )


def report(fed: Federation, *without: str) -> Report:
    return report_of(evidence_of(fed.parts(without=frozenset(without))))


def verdicts(fed: Federation, *without: str) -> Verdicts:
    parts = fed.parts(without=frozenset(without))
    found = canonical_bytes(derive_report(evidence_of(parts)))
    return verify_bytes(bundle_bytes(parts, found, identity=fed.coordinator.identity))


def hazard(found: Report, name: str) -> Hazard:
    return next(entry for entry in found.hazards if entry.id == name)


def test_a_run_whose_hospitals_drop_out_at_every_stage_verifies(missing: Federation):
    found = verdicts(missing, "leiden")
    assert found.ok, list(found.lines())


def test_each_attempt_says_who_was_asked_who_is_in_its_sum_and_how_many_were_due(
    missing: Federation,
):
    rounds = report(missing, "leiden").participation.attempts
    assert [entry.in_sum for entry in rounds[:2]] == [("bergen", "coimbra", "leiden", "zurich")] * 2
    assert [entry.in_sum for entry in rounds[2:]] == [THREE, THREE]
    assert {(entry.threshold, entry.profile) for entry in rounds} == {(3, "double-mask")}
    assert rounds[0].presence["zurich"] == "vanished before it signed"
    assert rounds[1].presence["bergen"] == "vanished before it revealed"
    assert rounds[2].presence["leiden"] == "missed"
    assert rounds[3].presence["leiden"] == "not asked"


def test_who_dropped_out_after_its_update_came_is_named_and_completed_the_run(
    missing: Federation,
):
    took_part = report(missing, "leiden").participation
    assert took_part.completed == THREE
    gone = {entry.hospital: (entry.since, entry.reason) for entry in took_part.absent}
    assert gone["zurich"] == ("round 1", "vanished before it signed; its update is in the sum")
    assert gone["bergen"] == ("round 2", "vanished before it revealed; its update is in the sum")
    assert gone["leiden"] == ("round 3 to evaluation", "disconnected; then not asked")


def test_a_share_that_did_not_fit_is_shown_as_a_suspicion_and_an_incident(missing: Federation):
    found = report(missing, "leiden")
    (suspicion,) = found.participation.suspected
    assert (suspicion.hospital, suspicion.since) == ("coimbra", "round 1")
    assert suspicion.reason == DOES_NOT_FIT
    (incident,) = found.incidents
    assert (incident.what, incident.party) == ("share rejected in round 1", "coimbra")


@pytest.mark.parametrize("lang", ["en", "de"])
def test_a_page_shows_drop_outs_and_suspicions_and_none_where_there_were_none(
    missing: Federation, lang: str
):
    page = render_html(derive_report(evidence_of(missing.parts())), lang=lang)
    words = ("gone after its update came", "Suspected") if lang == "en" else ("nach seinem Update",)
    suspicion = DOES_NOT_FIT if lang == "en" else "von zurich falsch verteilt"
    assert all(word in page for word in (*words, 'class="p-vanished"', suspicion))
    calm = render_html(derive_report(evidence_of(federation(rounds=1).parts())), lang=lang)
    assert not any(word in calm for word in (*words, 'class="p-vanished"'))


def test_a_sum_of_three_is_not_counted_as_one_of_four(missing: Federation):
    finding = hazard(report(missing, "leiden"), "small-sum")
    assert finding.finding == "Every sum was of at least 3 hospitals."


def test_an_evaluation_that_one_hospital_missed_is_one_of_the_others():
    fed = federation(rounds=1, lost={"leiden": (1, "deadline")})
    found = report(fed, "leiden")
    assert found.evaluation.hospitals == THREE
    assert found.participation.completed == THREE
    assert verdicts(fed, "leiden").ok


def test_noise_of_statistics_is_that_of_the_shares_in_the_sum():
    """Made for four that were asked, and three of them are there."""
    study = study_of(rounds=1, changes={"statistics": {"epsilon": 1.0}})
    fed = federation(study=study, lost={"leiden": (STATISTICS, "deadline")})
    found = report(fed, "leiden").statistics
    assert found.hospitals == THREE
    due = math.sqrt(3 * statistics_share_of(study, 4).variance) / ONE
    assert found.estimates is not None
    assert found.estimates["noise_patients"] == pytest.approx(due, rel=1e-5)
    assert found.estimates["hospitals"] == 3
    assert verdicts(fed, "leiden").ok


def test_an_attempt_that_too_few_signed_is_void_and_names_who_was_gone():
    found = report(federation(rounds=1, void=(0,)))
    first, second, _ = found.participation.attempts
    assert (first.outcome, first.in_sum) == ("void", ())
    assert (second.outcome, second.attempt) == ("closed", 2)
    gone = [entry.reason for entry in found.participation.absent]
    assert gone == ["vanished before it signed"] * 2


def test_with_one_trip_a_missing_hospital_voids_the_sum():
    fed = federation(rounds=2, changes=ONE_TRIP, lost={"leiden": (1, "deadline")})
    found = report(fed, "leiden")
    rounds = found.participation.attempts
    assert [entry.outcome for entry in rounds] == ["closed", "void", "closed", "closed"]
    assert [entry.threshold for entry in rounds] == [4, 4, 3, 3]
    assert [entry.profile for entry in rounds] == ["one-trip"] * 3 + ["double-mask"]
    assert "opens only with every hospital that was asked" in found.guarantee.masking_in_words
    assert verdicts(fed, "leiden").ok


def test_the_report_says_what_double_masks_hide_and_from_whom():
    found = report(federation(rounds=1, changes=WITHOUT_NOISE))
    assert "more than two thirds of the hospitals asked signed" in found.guarantee.masking_in_words
    assert any("a third of the hospitals asked or more" in line for line in found.not_protected)
    local = report(federation(rounds=1))
    assert not any("a third of the hospitals" in line for line in local.not_protected)


def test_a_round_without_noise_that_nobody_signed_may_be_tried_again():
    """Too few updates came: nobody was asked to sign, so no second sum can exist."""
    names = ("bergen", "coimbra", "leiden", "oslo", "porto", "zurich")
    study = study_of(names, rounds=2, changes=WITHOUT_NOISE)
    lost = {"leiden": (1, "deadline"), "oslo": (1, "deadline")}
    fed = federation(study=study, lost=lost)
    attempts = attempts_of(evidence_of(fed.parts()))
    assert [attempt.counted for attempt in attempts] == [True, False, True, True]
    assert hazard(report(fed, *lost), "second-look").status is Status.PASS
    assert verdicts(fed, *lost).ok


def test_a_round_without_noise_that_was_signed_and_tried_again_fails_its_hazard():
    found = hazard(report(federation(rounds=1, changes=WITHOUT_NOISE, void=(0,))), "second-look")
    assert found.status is Status.FAIL
    assert found.evidence[0].log == "coordinator"
