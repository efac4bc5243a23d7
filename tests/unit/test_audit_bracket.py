"""The verifier's bracket of epsilon: a report outside it fails, whatever its accountant says."""

from dataclasses import replace
from typing import Any

import pytest
from tests.support.federation_evidence import Federation, federation

from wardround.audit import guarantee
from wardround.audit.bundle import bundle_bytes, evidence_of
from wardround.audit.check_bracket import bracket_of, check_brackets
from wardround.audit.derive import derive_report, report_of
from wardround.audit.evidence import Evidence
from wardround.audit.guarantee import Charge
from wardround.audit.verify import verify_bytes
from wardround.canonical import Json, canonical_bytes
from wardround.privacy.bracket import Bracket
from wardround.privacy.mechanism import Exact, SampledGaussian

NOISED = SampledGaussian(1.1, 0.05, 200)


@pytest.fixture(scope="module")
def fed() -> Federation:
    return federation(rounds=2)


@pytest.fixture(scope="module")
def evidence(fed: Federation) -> Evidence:
    return evidence_of(fed.parts())


def printed(evidence: Evidence, **values: float) -> Json:
    """The honest report with other epsilons: of a hospital, or of the label."""
    report: Any = derive_report(evidence)
    for name, value in values.items():
        rows = report["guarantee"]["hospitals"]
        row = next((row for row in rows if row["hospital"] == name), report["guarantee"])
        row["epsilon"]["value"] = value
    return dict(report)


def reasons(evidence: Evidence, **values: float) -> list[str]:
    found = list(check_brackets(evidence, printed(evidence, **values)))
    assert {failure.code for failure in found} <= {"epsilon-outside-bracket"}
    return [failure.reason for failure in found]


def test_the_epsilons_of_an_honest_report_lie_inside(evidence: Evidence):
    assert reasons(evidence) == []


def test_a_hospital_whose_epsilon_is_reported_too_low_is_named(evidence: Evidence):
    epsilon = report_of(evidence).guarantee.epsilon.value
    assert epsilon is not None
    (reason,) = reasons(evidence, leiden=round(0.95 * epsilon, 4))
    assert reason.startswith("epsilon of leiden is ")
    assert "no epsilon below" in reason


def test_a_label_that_says_less_than_any_accountant_is_found(evidence: Evidence):
    (reason,) = reasons(evidence, label=0.5)
    assert reason.startswith("guarantee.epsilon is 0.5, no epsilon below")


def test_an_epsilon_above_the_second_accountant_is_found(evidence: Evidence):
    (reason,) = reasons(evidence, bergen=9.0)
    assert "RDP bounds it by" in reason


def test_an_accountant_that_both_sides_share_and_that_errs_is_found(
    fed: Federation, monkeypatch: pytest.MonkeyPatch
):
    """The report then follows from the evidence byte for byte, and is wrong all the same."""
    honest = guarantee.composed_epsilons

    def flattering(releases: tuple[SampledGaussian, ...], delta: float) -> tuple[float, float]:
        by_pld, by_rdp = honest(releases, delta)
        return 0.9 * by_pld, by_rdp

    monkeypatch.setattr(guarantee, "composed_epsilons", flattering)
    parts = fed.parts()
    report = canonical_bytes(derive_report(evidence_of(parts)))
    verdicts = verify_bytes(bundle_bytes(parts, report, identity=fed.coordinator.identity))
    codes = {failure.code for failure in verdicts.recomputed.failures}
    assert codes == {"epsilon-outside-bracket"}


@pytest.mark.parametrize("report", [{}, {"guarantee": 1}, {"guarantee": {"hospitals": [1, {}]}}])
def test_what_prints_no_epsilon_is_left_to_the_comparison(evidence: Evidence, report: Json):
    assert list(check_brackets(evidence, report)) == []


def charge(**groups: tuple[Exact | SampledGaussian, ...]) -> Charge:
    nothing = Charge(
        training=(), evaluation=(), statistics=(), noises=(), unsent=0, steps=0, declared=False
    )
    return replace(nothing, **groups)


def test_the_worse_off_group_counts_and_exact_updates_have_no_bracket():
    assert bracket_of(charge(training=(Exact(),)), 1e-5) is None
    assert bracket_of(charge(), 1e-5) == Bracket(0.0, 0.0, 0.0)
    trained = bracket_of(charge(training=(NOISED,)), 1e-5)
    both = bracket_of(charge(training=(NOISED,), evaluation=(SampledGaussian(9.0, 1.0, 1),)), 1e-5)
    assert trained == both
    assert trained is not None
    assert 0.95 * trained.decided < trained.low <= trained.decided < trained.high
