"""The audit of a study with statistics: an honest run verifies, and each lie has its name."""

from functools import lru_cache

import numpy as np
import pytest
from tests.support.federation_evidence import NAMES, federation
from tests.support.forgeries import VICTIM, of_type, only, respecified, rewritten, sealed, set_to

from wardround.audit.bundle import evidence_of
from wardround.audit.derive import report_of
from wardround.audit.html import render_html
from wardround.audit.verify import verify_bytes
from wardround.masking.update import update_digest
from wardround.privacy.accounting import epsilon_spent
from wardround.privacy.mechanism import SampledGaussian
from wardround.protocol.specs import statistics_layout, statistics_share_of

COUNTS = {"epsilon": 1.0, "bins": 6}


@lru_cache
def run(*, rounds=2, mechanism="local", standardise=False):
    distributed = {"local_steps": 1} if mechanism == "distributed" else {}
    statistics = COUNTS | ({"standardise": True} if standardise else {})
    return federation(
        rounds=rounds,
        changes={
            "statistics": statistics,
            "privacy": {"mechanism": mechanism},
            "training": distributed,
        },
    )


def report(fed):
    return report_of(evidence_of(fed.parts()))


@pytest.mark.parametrize(
    "options",
    [{}, {"rounds": 0}, {"mechanism": "distributed"}, {"standardise": True}],
    ids=["beside training", "alone", "shares", "scales"],
)
def test_an_honest_run_with_statistics_verifies(options):
    verdicts = verify_bytes(sealed(run(**options).parts()))
    assert verdicts.ok, verdicts.lines()


def test_the_report_adds_statistics_to_training_and_to_the_evaluation():
    fed = run()
    study, found = fed.study, report(fed)
    share = statistics_share_of(study, len(NAMES))
    counted = SampledGaussian(share.variance**0.5 / share.sensitivity_lanes, 1.0, 1)
    trained = [study.release_of_one_attempt()] * 2
    due = epsilon_spent([*trained, counted], delta=1e-4)
    for hospital in found.guarantee.hospitals:
        assert hospital.epsilon.value == pytest.approx(due, abs=2e-4)
        assert hospital.releases.value == 4
    assert found.statistics.epsilon.value == pytest.approx(1.0, abs=2e-3)
    assert found.statistics.epsilon.value < found.guarantee.epsilon.value
    assert all(line.statistics_messages.value == 1 for line in found.outflow)
    assert all(line.training_messages.value == 2 for line in found.outflow)
    assert all(line.evaluation_messages.value == 1 for line in found.outflow)


def test_a_hospital_without_a_log_is_charged_for_the_statistics_that_it_was_asked_for():
    whole, parts = report(run()), run().parts(without=frozenset({VICTIM}))
    found = report_of(evidence_of(parts))
    entries = {entry.hospital: entry for entry in found.guarantee.hospitals}
    (due,) = {entry.epsilon.value for entry in whole.guarantee.hospitals}
    assert entries[VICTIM].epsilon.value == pytest.approx(due, abs=2e-3)
    assert entries[VICTIM].epsilon.origin.value == "DECLARED"
    assert entries[VICTIM].releases.value == 4


def test_the_page_shows_the_patients_in_numbers_with_charge_and_interval():
    page = render_html(report(run(rounds=0)).to_json())
    for words in ("The patients in numbers", "were counted", "95 % of noise", "S: statistics"):
        assert words in page
    assert "the study only counts" in page
    assert "NOT AVAILABLE</span> No statistics" not in page


def test_a_study_without_statistics_says_nothing_of_them():
    fed = federation(rounds=1)
    found = report(fed)
    assert not found.statistics.asked
    assert "patients in numbers" not in render_html(found.to_json())


def test_a_study_that_scales_by_its_statistics_says_so():
    found = report(run(standardise=True))
    (hazard,) = [hazard for hazard in found.hazards if hazard.id == "preprocessing"]
    assert hazard.status.value == "PASS"
    assert hazard.evidence[0] == found.statistics.place
    assert [scale["column"] for scale in found.statistics.scales] == ["age"]
    plain = [hazard for hazard in report(run()).hazards if hazard.id == "preprocessing"]
    assert "declared ranges" in plain[0].finding


def forged(act, **options):
    fed = run(**options).fork()
    act(fed)
    return verify_bytes(sealed(fed.parts()))


def by_engine(**fields):
    return lambda fed: rewritten(
        fed.hospitals[VICTIM], "release-sent", lambda body: body["engine"].update(fields)
    )


def share():
    return statistics_share_of(run().study, len(NAMES))


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        (lambda: {"share_variance": int(share().variance * 0.97**2)}, {}),
        (lambda: {"sensitivity_lanes": share().sensitivity_lanes / 2}, {}),
        (lambda: {"honest": 4}, {}),
        (lambda: {"honest": 4}, {"mechanism": "distributed"}),
    ],
    ids=["three percent less noise", "half the sensitivity", "shares", "more honest"],
)
def test_noise_below_the_studys_is_found(fields, options):
    only(forged(by_engine(**fields()), **options), "recomputed", "engine-weaker")


def test_an_engine_of_another_purpose_is_found():
    def act(fed):
        other = {"mechanism": "gaussian", "noise_multiplier": 100.0}
        rewritten(fed.hospitals[VICTIM], "release-sent", set_to(engine=other))

    only(forged(act), "recomputed", "engine-weaker")


def test_statistics_reserved_as_an_evaluation_are_found():
    def act(fed):
        rewritten(fed.hospitals[VICTIM], "release-reserved", set_to(purpose="evaluate"))

    only(forged(act), "complete", "purpose-differs")


def test_other_sums_are_found():
    def act(fed):
        seq = of_type(fed.coordinator, "statistics-closed")
        sums = [total + 1 for total in fed.coordinator.entries[seq].body["sums"]]
        rewritten(fed.coordinator, "statistics-closed", set_to(sums=sums))

    only(forged(act), "recomputed", "counts-differ")


def test_sums_of_another_length_are_found():
    def act(fed):
        sums = np.zeros(3, dtype=np.int32)
        lie = {"sums": [0, 0, 0], "sum_digest": update_digest(sums)}
        rewritten(fed.coordinator, "statistics-closed", set_to(**lie))

    only(forged(act), "recomputed", "counts-differ")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"attempt": 2}, "spec-differs"),
        ({"round": 1}, "spec-differs"),
        ({"lanes": 7}, "spec-differs"),
        ({"scale": 2.0}, "spec-differs"),
    ],
    ids=["an attempt that no epsilon covers", "round", "lanes", "scale"],
)
def test_a_statistics_spec_that_is_not_the_studys_is_found(fields, code):
    only(forged(lambda fed: respecified(fed, 0, **fields)), "complete", code)


def moved_to_the_end(fed):
    """The coordinator says that it counted after it had trained."""
    entries = fed.coordinator.entries
    kinds = [entry.type for entry in entries]
    first, last = kinds.index("round-opened"), kinds.index("statistics-closed")
    end = kinds.index("run-closed")
    order = [*entries[:first], *entries[last + 1 : end], *entries[first : last + 1], *entries[end:]]
    fed.coordinator.rewrite(order)


def test_statistics_after_training_are_found():
    only(forged(moved_to_the_end), "complete", "round-order")


def test_training_that_is_scaled_by_statistics_that_come_later_is_found():
    only(forged(moved_to_the_end, standardise=True), "complete", "round-order")


def test_statistics_in_a_study_that_asks_for_none_are_found():
    fed = federation(rounds=1)
    respecified(fed, 0, purpose="statistics", lanes=statistics_layout(run().study).lanes, scale=1.0)
    verdicts = verify_bytes(sealed(fed.parts()))
    assert not verdicts.ok


def test_a_ledger_that_counts_the_updates_alone_is_found():
    fed = run()
    trained = [fed.study.release_of_one_attempt()] * 2
    alone = epsilon_spent(trained, delta=1e-4)

    def act(fed):
        less = set_to(epsilon=alone, epsilon_dataset=alone)
        rewritten(fed.hospitals[VICTIM], "run-ended", less)

    only(forged(act), "recomputed", "epsilon-under-reported")
