"""The curve of the label: no attack is above it, and it is close to what attacks reach."""

import math

import pytest
from scipy.special import ndtr, ndtri
from tests.support.federation_evidence import RUN, federation

from wardround.audit.attack_curve import FALSE_ALARMS, AttackLimits, attack_limits
from wardround.audit.attack_rows import attack_rows
from wardround.audit.bundle import evidence_of
from wardround.audit.derive import report_of
from wardround.audit.html import render_html
from wardround.audit.pdf import render_pdf
from wardround.audit.report_model import AttackPoint, Origin
from wardround.privacy.accounting import epsilon_spent
from wardround.privacy.mechanism import SampledGaussian


def best_attack(wrong: float, noise: float) -> float:
    """What the best attack on one Gaussian release finds. (Dong, Roth and Su 2019, eq. 6)"""
    return float(ndtr(ndtri(wrong) + 1.0 / noise)) if 0.0 < wrong < 1.0 else wrong


@pytest.mark.parametrize("noise", [0.7, 1.5, 4.0])
def test_the_curve_lies_on_the_best_attack_and_never_below_it(noise: float):
    limits = attack_limits((SampledGaussian(noise, 1.0, 1),))
    for point in limits.points:
        reached = best_attack(point.false_alarms, noise)
        assert reached <= point.found_most <= reached + 0.013
    right = 100 * float(ndtr(0.5 / noise))
    assert limits.right_of_100 is not None
    assert right <= limits.right_of_100 < right + 1.6
    # An attack on three percent less noise would break it where it bites.
    assert any(best_attack(p.false_alarms, 0.97 * noise) > p.found_most for p in limits.points)


def test_releases_add_up():
    twice = attack_limits((SampledGaussian(2.0, 1.0, 1), SampledGaussian(2.0, 1.0, 1)))
    once = attack_limits((SampledGaussian(math.sqrt(2.0), 1.0, 1),))
    mixed = attack_limits((SampledGaussian(1.9, 1.0, 1), SampledGaussian(2.0, 0.5, 3)))
    for a, b, c in zip(twice.points, once.points, mixed.points, strict=True):
        assert abs(a.found_most - b.found_most) <= 0.002
        assert c.found_most >= c.false_alarms


def test_many_steps_that_lose_little_keep_a_curve_below_the_line_of_epsilon():
    release = SampledGaussian(20.0, 0.01, 20_000)
    epsilon = epsilon_spent([release], delta=1e-5)
    for point in attack_limits((release,)).points:
        assert point.found_most <= math.exp(epsilon) * point.false_alarms + 1e-5 + 0.0011


def test_nothing_released_gives_nothing_away():
    limits = attack_limits(())
    assert [p.found_most for p in limits.points] == list(FALSE_ALARMS)
    assert limits.right_of_100 == 51.0  # rounded up from 50.05
    assert AttackLimits().right(Origin.RECOMPUTED).value is None
    assert AttackLimits().found_in_words() == ""


def test_cut_batches_have_no_curve_and_the_report_says_so():
    assert attack_limits((SampledGaussian(1.0, 0.1, 5, 1e-9),)).points == ()


def test_the_report_has_the_curve_of_the_worst_hospital_below_the_line_of_epsilon():
    guarantee = report_of(evidence_of(federation(rounds=2).parts())).guarantee
    epsilon, delta = guarantee.epsilon.value, guarantee.delta.value
    assert epsilon is not None
    assert delta is not None
    for point in guarantee.attack_curve:
        assert isinstance(point, AttackPoint)
        assert point.found_most <= math.exp(epsilon) * point.false_alarms + delta + 0.0011
    assert (guarantee.right_of_100.value or 100) < (guarantee.odds_percent.value or 0)
    assert "accuses 1 of the others" in guarantee.found_in_words
    bare = {"privacy": {"mechanism": "none", "epsilon": None, "delta": None}}
    loud = report_of(evidence_of(federation(rounds=1, changes=bare).parts())).guarantee
    assert loud.attack_curve == ()
    assert loud.right_of_100.value is None


def test_what_a_hospital_said_of_its_own_attack_stands_beside_the_claim():
    fed = federation(rounds=1).fork()
    said = {
        "membership: loss threshold": "INCONCLUSIVE",
        "membership: likelihood ratio": "VIOLATION",
    }
    body = {
        "run": "ef" * 16,
        "model_sha256": "5" * 64,
        "epsilon_claimed": 2.5,
        "delta": 1e-4,
        "alpha": 0.05,
        "tests": 6,
        "shadows": 16,
        "noise": "none",
        "verdicts": said,
        "verdict": "VIOLATION",
    }
    seq = fed.hospitals["leiden"].append("attack-tested", body, at=fed.tick()).seq
    report = report_of(evidence_of(fed.parts()))
    (found,) = report.model_attacks
    assert (found.hospital, found.verdict, found.epsilon_claimed.value) == (
        "leiden",
        "VIOLATION",
        2.5,
    )
    assert (found.place.log, found.place.seq) == ("hospitals/leiden", seq)
    page = render_html(report.to_json(), lang="de")
    assert "Mitgliedschaft: Likelihood-Quotient: VERLETZUNG" in page
    assert "efefefef" in page
    assert "none stands" not in render_html(report.to_json())
    assert render_pdf(report.to_json(), lang="de")


def test_a_hospital_that_was_not_attacked_is_named_with_the_reason():
    fed = federation(rounds=1).fork()
    body = {
        "run": RUN,
        "model_sha256": "5" * 64,
        "epsilon_claimed": 2.5,
        "delta": 1e-4,
        "alpha": 0.05,
        "tests": 8,
        "shadows": 4,
        "noise": "none",
        "verdicts": {"membership: loss threshold": "PASS"},
        "verdict": "PASS",
    }
    skipped = {"verdicts": {}, "verdict": "INCONCLUSIVE", "shadows": 0, "skipped": "no time"}
    fed.hospitals["leiden"].append("attack-tested", body, at=fed.tick())
    fed.hospitals["bergen"].append("attack-tested", body | skipped, at=fed.tick())
    report = report_of(evidence_of(fed.parts()))
    rows = {row.hospital: (row.verdict, row.why, row.shadows) for row in attack_rows(report)}
    assert rows["coimbra"] == ("NOT RUN", "the hospital's policy does not ask for it", None)
    assert rows["leiden"][0] == "PASS"
    assert "would have shown" in rows["leiden"][1]
    assert rows["leiden"][2] == 4
    assert rows["bergen"][0] == "INCONCLUSIVE"
    assert "left no time" in rows["bergen"][1]
    assert report.not_protected[0].startswith("Verdicts of attack tests")
    page = render_html(report.to_json(), lang="de")
    assert "die Richtlinie des Krankenhauses verlangt ihn nicht" in page
    assert "4 Schattenmodelle" in page
    for change, reason in (
        ({"study": {"rounds_planned": 0}}, "the study trains no model"),
        ({"guarantee": {"unit": "record"}}, "only patients are attacked"),
    ):
        (table, values), *_ = change.items()
        other = report.model_copy(
            update={table: getattr(report, table).model_copy(update=values), "model_attacks": ()}
        )
        assert all(reason in row.why for row in attack_rows(other))
