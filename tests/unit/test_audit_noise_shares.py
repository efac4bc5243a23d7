"""Noise in the sum, as an auditor sees it: what is charged, what is trusted, what fails."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.support.federation_evidence import NAMES, Federation, federation
from tests.support.forgeries import engine, only, sealed

from wardround.audit.bundle import evidence_of
from wardround.audit.derive import report_of
from wardround.audit.guarantee import rounded_up
from wardround.audit.report_model import Hazard, Origin, Report, Status
from wardround.audit.verify import verify_bytes
from wardround.canonical import Json
from wardround.privacy.accounting import epsilon_spent
from wardround.privacy.mechanism import SampledGaussian
from wardround.protocol.specs import training_share

CHANGES = {
    "privacy": {"mechanism": "distributed", "colluders": 1},
    "training": {"local_steps": 1},
}


@pytest.fixture(scope="module")
def shared() -> Federation:
    """Six hospitals, one of them lost in the second round: two cohorts of six, one of five."""
    lost = {"leiden": (1, "disconnected")}
    return federation(names=(*NAMES, "oslo", "porto"), changes=CHANGES, lost=lost)


def report(fed: Federation) -> Report:
    return report_of(evidence_of(fed.parts(without=frozenset({"leiden"}))))


def hazard(found: Report, name: str) -> Hazard:
    return next(entry for entry in found.hazards if entry.id == name)


def verdicts(fed: Federation):
    return verify_bytes(sealed(fed.parts(without=frozenset({"leiden"}))))


def with_engines(fed: Federation, change: Callable[[Json], Json]) -> Federation:
    """A fork in which one hospital logs other shares than it was due."""
    forked = fed.fork()
    party = forked.hospitals["bergen"]
    party.rewrite(
        [
            replace(entry, body={**entry.body, "engine": change(entry.body["engine"])})
            if entry.type == "release-sent" and entry.body["engine"]["mechanism"] == "distributed"
            else entry
            for entry in party.entries
        ]
    )
    return forked


def test_a_run_with_noise_in_the_sum_verifies(shared: Federation):
    found = verdicts(shared)
    assert found.ok, [failure for verdict in found.all for failure in verdict.failures]


def test_every_attempt_is_charged_what_the_honest_shares_in_it_came_to(shared: Federation):
    guarantee = report(shared).guarantee
    bergen = next(entry for entry in guarantee.hospitals if entry.hospital == "bergen")
    assert bergen.releases.value == 4  # three rounds and the evaluation
    spent = epsilon_spent(shared.releases["bergen"], delta=1e-4)
    assert bergen.epsilon.value == rounded_up(spent)
    noise = shared.study.noise_multiplier()
    assert {round(release.noise_multiplier, 6) for release in shared.releases["bergen"]} == {noise}
    whole = SampledGaussian(noise, 0.1, 3)
    assert spent == pytest.approx(epsilon_spent([whole], delta=1e-4), abs=1e-3)


def test_the_guarantee_says_what_has_to_be_trusted(shared: Federation):
    guarantee = report(shared).guarantee
    assert guarantee.kind.value == "FORMAL DP"
    assert guarantee.mechanism == "distributed"
    assert guarantee.scope[0] == (
        "Holds as long as no more than 1 of the hospitals pool what they know with the "
        "coordinator; against more the guarantee is weaker."
    )
    assert "share of discrete Gaussian noise" in guarantee.mechanism_in_words
    assert not any("everybody" in line for line in guarantee.scope)
    assert "share of the sum's noise" in report(shared).outflow[0].form
    local = report_of(evidence_of(federation(rounds=1).parts())).guarantee
    assert local.scope[0].startswith("Holds against everybody")


def test_with_no_colluder_counted_on_the_report_says_that_each_hospital_could_be_one():
    none = {**CHANGES, "privacy": {"mechanism": "distributed", "colluders": 0}}
    found = report_of(evidence_of(federation(rounds=1, changes=none).parts()))
    assert "not even its own noise" in found.guarantee.scope[0]


def test_shares_as_they_are_due_pass_their_question(shared: Federation):
    found = hazard(report(shared), "noise-share")
    assert (found.status, found.origin) == (Status.PASS, Origin.RECOMPUTED)
    assert "without those of 1 of its hospitals" in found.finding
    local = hazard(report_of(evidence_of(federation(rounds=1).parts())), "noise-share")
    assert local.status is Status.PASS


def one_more_honest(done: Json) -> Json:
    # What a hospital does that forgets the colluders: the same noise multiplier, less noise.
    return {
        **done,
        "honest": done["honest"] + 1,
        "share_variance": done["share_variance"] * done["honest"] // (done["honest"] + 1) + 1,
    }


def test_a_share_calibrated_to_more_honest_hospitals_than_the_cohort_has_fails(
    shared: Federation,
):
    fed = with_engines(shared, one_more_honest)
    found = hazard(report(fed), "noise-share")
    assert found.status is Status.FAIL
    assert {place.log for place in found.evidence} == {"hospitals/bergen"}
    assert len(found.evidence) == 3
    failures = verdicts(fed).recomputed.failures
    weaker = [failure.reason for failure in failures if failure.code == "engine-weaker"]
    assert len(weaker) == 3
    first, last = weaker[0], weaker[-1]
    assert "counts on 5 honest hospitals, 5 of a cohort of 6 with 1 colluders have 4" in first
    assert "counts on 4 honest hospitals, 4 of a cohort of 5 with 1 colluders have 3" in last


def test_noise_for_the_whole_roster_is_too_little_when_a_hospital_was_lost(shared: Federation):
    due = training_share(shared.study, 6, 31)
    fed = with_engines(
        shared, lambda done: {**done, "honest": due.honest, "share_variance": due.variance}
    )
    found = hazard(report(fed), "noise-share")
    assert found.status is Status.FAIL
    assert len(found.evidence) == 1  # the attempt that asked five hospitals


def test_a_sensitivity_below_what_the_constants_give_fails(shared: Federation):
    def understated(done: Json) -> Json:
        less = done["sensitivity_lanes"] * 0.97
        return {**done, "sensitivity_lanes": less}

    fed = with_engines(shared, understated)
    assert hazard(report(fed), "noise-share").status is Status.FAIL
    failures = verdicts(fed).recomputed.failures
    assert any("stands against a sensitivity of" in failure.reason for failure in failures)


def test_a_smaller_share_is_charged_more_and_fails(shared: Federation):
    fed = with_engines(
        shared, lambda done: {**done, "share_variance": round(done["share_variance"] * 0.94)}
    )
    failures = verdicts(fed).recomputed.failures
    assert any("noise multiplier was" in failure.reason for failure in failures)
    assert report(fed).guarantee.epsilon.value > report(shared).guarantee.epsilon.value


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"clipping": "per-layer"}, "clipping was per-layer, the study says flat"),
        ({"clip_norm_l2": 2.0}, "clip norm was 2, the study allows 1"),
        ({"sampling_rate": 0.5}, "sampling rate was 0.5, the study allows 0.1"),
    ],
)
def test_a_share_that_was_made_another_way_is_named(shared: Federation, change: Json, says: str):
    fed = with_engines(shared, lambda done: done | change)
    assert any(says in failure.reason for failure in verdicts(fed).recomputed.failures)


def test_another_mechanism_than_the_studys_is_named(shared: Federation):
    local = {
        "mechanism": "local",
        "noise_multiplier": 9.0,
        "clip_norm_l2": 1.0,
        "sampling_rate": 0.1,
        "steps": 1,
        "records_per_patient": 1,
        "batches_commitment": "0" * 64,
    }
    fed = with_engines(shared, lambda _: local)
    failures = verdicts(fed).recomputed.failures
    assert any("its mechanism was local, the study says distributed" in f.reason for f in failures)


def test_a_batch_ceiling_that_the_engine_does_not_charge_is_named():
    sizes = {"patients_most": 1000, "batch_most": 200}
    changes = {"privacy": sizes}
    forged = engine(truncation=0.0)(federation(rounds=1, changes=changes))
    reason = only(verify_bytes(forged), "recomputed", "engine-weaker").reason
    assert "it counts batches as cut with probability 0, the study's sizes give" in reason
    assert verify_bytes(sealed(federation(rounds=1, changes=changes).parts())).ok
