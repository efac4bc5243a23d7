"""Decision support: who gets an answer, what stands in it, and who gets none."""

import json

import numpy as np
import pytest
import torch
from tests.support.decision_support import (
    fever_network,
    keep_model,
    support_of,
    ward_with_model,
    write_fevers,
)
from tests.support.hospitals import RUN, Ward

from wardround.cli.main import run
from wardround.errors import BadInput, RefusedByPolicy, VerificationFailed
from wardround.evaluation.intervals import wilson
from wardround.protocol.halves import model_digest
from wardround_client.data.description import read_description
from wardround_client.prediction.answers import Reason
from wardround_client.prediction.calibrated import Calibrator
from wardround_client.prediction.predict import predict
from wardround_client.prediction.standing import standing


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A hospital with 400 patients that has kept a model, and five new patients."""
    ward, study = ward_with_model(tmp_path_factory.mktemp("ward") / "ward")
    hospital = ward["lakeside"]
    rows = ["n1,42,1,", "n2,80,0,", "odd,130,1,", "unknown,,0,", "broken,50,yes,"]
    (hospital.data / "new.csv").write_text("\n".join(["id,age,male,fever", *rows]) + "\n")
    yield hospital, study, described(hospital, "new.csv")
    ward.close()


def described(hospital, path, **changes):
    """The hospital's description of another file, without a label."""
    text = hospital.description.read_text().replace('"patients.csv"', f'"{path}"')
    for old, new in changes.items():
        text = text.replace(old, new)
    label, columns = text.index("[label]"), text.index("[[columns]]")
    target = hospital.data / f"{path}.toml"
    target.write_text(text[:label] + text[columns:])
    return target


def asked(hospital, path, **more):
    return predict(support_of(hospital), read_description(path), hospital.data, **more)


def by_key(found):
    return {answer.patient: answer for answer in found.answers}


def test_a_risk_is_the_venn_abers_interval_of_the_hospitals_held_out_patients(kept):
    hospital, study, path = kept
    support = support_of(hospital)
    (channel,) = by_key(asked(hospital, path))["n1"].channels
    outcomes = support.calibration.outcomes
    due = Calibrator.of(outcomes.outputs[:, 0], outcomes.truth > 0.5).interval(channel.score)
    logit = fever_network(study)(torch.tensor([[2 * 0.42 - 1, 1.0]]))
    assert channel.score == pytest.approx(float(torch.sigmoid(logit.detach())), abs=1e-6)
    assert (channel.low, channel.risk, channel.high) == (due.low, due.risk, due.high)
    assert channel.calibrated_on == support.held_out.patients == len(support.held_out_keys)


def test_a_row_outside_the_contract_is_its_patients_alone_and_names_no_value(kept):
    hospital, _, path = kept
    found = by_key(asked(hospital, path))
    for key, why in (
        ("odd", "age: outside 0 to 100 a"),
        ("unknown", "age: missing, or cannot be read; it is due"),
        ("broken", "male: missing, or cannot be read; it is due"),
    ):
        assert found[key].abstained is Reason.OUTSIDE
        assert found[key].why == (why,)
        assert found[key].channels == ()
        said = json.dumps(found[key].to_json())
        assert "130" not in said
        assert "yes" not in said
    assert found["n1"].abstained is found["n2"].abstained is None


def test_the_operating_point_is_counted_on_held_out_patients_with_wilson_intervals(kept):
    support = support_of(kept[0])
    (point,) = support.operating_points
    scores, truth = support.calibration.outcomes.outputs[:, 0], support.calibration.outcomes.truth
    sick, well = int((truth == 1).sum()), int((truth == 0).sum())
    right, left = int(((scores >= 0.5) & (truth == 1)).sum()), int((scores[truth == 0] < 0.5).sum())
    for rate, part, whole in (
        (point.sensitivity, right, sick),
        (point.specificity, left, well),
    ):
        assert (rate.value, (rate.low, rate.high)) == (part / whole, wilson(part, whole))
    assert (point.threshold, point.held_out) == (0.5, sick + well)
    assert point.pooled_sensitivity is None


def test_a_patient_that_calibrates_is_left_out_and_one_that_was_trained_on_is_named(kept):
    hospital, _, _ = kept
    support = support_of(hospital)
    own = described(hospital, "patients.csv")
    found = by_key(predict(support, read_description(own), hospital.data))
    assert len(found) == 400
    key, row = support.held_out_keys[3], 3
    (channel,) = found[key].channels
    assert channel.calibrated_on == support.held_out.patients - 1
    outcomes, others = support.calibration.outcomes, np.arange(support.held_out.patients) != row
    without = Calibrator.of(outcomes.outputs[others, 0], outcomes.truth[others] > 0.5)
    assert channel.low == without.interval(channel.score).low
    assert found[key].notes == ()
    trained = min(support.trained_keys)
    assert "was trained on" in found[trained].notes[0]


def test_a_key_of_another_data_set_is_another_patient(kept):
    hospital, _, _ = kept
    other = described(hospital, "patients.csv", **{"fever-lakeside": "another-set"})
    found = by_key(predict(support_of(hospital), read_description(other), hospital.data))
    assert not any(answer.notes for answer in found.values())


def test_a_patient_unlike_all_others_gets_no_number(tmp_path):
    ward, _ = ward_with_model(tmp_path / "ward", patients=600)
    hospital = ward["lakeside"]
    # Everybody here is young: an old patient is within the contract and unlike the others.
    rows = [f"p{n},{20 + n % 9},{n % 2},{int(n % 3 == 0)}" for n in range(600)]
    (hospital.data / "patients.csv").write_text("\n".join(["id,age,male,fever", *rows]) + "\n")
    (hospital.data / "new.csv").write_text("id,age,male,fever\nold,95,1,\nyoung,24,1,\n")
    found = by_key(asked(hospital, described(hospital, "new.csv")))
    assert found["old"].abstained is Reason.UNLIKE
    assert found["old"].channels == ()
    assert found["young"].abstained is None
    ward.close()


def test_few_held_out_patients_cannot_say_who_is_unlike_and_that_is_told(kept, tmp_path):
    hospital, _, path = kept
    few = asked(hospital, path)
    assert "92 held-out patients are too few (100 are due)" in "\n".join(few.lines())
    assert "too few" in few.to_json()["unlike_patients"]


@pytest.mark.parametrize(("fever", "held_out"), [(1, 0.25), (0, 0.25)])
def test_one_outcome_only_gives_no_number(tmp_path, fever, held_out):
    ward, _ = ward_with_model(tmp_path / "ward", evaluation__held_out=held_out)
    hospital = ward["lakeside"]
    rows = [f"p{n},{n % 90},{n % 2},{fever}" for n in range(60)]
    (hospital.data / "patients.csv").write_text("\n".join(["id,age,male,fever", *rows]) + "\n")
    write_fevers(hospital.data / "new.csv", 2, seed=1, prefix="n")
    for answer in asked(hospital, described(hospital, "new.csv")).answers:
        assert answer.abstained is Reason.ONE_CLASS
        assert answer.channels == ()
    ward.close()


def test_without_held_out_patients_the_model_is_not_evaluated_here(tmp_path):
    ward, _ = ward_with_model(tmp_path / "ward", evaluation__held_out=0.001)
    hospital = ward["lakeside"]
    write_fevers(hospital.data / "patients.csv", 5, seed=3)
    write_fevers(hospital.data / "new.csv", 2, seed=1, prefix="n")
    found = asked(hospital, described(hospital, "new.csv"))
    assert {answer.abstained for answer in found.answers} == {Reason.NOT_EVALUATED}
    assert "risk" not in "\n".join(found.lines())
    ward.close()


def test_only_the_patient_of_a_key_is_answered_for_and_the_key_is_in_no_error(kept):
    hospital, _, path = kept
    assert [a.patient for a in asked(hospital, path, patient="n2").answers] == ["n2"]
    assert asked(hospital, path, patient="odd").answers[0].abstained is Reason.OUTSIDE
    with pytest.raises(BadInput) as caught:
        asked(hospital, path, patient="secret-key")
    assert "secret-key" not in str(caught.value)


def test_rows_without_a_key_refuse_the_file(kept):
    hospital, _, _ = kept
    (hospital.data / "nokey.csv").write_text("id,age,male,fever\n,42,1,\nn2,40,1,\n")
    with pytest.raises(BadInput, match="1 of 2 rows have none"):
        asked(hospital, described(hospital, "nokey.csv"))


def test_a_column_that_is_not_there_refuses_the_file(kept):
    hospital, _, _ = kept
    (hospital.data / "short.csv").write_text("id,age,fever\nn1,42,\n")
    with pytest.raises(BadInput, match="no column 'male'"):
        asked(hospital, described(hospital, "short.csv"))


def test_a_model_that_the_evidence_log_does_not_name_is_not_used(tmp_path):
    ward, study = ward_with_model(tmp_path / "ward")
    hospital = ward["lakeside"]
    assert standing(hospital.home, study).model == model_digest(
        torch.cat([p.detach().reshape(-1) for p in fever_network(study).parameters()]).numpy()
    )
    keep_model(hospital, study, fever_network(study, slope=9.0), model="0" * 64)
    with pytest.raises(VerificationFailed, match="the evidence log ends with model 0000"):
        standing(hospital.home, study)
    ward.close()


def test_a_model_without_the_end_of_a_run_is_not_used(tmp_path):
    ward, study = ward_with_model(tmp_path / "ward")
    hospital = ward["lakeside"]
    keep_model(hospital, study, fever_network(study), run="cd" * 16)
    with hospital.home.log(study.digest) as log:
        assert [entry.body["run"] for entry in log.entries() if entry.type == "run-ended"] == [
            RUN,
            "cd" * 16,
        ]
    assert standing(hospital.home, study).released.run == RUN
    hospital.home.log(study.digest).close()
    (hospital.home.directory / "evidence" / f"{study.digest}.sqlite").unlink()
    with pytest.raises(VerificationFailed, match="ends with no run"):
        standing(hospital.home, study)
    ward.close()


def report_of(folder, study, model, *, metrics, changes=()):
    value = {
        "study": {"digest": study.digest},
        "run": {"run": RUN, "model_digest": model},
        "evaluation": {"metrics": metrics},
    } | dict(changes)
    path = folder / "report.json"
    path.write_text(json.dumps(value))
    return path


def estimate(value, low, high):
    return {"value": value, "low": low, "high": high, "noise_low": None, "noise_high": None}


def test_with_the_report_the_pooled_operating_point_stands_beside(kept, tmp_path):
    hospital, study, path = kept
    metrics = {"sensitivity": estimate(0.7, 0.6, 0.8), "specificity": None}
    report = report_of(tmp_path, study, standing(hospital.home, study).model, metrics=metrics)
    found = predict(support_of(hospital, report=report), read_description(path), hospital.data)
    (point,) = found.support.operating_points
    assert (point.pooled_sensitivity.value, point.pooled_specificity) == (0.7, None)
    assert "all hospitals: sensitivity 0.70 (0.60 to 0.80), specificity NA" in found.lines()[1]
    assert found.to_json()["report"] is not None


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"run": {"run": "0" * 32, "model_digest": "1"}}, VerificationFailed, "another study"),
        ({"study": {"digest": "0" * 64}}, VerificationFailed, "another study"),
        ({"study": 3}, BadInput, "no report.json"),
    ],
)
def test_a_report_of_another_model_is_refused(kept, tmp_path, change, error, match):
    hospital, study, _ = kept
    model = standing(hospital.home, study).model
    report = report_of(tmp_path, study, model, metrics=None, changes=change)
    with pytest.raises(error, match=match):
        standing(hospital.home, study, report=report)


def test_a_report_without_an_evaluation_says_that_the_model_is_not_evaluated(kept, tmp_path):
    hospital, study, path = kept
    report = report_of(tmp_path, study, standing(hospital.home, study).model, metrics=None)
    found = predict(support_of(hospital, report=report), read_description(path), hospital.data)
    assert by_key(found)["n1"].abstained is Reason.NOT_EVALUATED


def test_a_model_whose_report_was_refused_is_not_used(tmp_path):
    from datetime import UTC, datetime

    ward, study = ward_with_model(tmp_path / "ward")
    hospital = ward["lakeside"]
    body = {
        "study_digest": study.digest,
        "report": "1" * 64,
        "manifest": "2" * 64,
        "officer": "Dr. Weber",
        "decision": "refuse",
        "remark": "not calibrated",
    }
    with hospital.home.log(study.digest) as log:
        log.append("report-signed-off", body, time=datetime.now(UTC))
    with pytest.raises(RefusedByPolicy, match="refused it"):
        standing(hospital.home, study)
    ward.close()


def test_a_study_that_is_no_longer_approved_gives_no_answer(tmp_path):
    ward, _ = ward_with_model(tmp_path / "ward")
    hospital = ward["lakeside"]
    for approval in hospital.home.approvals().iterdir():
        approval.unlink()
    with pytest.raises(RefusedByPolicy):
        support_of(hospital)
    ward.close()


def command(hospital, path, *more):
    directory = str(hospital.home.directory)
    words = ["--dir", directory, "--study", "fever", "--description", str(path)]
    return run(["predict", *words, "--data", str(hospital.data), *map(str, more)])


def test_the_command_prints_and_writes_nothing_into_the_hospitals_directory(kept, capsys):
    hospital, study, path = kept
    before = hospital.log_entries(study)
    assert command(hospital, path) == 0
    said = capsys.readouterr().out
    assert "n1\n  fever: risk 0." in said
    assert "no answer, outside the contract: age: outside 0 to 100 a" in said
    assert command(hospital, path, "--json", "--patient", "n1") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["study_digest"] == study.digest
    assert [patient["patient"] for patient in told["patients"]] == ["n1"]
    assert hospital.log_entries(study) == before


@pytest.mark.parametrize("option", ["--impute", "--representation"])
def test_only_an_autoencoder_writes_codes_and_expectations_and_nothing_over_a_file(
    kept, capsys, tmp_path, option
):
    hospital, _, path = kept
    out = tmp_path / "out.csv"
    assert command(hospital, path, option, out) == 4
    assert "are an autoencoder's, its family is risk" in capsys.readouterr().err
    assert not out.exists()
    out.write_text("mine")
    assert command(hospital, path, option, out) == 4
    assert "exists already" in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_a_hospital_without_a_model_is_told_so(tmp_path, capsys):
    ward = Ward.make(tmp_path / "ward", ("lakeside", "northside"))
    hospital = ward["lakeside"]
    hospital.approve(ward.signed(ward.study()))
    path = described(hospital, "patients.csv")
    assert command(hospital, path) == 4
    assert "0 released models are kept here" in capsys.readouterr().err
    ward.close()
