"""What may be said of a patient for every kind of label, from held-out patients alone."""

import json
from datetime import UTC, datetime
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from fhir.resources.R4B.riskassessment import RiskAssessment as RiskAssessmentR4
from fhir.resources.riskassessment import RiskAssessment as RiskAssessmentR5
from tests.support.study_plans import STUDIES, study_plan

from wardround.errors import BadInput
from wardround.evaluation.layout import Outcomes
from wardround_client.prediction import fhir
from wardround_client.prediction.answers import (
    Answer,
    Number,
    Reason,
    Risk,
    Strangeness,
    Time,
    Withheld,
)
from wardround_client.prediction.calibrated import Calibrator
from wardround_client.prediction.calibration import Calibration, yes_or_no
from wardround_client.prediction.predict import Predictions

RANDOM = np.random.default_rng(4)
PATIENTS = 200
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def calibration(name, truth, outputs):
    return Calibration(STUDIES[name](), Outcomes(np.asarray(truth, dtype=np.float64), outputs))


def survivors():
    """Times to an event on the edges 100, 200 and 400 d; a third is lost from sight early."""
    times, events = RANDOM.uniform(1, 500, PATIENTS), RANDOM.random(PATIENTS) < 0.6
    outputs = np.sort(RANDOM.random((PATIENTS, 3)), axis=1)
    return calibration("hazards", np.stack([times, events], axis=1), outputs)


def classes():
    truth = RANDOM.integers(0, 3, PATIENTS)
    outputs = RANDOM.dirichlet((1, 1, 1), PATIENTS)
    return calibration("classes of a table", truth, outputs)


def targets():
    truth = (RANDOM.random((PATIENTS, 2)) < 0.4).astype(np.float64)
    truth[:, 1] = np.where(np.arange(PATIENTS) % 2, np.nan, 1.0)  # known of half, never a no
    return calibration("several targets", truth, RANDOM.random((PATIENTS, 2)))


def numbers():
    truth = RANDOM.random((PATIENTS, 2))
    truth[:, 1] = np.nan
    outputs = np.clip(np.nan_to_num(truth) + RANDOM.normal(0, 0.1, (PATIENTS, 2)), 0, 1)
    return calibration("several numbers", truth, outputs)


def anomalies(truth):
    return calibration("dense autoencoder", truth, RANDOM.random((PATIENTS, 1)))


def test_until_an_edge_those_count_whose_status_there_is_known():
    label = STUDIES["hazards"]().contract.label
    truth = np.array([[50, 1], [50, 0], [100, 1], [150, 0], [400, 0], [399, 1]], dtype=np.float64)
    (known_100, died_100), (known_200, died_200), (known_400, died_400) = yes_or_no(label, truth)
    assert known_100.tolist() == [True, False, True, True, True, True]
    assert died_100.tolist() == [True, False, False, False, False, False]
    assert known_200.tolist() == [True, False, True, False, True, True]
    assert died_200.tolist() == [True, False, True, False, False, False]
    assert known_400.tolist() == [True, False, True, False, True, True]
    assert died_400.tolist() == [True, False, True, False, False, True]


def test_the_risk_of_a_prognosis_never_falls_from_one_edge_to_the_next():
    found = survivors()
    for _ in range(30):
        (*channels, time), kept = found.answer(np.sort(RANDOM.random(3)), own_row=None)
        assert time.channel == "death (time)"
        assert [one.channel for one in channels] == ["until 100 d", "until 200 d", "until 400 d"]
        for before, after in pairwise(channels):
            assert before.low <= after.low
            assert before.high <= after.high
            assert before.risk <= after.risk
        assert kept is None
    counts = [one.calibrated_on for one in channels]
    assert counts[0] > counts[1] > counts[2]  # the later, the more are lost from sight


def test_the_bound_on_the_time_is_told_in_its_unit_or_not_at_all():
    found = survivors()
    low, high = (found.answer(np.full(3, said), own_row=None)[0][-1] for said in (0.99, 0.01))
    assert isinstance(low, Time)
    assert (low.unit, low.error, low.calibrated_on) == ("d", 0.1, PATIENTS)
    assert 0.0 < low.low < high.low == high.until == 400.0
    point = Answer(patient="p", channels=(low, high)).lines({})
    assert (
        f"death (time): not before {low.low:.4g} d for 90 % of patients like this one" in point[1]
    )
    assert point[2].endswith("the longest that can be said here")
    # One of those that calibrate is left out of its own bound.
    assert found.answer(np.full(3, 0.99), own_row=0)[0][-1].calibrated_on == PATIENTS - 1
    truth, outputs = found.outcomes.truth, found.outcomes.outputs
    few = calibration("hazards", truth[:8], outputs[:8]).answer(outputs[0], own_row=None)[0]
    assert few[-1] == Withheld(channel="death (time)", reason=Reason.TOO_FEW)
    nobody = np.stack([truth[:, 0], np.zeros(PATIENTS)], axis=1)
    none = calibration("hazards", nobody, outputs).answer(outputs[0], own_row=None)[0]
    assert none[-1] == Withheld(channel="death (time)", reason=Reason.ONE_CLASS)


def test_patients_lost_from_sight_are_told_with_what_standing_in_for_them_rests_on():
    found = survivors()
    (first, _), _, (last, _) = found.known
    said = found.censoring()
    assert f"{int((~first).sum())} of {PATIENTS} held-out patients were lost" in said
    assert f"{int((~last).sum())} before the last" in said
    assert "being lost has nothing to do with the event" in said
    assert targets().censoring() is None
    nobody = np.stack([np.full(PATIENTS, 450.0), RANDOM.integers(0, 2, PATIENTS)], axis=1)
    assert calibration("hazards", nobody, RANDOM.random((PATIENTS, 3))).censoring() is None


def test_each_class_has_a_risk_and_the_set_holds_the_truth_at_its_rate():
    found = classes()
    missed = 0
    for row in range(PATIENTS):
        channels, kept = found.answer(found.outcomes.outputs[row], own_row=row)
        assert [one.channel for one in channels] == ["normal", "benign", "malignant"]
        assert all(isinstance(one, Risk) for one in channels)
        assert kept.calibrated_on == PATIENTS - 1
        missed += found.label.classes[int(found.outcomes.truth[row])] not in kept.classes
    assert 0.1 - 4 * 0.021 < missed / PATIENTS < 0.1 + 4 * 0.021


def test_a_target_that_is_never_a_no_is_withheld_and_the_other_one_is_answered():
    liver, heart = targets().answer(np.array([0.3, 0.8]), own_row=None)[0]
    assert isinstance(liver, Risk)
    assert liver.calibrated_on == PATIENTS
    assert heart == Withheld(channel="heart", reason=Reason.ONE_CLASS)


def test_a_number_is_in_its_unit_and_one_never_measured_is_withheld():
    liver, heart = numbers().answer(np.array([0.5, 0.5]), own_row=None)[0]
    assert isinstance(liver, Number)
    assert liver.value == pytest.approx(5.0)  # half of 0 to 10
    assert 0.0 <= liver.low < 5.0 < liver.high <= 10.0
    assert liver.high - liver.low == pytest.approx(2 * 1.645, abs=0.6)
    assert heart.reason is Reason.NOT_EVALUATED


def test_an_anomaly_score_has_a_p_value_and_with_a_label_a_risk_too():
    (strange,) = anomalies(np.zeros((PATIENTS, 0))).answer(np.array([0.99]), own_row=None)[0]
    assert isinstance(strange, Strangeness)
    assert 1 / (PATIENTS + 1) <= strange.p < 0.05
    found = anomalies((RANDOM.random(PATIENTS) < 0.2).astype(float)).answer(
        np.array([0.5]), own_row=None
    )[0]
    assert [type(one) for one in found] == [Strangeness, Risk]


def test_one_that_calibrates_is_left_out_of_its_own_calibration():
    found = targets()
    own = Calibrator.of(found.outcomes.outputs[1:, 0], found.outcomes.truth[1:, 0] > 0.5)
    said = found.outcomes.outputs[0]
    (liver, _), _ = found.answer(said, own_row=0)
    assert liver.low == own.interval(said[0]).low
    assert liver.calibrated_on == PATIENTS - 1


def test_pooled_rates_are_those_of_the_channel_in_the_report():
    found = classes()
    rates = [
        {"sensitivity": {"value": place / 10, "low": 0.0, "high": 1.0}, "specificity": None}
        for place in range(3)
    ]
    points = found.operating_points({"kind": "classes", "channels": rates})
    assert [point.pooled_sensitivity.value for point in points] == [0.0, 0.1, 0.2]
    assert all(point.pooled_specificity is None for point in points)
    assert all(point.pooled_sensitivity is None for point in found.operating_points({}))


def standing_of(study):
    return SimpleNamespace(
        hospital="lakeside",
        study=SimpleNamespace(
            name=study.name, title=study.title, digest="1" * 64, contract=study.contract
        ),
        released=SimpleNamespace(run="2" * 32),
        personalised_from=None,
        model="3" * 64,
        report="4" * 64,
    )


KINDS = {
    "hazards": (survivors, 3),
    "classes of a table": (classes, 3),
    "several targets": (targets, 2),
    "several numbers": (numbers, 2),
    "dense autoencoder": (lambda: anomalies(np.zeros((PATIENTS, 0))), 1),
}


@pytest.mark.parametrize("name", KINDS)
def test_answers_of_every_kind_are_risk_assessments_of_r4_and_r5(name):
    made, width = KINDS[name]
    found = made()
    channels, kept = found.answer(np.linspace(0.2, 0.6, width), own_row=None)
    answers = (
        Answer(patient="p1", channels=channels, classes=kept, notes=("a note",)),
        Answer(patient="p2", abstained=Reason.UNLIKE, why=("far from all",)),
    )
    support = SimpleNamespace(
        standing=standing_of(STUDIES[name]()), operating_points=found.operating_points()
    )
    one, none = fhir.risk_assessments(Predictions(support, answers), dataset="ward", now=NOW)
    for resource in (one, none):
        for version in (RiskAssessmentR4, RiskAssessmentR5):
            version.model_validate_json(json.dumps(resource))
        values = {entry["value"] for entry in resource["identifier"]}
        assert values == {"1" * 64, "2" * 32, "3" * 64, "4" * 64}
    assert (one["status"], none["status"]) == ("final", "cancelled")
    assert "prediction" not in none
    assert none["note"] == [{"text": "No answer, out of distribution: far from all."}]
    risks = [channel for channel in channels if isinstance(channel, Risk)]
    percents = [p["probabilityDecimal"] for p in one["prediction"] if "probabilityDecimal" in p]
    assert percents == pytest.approx([100 * risk.risk for risk in risks], abs=1e-3)
    assert len(one["prediction"]) == len(channels)
    if name == "hazards":
        (least,) = one["prediction"][-1]["extension"]
        assert least["valueRange"].keys() == {"low"}
        assert "Not before" in one["prediction"][-1]["rationale"]
    json.loads(json.dumps(answers[0].to_json()))
    assert answers[0].lines({})[0] == "p1"


def test_a_resource_that_breaks_the_standard_is_not_written(monkeypatch):
    study = study_plan("risk", "logistic-regression")
    support = SimpleNamespace(standing=standing_of(study), operating_points=())
    risk = Risk(channel="sick", score=0.5, risk=0.5, low=0.4, high=0.6, calibrated_on=9)
    found = Predictions(support, (Answer(patient="p1", channels=(risk,)),))
    monkeypatch.setattr(fhir, "_basis", lambda _: [{"identifier": 7}])
    with pytest.raises(ValueError, match="basis"):
        fhir.risk_assessments(found, dataset="ward", now=NOW)


def test_without_the_extra_the_command_says_what_to_install(monkeypatch):
    monkeypatch.setattr(fhir, "_VERSIONS", ("fhir_is_not_here.riskassessment",))
    support = SimpleNamespace(
        standing=standing_of(study_plan("risk", "logistic-regression")), operating_points=()
    )
    with pytest.raises(BadInput, match=r"install wardround\[fhir\]"):
        fhir.risk_assessments(Predictions(support, ()), dataset="ward", now=NOW)
