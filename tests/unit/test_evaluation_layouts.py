"""Classes, several labels, numbers and anomaly scores: counts beside scikit-learn on the scores."""

import math

import numpy as np
import pytest
from sklearn import metrics as oracle
from tests.support.study_plans import CLASSES, STUDIES, study_plan

from wardround.errors import BadInput
from wardround.evaluation.binary import AnomalyLayout, BinaryLayout
from wardround.evaluation.channels import ChannelsLayout
from wardround.evaluation.histograms import CountsLayout, CountsMode, count_patients
from wardround.evaluation.layout import Outcomes, pooled_noise_sd, read_lanes
from wardround.evaluation.layouts import exact_layout_of, layout_of
from wardround.evaluation.metrics import evaluate_counts
from wardround.evaluation.patients import outcomes_of
from wardround.evaluation.regression import RegressionLayout, Scale
from wardround.evaluation.shown import headline, kind_of, patients_in, rows
from wardround.evaluation.survival import SurvivalLayout
from wardround.study.contract import Label

CUT = CountsLayout(mode=CountsMode.EXACT, bins=1000)
NOISED_CUT = CountsLayout(mode=CountsMode.NOISED, bins=8)
NAMES = ("normal", "benign", "malignant")
THREE = ChannelsLayout(kind="classes", names=NAMES, cut=CUT, threshold=0.5)
TWO = ChannelsLayout(kind="labels", names=("liver", "heart"), cut=CUT, threshold=0.5)
SCALES = (Scale("liver", "nmol", 0.0, 10.0), Scale("heart", "1", -1.0, 2.0))
NUMBERS = RegressionLayout(mode=CountsMode.EXACT, targets=SCALES, bins=8)


def read(layout, outcomes):
    lanes = layout.count(outcomes).exact()
    return layout.metrics(read_lanes(lanes, layout), cell_noise_sd=0.0)


def of_classes(seed, count, classes=3):
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, count)
    logits = random.normal(size=(count, classes)) + 1.2 * np.eye(classes)[truth]
    outputs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Outcomes(truth.astype(float), outputs)


def of_labels(seed, count):
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, (count, 2)).astype(float)
    outputs = 1 / (1 + np.exp(-(truth - 0.5 + random.normal(size=(count, 2)))))
    truth[random.random((count, 2)) < 0.3] = np.nan
    return Outcomes(truth, outputs)


def of_numbers(seed, count):
    random = np.random.default_rng(seed)
    truth = random.uniform(0, 1, (count, 2))
    outputs = np.clip(0.2 + 0.5 * truth + random.normal(0, 0.1, (count, 2)), 0, 1)
    truth[random.random((count, 2)) < 0.3] = np.nan
    return Outcomes(truth, outputs)


@pytest.mark.parametrize(("seed", "count"), [(1, 60), (2, 3000)])
def test_classes_are_evaluated_as_scikit_learn_does(seed, count):
    outcomes = of_classes(seed, count)
    truth, outputs = outcomes.truth, outcomes.outputs
    found = read(THREE, outcomes)
    assert found["kind"] == "classes"
    assert found["confusion"] == oracle.confusion_matrix(truth, outputs.argmax(axis=1)).tolist()
    due = oracle.balanced_accuracy_score(truth, outputs.argmax(axis=1))
    assert found["balanced_accuracy"]["value"] == pytest.approx(due, abs=1e-6)
    assert found["balanced_accuracy"]["low"] < due < found["balanced_accuracy"]["high"]
    due = oracle.accuracy_score(truth, outputs.argmax(axis=1))
    assert found["accuracy"]["value"] == pytest.approx(due, abs=1e-6)
    macro = oracle.roc_auc_score(truth, outputs, multi_class="ovr", average="macro")
    assert found["macro_auroc"]["value"] == pytest.approx(macro, abs=2e-3 if count < 100 else 1e-5)
    assert found["macro_auroc"]["low"] < macro < found["macro_auroc"]["high"]
    for place, channel in enumerate(found["channels"]):
        own = oracle.roc_auc_score(truth == place, outputs[:, place])
        assert channel["auroc_lower"] - 1e-6 <= own <= channel["auroc_upper"] + 1e-6
        brier = oracle.brier_score_loss(truth == place, outputs[:, place])
        assert channel["brier"]["value"] == pytest.approx(brier, abs=1e-6)


def test_the_intervals_of_balanced_accuracy_hold_it_about_as_often_as_they_say():
    layout = ChannelsLayout(
        kind="classes", names=NAMES, cut=CountsLayout(mode=CountsMode.EXACT, bins=10), threshold=0.5
    )
    found = [read(layout, of_classes(seed, 90))["balanced_accuracy"] for seed in range(300)]
    due = read(layout, of_classes(0, 100_000))["balanced_accuracy"]["value"]
    held = np.mean([each["low"] <= due <= each["high"] for each in found])
    assert 0.91 < held < 0.99  # of 300 cohorts: 1.3 % is one standard error


def test_a_hospital_without_one_class_has_no_mean_over_all_classes():
    outcomes = of_classes(1, 50)
    kept = outcomes.truth != 2
    found = read(THREE, Outcomes(outcomes.truth[kept], outcomes.outputs[kept]))
    assert found["macro_auroc"] is None
    assert found["balanced_accuracy"] is None
    assert found["channels"][2]["auroc"] is None
    assert found["channels"][0]["auroc"] is not None
    assert found["accuracy"] is not None


def test_labels_are_evaluated_over_the_patients_whose_label_is_known():
    outcomes = of_labels(1, 800)
    found = read(TWO, outcomes)
    due = []
    for place, channel in enumerate(found["channels"]):
        known = ~np.isnan(outcomes.truth[:, place])
        assert channel["patients"] == known.sum()
        truth, scores = outcomes.truth[known, place], outcomes.outputs[known, place]
        due.append(oracle.roc_auc_score(truth, scores))
        assert channel["auroc"]["value"] == pytest.approx(due[-1], abs=1e-4)
    assert found["macro_auroc"]["value"] == pytest.approx(np.mean(due), abs=1e-4)
    assert "confusion" not in found


def test_the_mean_over_labels_is_over_those_that_have_an_auroc():
    outcomes = of_labels(1, 100)
    truth = outcomes.truth.copy()
    truth[:, 1] = np.nan
    found = read(TWO, Outcomes(truth, outcomes.outputs))
    assert found["channels"][1]["patients"] == 0
    assert found["macro_auroc"]["value"] == found["channels"][0]["auroc"]["value"]


@pytest.mark.parametrize(("seed", "count"), [(1, 30), (2, 2000)])
def test_numbers_are_evaluated_as_scikit_learn_does_in_their_units(seed, count):
    outcomes = of_numbers(seed, count)
    found = read(NUMBERS, outcomes)
    for place, (scale, said) in enumerate(zip(SCALES, found["targets"], strict=True)):
        known = ~np.isnan(outcomes.truth[:, place])
        truth, predicted = (
            scale.low + scale.width * part[known, place]
            for part in (outcomes.truth, outcomes.outputs)
        )
        assert said["patients"] == known.sum()
        rmse = oracle.root_mean_squared_error(truth, predicted)
        mae = oracle.mean_absolute_error(truth, predicted)
        assert said["r2"]["value"] == pytest.approx(oracle.r2_score(truth, predicted), abs=2e-6)
        assert said["rmse"]["value"] == pytest.approx(rmse, abs=2e-6)
        assert said["mae"]["value"] == pytest.approx(mae, abs=2e-6)
        slope, intercept = np.polyfit(predicted, truth, 1)
        assert said["calibration_slope"] == pytest.approx(slope, abs=1e-5)
        assert said["calibration_intercept"] == pytest.approx(intercept, abs=1e-5)
        assert said["mean_error"] == pytest.approx((predicted - truth).mean(), abs=2e-6)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_numbers_of_few_patients_are_not_made_up(count):
    truth, outputs = np.full((count, 2), 0.5), np.full((count, 2), 0.25)
    for said in read(NUMBERS, Outcomes(truth, outputs))["targets"]:
        assert said["r2"] is None
        assert said["calibration_slope"] is None
        assert (said["rmse"] is None) == (count == 0)


def test_an_anomaly_score_has_an_auroc_and_no_calibration():
    random = np.random.default_rng(1)
    truth = random.integers(0, 2, 500)
    scores = 1 / (1 + np.exp(-(truth + random.normal(size=500))))
    layout = AnomalyLayout(CUT, 0.5)
    found = read(layout, Outcomes(truth.astype(float), scores[:, None]))
    due = oracle.roc_auc_score(truth, scores)
    assert found["kind"] == "anomaly"
    assert found["auroc_lower"] <= due <= found["auroc_upper"]
    assert "brier" not in found
    without = read(layout, Outcomes(np.zeros((500, 0)), scores[:, None]))
    assert without["auroc"] is None
    assert without["patients"] == 500


def test_a_binary_layout_is_the_histogram_that_it_always_was():
    random = np.random.default_rng(1)
    truth, scores = random.integers(0, 2, 200).astype(float), random.random(200)
    layout = BinaryLayout(CUT, 0.25)
    raw = layout.count(Outcomes(truth, scores[:, None]))
    counts = count_patients(truth, scores, CUT).exact()
    np.testing.assert_array_equal(raw.exact(), counts.to_lanes())
    found = layout.metrics(read_lanes(raw.exact(), layout), cell_noise_sd=0.0)
    assert found == evaluate_counts(counts, threshold=0.25).to_json()
    assert "kind" not in found


def noised(layout):
    mode = CountsMode.NOISED
    if isinstance(layout, RegressionLayout):
        return RegressionLayout(mode=mode, targets=SCALES, bins=4)
    return ChannelsLayout(kind=layout.kind, names=layout.names, cut=NOISED_CUT, threshold=0.5)


CASES = [(THREE, of_classes), (TWO, of_labels), (NUMBERS, of_numbers)]


@pytest.mark.parametrize(("layout", "patients"), CASES)
def test_hospitals_counts_add_up_to_those_of_all_patients(layout, patients):
    one, other = patients(1, 40), patients(2, 30)
    both = Outcomes(
        np.concatenate([one.truth, other.truth]), np.concatenate([one.outputs, other.outputs])
    )
    added = layout.count(one).lanes + layout.count(other).lanes
    assert layout.metrics(read_lanes(added, layout), cell_noise_sd=0.0) == read(layout, both)


@pytest.mark.parametrize(("layout", "patients"), CASES)
def test_one_patient_changes_so_many_noised_cells_by_one_and_no_more(layout, patients):
    layout, outcomes = noised(layout), patients(1, 40)
    whole = layout.count(outcomes).lanes
    most = 0
    for left_out in range(40):
        kept = np.arange(40) != left_out
        less = layout.count(Outcomes(outcomes.truth[kept], outcomes.outputs[kept])).lanes
        assert set(np.abs(whole - less).tolist()) <= {0, 1}
        most = max(most, int(np.abs(whole - less).sum()))
    assert most == layout.squared_sensitivity


@pytest.mark.parametrize(("layout", "patients"), CASES)
def test_noise_is_scaled_by_how_many_cells_a_patient_is_in(layout, patients):
    layout, outcomes = noised(layout), patients(1, 40)
    raw, random = layout.count(outcomes), np.random.default_rng(4)
    noise = np.concatenate(
        [raw.noised(3.0, random.bytes) - raw.lanes for _ in range(20_000 // layout.lanes + 1)]
    )
    due = pooled_noise_sd(layout, [3.0])
    assert due == pytest.approx(3.0 * math.sqrt(layout.squared_sensitivity + 1 / 108), rel=1e-3)
    assert noise.std() == pytest.approx(due, rel=0.03)  # six standard errors of 20,000 draws
    assert abs(noise.std() / due - 1.1) > 0.05


@pytest.mark.parametrize(("layout", "patients"), CASES)
def test_noised_counts_are_read_with_their_noise_and_exact_ones_are_not_sent(layout, patients):
    layout, outcomes = noised(layout), patients(1, 4000)
    raw = layout.count(outcomes)
    sd = pooled_noise_sd(layout, [2.0])
    lanes = read_lanes(raw.noised(2.0, np.random.default_rng(3).bytes), layout)
    found = layout.metrics(lanes, cell_noise_sd=sd)
    estimates = found["targets"][0]["rmse"] if "targets" in found else found["macro_auroc"]
    assert estimates["noise_low"] < estimates["value"] < estimates["noise_high"]
    with pytest.raises(BadInput, match="asks for noised counts"):
        raw.exact()
    with pytest.raises(BadInput, match="does not fit noised counts"):
        layout.metrics(lanes, cell_noise_sd=0.0)


def test_exact_counts_take_no_noise():
    raw = THREE.count(of_classes(1, 20))
    with pytest.raises(BadInput, match="asks for exact counts"):
        raw.noised(1.0, np.random.default_rng(1).bytes)


def test_exact_counts_that_contradict_themselves_are_refused():
    lanes = THREE.count(of_classes(1, 50)).lanes
    lanes[-1] += 1
    with pytest.raises(BadInput, match="differ in patients"):
        read_lanes(lanes, THREE)
    lanes = NUMBERS.count(of_numbers(1, 50)).lanes
    lanes[1] += 1 << 14
    with pytest.raises(BadInput, match="larger than its patients"):
        read_lanes(lanes, NUMBERS)


@pytest.mark.parametrize(("layout", "patients"), [*CASES])
def test_no_lane_exceeds_its_limit(layout, patients):
    for count in (0, 3, 5000):
        lanes = layout.count(patients(count, count)).lanes
        assert lanes.max(initial=0) <= layout.lane_limit(count)
    assert layout.lane_limit(1 << 20) < 2**31
    with pytest.raises(BadInput, match="at most"):
        layout.lane_limit((1 << 20) + 1)


@pytest.mark.parametrize(
    ("layout", "truth", "outputs", "why"),
    [
        (THREE, [3.0], [[0.2, 0.3, 0.5]], "beyond the study's classes"),
        (THREE, [1.0], [[0.5, 0.5]], "3 channels were due"),
        (THREE, [1.0, 2.0], [[0.2, 0.3, 0.5]], "differ in number"),
        (THREE, [1.0], [[0.2, np.nan, 0.5]], "1 of 3 outputs are not in"),
        (TWO, [[0.5, 1.0]], [[0.2, 0.3]], "labels have to be 0 or 1"),
        (NUMBERS, [[1.5, 1.0]], [[0.2, 0.3]], "1 true values are not within their range"),
        (NUMBERS, [[1.0]], [[0.2]], "2 targets were due"),
    ],
)
def test_what_does_not_fit_the_layout_is_not_counted(layout, truth, outputs, why):
    with pytest.raises(BadInput, match=why):
        layout.count(Outcomes(np.array(truth), np.array(outputs)))


LAYOUT_OF = {
    "mlp": BinaryLayout,
    "classes of a table": ChannelsLayout,
    "hazards": SurvivalLayout,
    "several targets": ChannelsLayout,
    "several numbers": RegressionLayout,
    "dense autoencoder": AnomalyLayout,
}


@pytest.mark.parametrize("name", LAYOUT_OF)
def test_a_studys_label_has_its_layout(name):
    assert type(layout_of(STUDIES[name]())) is LAYOUT_OF[name]


@pytest.mark.parametrize("name", STUDIES)
def test_a_hospital_reads_exact_counts_of_its_own_whatever_the_study_sends(name):
    study = STUDIES[name]()
    noisy = study.evaluation.model_copy(update={"counts": "noised", "epsilon": 1.0, "bins": 8})
    for plan in (study.evaluation, noisy):
        layout = exact_layout_of(study.model_copy(update={"evaluation": plan}))
        assert layout.mode is CountsMode.EXACT
        assert type(layout) is type(layout_of(study))
        assert layout.lanes <= 100_000
    if isinstance(layout, BinaryLayout):
        assert layout.cut.bins == 1000


def test_a_layout_that_no_log_could_hold_is_refused():
    many = CLASSES | {"classes": [f"c{place}" for place in range(60)]}
    study = study_plan("risk", "mlp", hidden=(4,), label=many)
    with pytest.raises(BadInput, match="60 channels of 1000 bins make"):
        layout_of(study)


def test_one_patient_is_one_row_the_mean_over_its_records():
    label = Label(name="sick", description="x", positive="yes")
    outputs = np.array([[0.2], [0.4], [1.0]])
    found = outcomes_of(label, np.array([0, 2, 3]), np.array([1.0, 1, 0]), outputs)
    np.testing.assert_allclose(found.outputs, [[0.3], [1.0]])
    assert found.truth.tolist() == [1, 0]
    with pytest.raises(BadInput, match="records with both labels"):
        outcomes_of(label, np.array([0, 2, 3]), np.array([1.0, 0, 0]), outputs)
    nobody = outcomes_of(label, np.array([0]), np.zeros(0), np.zeros((0, 1)))
    assert nobody.truth.shape == (0,)


def test_numbers_of_a_patient_are_averaged_and_become_places_in_their_range():
    label = STUDIES["several numbers"]().contract.label
    labels = np.array([[-1.0, np.nan], [0.0, np.nan], [1.0, 0.5]])
    found = outcomes_of(label, np.array([0, 2, 3]), labels, np.full((3, 2), 0.5))
    np.testing.assert_allclose(found.truth, [[0.25, np.nan], [1.0, 0.75]])


def test_labels_of_a_patient_that_differ_are_refused_and_a_missing_one_is_its_own():
    label = STUDIES["several targets"]().contract.label
    outputs = np.full((2, 2), 0.5)
    same = np.array([[1.0, np.nan], [1.0, np.nan]])
    found = outcomes_of(label, np.array([0, 2]), same, outputs)
    np.testing.assert_array_equal(found.truth, [[1.0, np.nan]])
    same[1, 0] = 0
    with pytest.raises(BadInput, match="1 patients have records with different labels"):
        outcomes_of(label, np.array([0, 2]), same, outputs)


SHOWN = {
    "classes": (THREE, of_classes, "Mean AUROC, each class against the rest", 6),
    "labels": (TWO, of_labels, "Mean AUROC over the labels", 3),
    "regression": (NUMBERS, of_numbers, "Mean correlation over the targets", 11),
}


@pytest.mark.parametrize("kind", SHOWN)
def test_a_page_gets_rows_of_every_kind_with_their_intervals(kind):
    layout, patients, first, count = SHOWN[kind]
    metrics = read(layout, patients(1, 300))
    found = rows(metrics)
    assert kind_of(metrics) == kind
    assert (found[0].name, len(found)) == (first, count)
    assert all(row.value is not None for row in found)
    assert 200 < patients_in(metrics) <= 300
    assert list(headline(metrics).values()) == [row.value for row in found[:4]]
    nobody = read(layout, patients(1, 0))
    assert [(row.name, row.of) for row in rows(nobody)] == [(row.name, row.of) for row in found]
    assert all(row.value is None for row in rows(nobody))
    with pytest.raises(BadInput, match="'else' are not known"):
        rows({"kind": "else"})
