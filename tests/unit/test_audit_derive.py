"""The report follows from the evidence alone, and says plainly what it does not know."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.support.federation_evidence import Federation, federation, study_of

from wardround.audit.bundle import bundle_bytes, evidence_of
from wardround.audit.derive import derive_report, report_of
from wardround.audit.guarantee import odds_of_100, rounded_up
from wardround.audit.report_model import Figure, Origin, Report, Status, report_schema
from wardround.audit.verify import verify_bytes
from wardround.canonical import Json, canonical_bytes
from wardround.errors import BadInput
from wardround.privacy.accounting import epsilon_spent
from wardround.privacy.mechanism import SampledGaussian

WITHOUT_NOISE = {"privacy": {"mechanism": "none", "epsilon": None, "delta": None}}


def report(fed: Federation, **kinds: object) -> Report:
    return report_of(evidence_of(fed.parts(**kinds)))


@pytest.fixture(scope="module")
def honest() -> Federation:
    return federation(rounds=2)


def hazard(found: Report, name: str) -> Status:
    return next(entry.status for entry in found.hazards if entry.id == name)


def figures(value: object) -> Iterator[Json]:
    if isinstance(value, dict):
        if value.keys() == {"value", "origin", "note"}:
            yield value
        for part in value.values():
            yield from figures(part)
    elif isinstance(value, list):
        for part in value:
            yield from figures(part)


def test_the_same_evidence_gives_the_same_bytes(honest: Federation):
    first, second = (derive_report(evidence_of(honest.parts())) for _ in range(2))
    assert canonical_bytes(first) == canonical_bytes(second)
    assert canonical_bytes(json.loads(canonical_bytes(first))) == canonical_bytes(first)


def test_the_report_reads_back_as_it_was_written(honest: Federation):
    value = derive_report(evidence_of(honest.parts()))
    assert Report.model_validate(json.loads(canonical_bytes(value))).to_json() == value
    assert set(report_schema()["required"]) <= set(value)


def test_every_number_of_the_guarantee_says_where_it_comes_from(honest: Federation):
    found = list(figures(derive_report(evidence_of(honest.parts()))))
    assert len(found) > 60
    for entry in found:
        assert (entry["value"] is None) == (entry["origin"] == Origin.NOT_AVAILABLE.value)


def test_a_figure_without_value_cannot_claim_an_origin():
    with pytest.raises(ValueError, match="NOT AVAILABLE"):
        Figure(value=None, origin=Origin.RECOMPUTED)


def test_epsilon_is_composed_from_what_the_engines_did(honest: Federation):
    found = report(honest).guarantee
    spent = epsilon_spent(honest.releases["bergen"], delta=1e-4)
    assert found.epsilon.value == rounded_up(spent)
    assert found.epsilon.origin is Origin.RECOMPUTED
    assert found.kind.value == "FORMAL DP"
    assert all(
        (entry.epsilon_rdp.value or 0) > (entry.epsilon.value or 0) for entry in found.hospitals
    )


def test_a_release_that_was_reserved_and_never_sent_counts_as_spent(honest: Federation):
    fed = honest.fork()
    party = fed.hospitals["bergen"]
    sent = [entry for entry in party.entries if entry.type == "release-sent"]
    party.rewrite([entry for entry in party.entries if entry.seq != sent[1].seq])
    before, after = (
        next(h for h in report(f).guarantee.hospitals if h.hospital == "bergen")
        for f in (honest, fed)
    )
    assert after.unsent.value == 1
    assert after.epsilon.value == before.epsilon.value


def test_without_noise_there_is_no_guarantee_even_with_masks():
    found = report(federation(rounds=1, changes=WITHOUT_NOISE))
    assert found.guarantee.kind.value == "NO FORMAL GUARANTEE"
    assert found.guarantee.epsilon.value is None
    assert "Masking only" in found.guarantee.headline
    assert hazard(found, "no-noise") is Status.FAIL
    assert "EVERY PATIENT" in found.not_protected[0]


def test_one_bare_update_takes_the_guarantee_away(honest: Federation):
    fed = honest.fork()
    party = fed.hospitals["bergen"]
    changed = [
        replace(
            e,
            body={
                **e.body,
                "engine": {**e.body["engine"], "mechanism": "none", "noise_multiplier": 0.0},
            },
        )
        if e.type == "release-sent" and e.body["engine"]["mechanism"] == "local"
        else e
        for e in party.entries
    ]
    party.rewrite(changed)
    found = report(fed)
    assert found.guarantee.kind.value == "NO FORMAL GUARANTEE"
    assert hazard(found, "no-noise") is Status.FAIL


def test_a_lost_hospital_is_named_with_its_reason_and_the_run_is_no_success():
    fed = federation(rounds=3, lost={"leiden": (1, "disconnected")})
    found = report(fed, without=frozenset({"leiden"}))
    assert found.participation.verdict == "somebody was missing"
    assert "3 of 4" in found.participation.headline
    (absent,) = found.participation.absent
    assert absent.hospital == "leiden"
    assert absent.since == "round 2 to evaluation"
    assert absent.reason == "disconnected; then not asked, 2 times"
    entry = next(h for h in found.guarantee.hospitals if h.hospital == "leiden")
    assert entry.epsilon.origin is Origin.DECLARED
    assert entry.releases.value == 2  # the round that it answered, and the one that it missed


def test_a_hospital_without_log_is_charged_every_attempt_that_asked_it():
    fed = federation(rounds=3, lost={"leiden": (1, "disconnected")})
    with_log, without = report(fed), report(fed, without=frozenset({"leiden"}))
    own, bound = (
        next(h for h in found.guarantee.hospitals if h.hospital == "leiden")
        for found in (with_log, without)
    )
    assert (bound.epsilon.value or 0) > (own.epsilon.value or 0) > 0


def test_noised_counts_are_charged_and_their_noise_is_shown():
    study = study_of(
        rounds=1, changes={"evaluation": {"counts": "noised", "epsilon": 2.0, "bins": 16}}
    )
    fed = federation(study=study)
    found = report(fed)
    assert found.evaluation.metrics is not None
    assert found.evaluation.metrics["auroc"]["noise_low"] is not None
    assert hazard(found, "metrics") is Status.PASS
    assert not any("opened exactly" in line for line in found.not_protected)


def test_metrics_are_recomputed_from_the_logged_counts(honest: Federation):
    found = report(honest).evaluation
    assert found.origin is Origin.RECOMPUTED
    assert found.metrics is not None
    assert 0.9 < found.metrics["auroc"]["value"] < 1.0
    assert found.metrics["auroc_lower"] <= found.metrics["auroc"]["value"]


def test_counts_that_contradict_themselves_give_no_report(honest: Federation):
    fed = honest.fork()
    fed.coordinator.rewrite(
        [
            replace(e, body={**e.body, "counts": [-5, *e.body["counts"][1:]]})
            if e.type == "evaluation-closed"
            else e
            for e in fed.coordinator.entries
        ]
    )
    with pytest.raises(BadInput, match="negative"):
        derive_report(evidence_of(fed.parts()))


def test_what_is_not_protected_is_never_empty(honest: Federation):
    assert len(report(honest).not_protected) > 4


@pytest.mark.parametrize(
    ("changes", "name", "status"),
    [
        ({"privacy": {"unit": "record"}}, "unit", Status.FAIL),
        ({"privacy": {"delta": 0.009}, "training": {"expected_batch": 60.0}}, "delta", Status.FAIL),
        ({}, "metrics", Status.REMARK),
        ({}, "tuning", Status.REMARK),
        ({}, "batch-norm", Status.PASS),
        ({}, "budget", Status.PASS),
        ({}, "charged", Status.PASS),
        ({}, "sampler", Status.PASS),
    ],
)
def test_a_hazard_is_judged_from_the_evidence(changes: Json, name: str, status: Status):
    assert hazard(report(federation(rounds=1, changes=changes)), name) is status


def test_a_forgotten_budget_is_a_failed_hazard(honest: Federation):
    fed = honest.fork()
    party = fed.hospitals["bergen"]
    party.rewrite(
        [
            replace(e, body={**e.body, "epsilon_dataset": 0.01}) if e.type == "run-ended" else e
            for e in party.entries
        ]
    )
    assert hazard(report(fed), "budget") is Status.FAIL


def test_two_hospitals_in_a_sum_are_a_remark():
    found = report(federation(rounds=1, names=("bergen", "leiden")))
    assert hazard(found, "small-sum") is Status.REMARK


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 2.5, 8.0])
def test_odds_are_rounded_against_the_study(epsilon: float):
    exact = 100 * epsilon_to_odds(epsilon)
    assert exact <= odds_of_100(epsilon) + 1e-6 < exact + 1.001


def epsilon_to_odds(epsilon: float) -> float:
    return 2.718281828459045**epsilon / (1 + 2.718281828459045**epsilon)


def test_a_printed_epsilon_is_never_below_the_true_one():
    for noise in (0.9, 1.3, 2.0):
        spent = epsilon_spent([SampledGaussian(noise, 0.1, 30)], delta=1e-4)
        assert spent <= rounded_up(spent) + 1e-9 < spent + 2e-4


def test_a_verifier_with_another_accountant_version_accepts_the_report(honest: Federation):
    named = "dp-accounting 0.7.9 PLD, pessimistic, grid 0.001"
    value = derive_report(evidence_of(honest.parts()), accountant=named)
    made = bundle_bytes(
        honest.parts(), canonical_bytes(value), identity=honest.coordinator.identity
    )
    assert verify_bytes(made).ok
    value["guarantee"]["accountant"] = "trust me"
    forged = bundle_bytes(
        honest.parts(), canonical_bytes(value), identity=honest.coordinator.identity
    )
    assert not verify_bytes(forged).recomputed.ok


def test_a_hospital_that_leaves_at_the_very_end_is_named_and_the_rest_verifies(honest: Federation):
    fed = honest.fork()
    missed = {"transcript": None, "hospital": "leiden", "reason": "deadline"}
    fed.coordinator.append("hospital-missed", missed, at=fed.tick())
    parts = fed.parts(without=frozenset({"leiden"}))
    found = report_of(evidence_of(parts))
    assert found.participation.verdict == "somebody was missing"
    assert "leiden took part in every round, and handed over no log" in found.participation.headline
    made = bundle_bytes(parts, found.to_bytes(), identity=fed.coordinator.identity)
    verdicts = verify_bytes(made)
    assert verdicts.ok, [str(f) for v in verdicts.four for f in v.failures]
