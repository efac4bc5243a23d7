"""The report beside the claim: what an attack on each engine showed, how much noise there was."""

import pytest
from tests.support.engine_audits import noise_measurement
from tests.support.federation_evidence import NAMES, RUN, federation
from tests.support.forgeries import VICTIM, honest, honest_report, rewritten, set_to, without

from wardround.audit.bundle import evidence_of
from wardround.audit.derive import derive_report
from wardround.audit.html import render_html
from wardround.canonical import parse_canonical
from wardround.privacy.noise_measured import VALUES_A_STEP
from wardround.study.dry_run import dry_run_rule, simulated_hospitals
from wardround_client.training.noise import PROBE_VALUES


def report_of(fed):
    return derive_report(evidence_of(fed.parts()))


def hazard(report, name):
    return next(found for found in report["hazards"] if found["id"] == name)


def test_every_hospital_has_the_claim_and_both_bounds_with_the_entry_that_says_so():
    report = parse_canonical(honest_report(), what="report", limit_bytes=1 << 22)
    assert [found["hospital"] for found in report["engine_audits"]] == sorted(NAMES)
    for found in report["engine_audits"]:
        claimed, f_dp = found["epsilon_claimed"]["value"], found["epsilon_f_dp"]["value"]
        assert 0 < found["epsilon_steinke"]["value"] < f_dp < claimed
        assert found["place"]["log"] == f"hospitals/{found['hospital']}"
        assert found["right"]["value"] == 0.6 * found["named"]["value"]
    page = render_html(report)
    assert "What was claimed, what an attack on the engine could show" in page
    assert "engines before the run: 4" in page


def test_a_run_without_audits_says_that_none_was_run():
    report = report_of(federation(rounds=1))
    assert {found["verdict"] for found in report["engine_audits"]} == {"NOT RUN"}
    assert {found["verdict"] for found in report["noise_audits"]} == {"NOT MEASURED"}
    assert "none were run" in render_html(report)


def test_a_dry_run_without_an_outcome_is_shown():
    fed = honest().fork()
    without(fed.hospitals[VICTIM], "engine-audited")
    found = {each["hospital"]: each for each in report_of(fed)["engine_audits"]}
    assert (found[VICTIM]["verdict"], found[VICTIM]["without_outcome"]) == ("NOT RUN", 1)


def test_of_several_dry_runs_the_worst_is_shown():
    fed = honest().fork()
    rewritten(fed.hospitals[VICTIM], "engine-audited", set_to(verdict="VIOLATION"))
    again = next(e for e in honest().hospitals[VICTIM].entries if e.type == "engine-audited")
    fed.hospitals[VICTIM].append("engine-audited", again.body, at=fed.tick())
    report = report_of(fed)
    found = {each["hospital"]: each for each in report["engine_audits"]}[VICTIM]
    assert (found["verdict"], found["dry_runs"]) == ("VIOLATION", 2)
    assert "1 VIOLATION" in render_html(report)


@pytest.mark.parametrize(("noise", "status"), [(1.0, "REMARK"), (0.97, "FAIL")])
def test_noise_that_falls_short_in_a_run_fails_the_hazard_of_randomness(noise, status):
    fed = honest().fork()
    _, body = noise_measurement(RUN, steps=600, noise=noise)
    rewritten(fed.hospitals[VICTIM], "noise-measured", lambda old: old.update(body))
    found = hazard(report_of(fed), "randomness")
    assert (found["status"], found["origin"]) == (status, "LOGGED")
    assert [place["log"] for place in found["evidence"]] == [f"hospitals/{VICTIM}"]


def test_the_verifier_counts_as_many_values_a_step_as_the_engine_draws():
    assert VALUES_A_STEP == PROBE_VALUES


def test_the_rule_follows_from_the_study_and_no_claim_has_none():
    study = honest().study
    assert dry_run_rule(study) == dry_run_rule(study)
    assert dry_run_rule(study).noise_multiplier == study.noise_multiplier()
    assert simulated_hospitals(study) == 1
    bare = federation(
        rounds=1, changes={"privacy": {"mechanism": "none", "epsilon": None, "delta": None}}
    )
    assert dry_run_rule(bare.study) is None
