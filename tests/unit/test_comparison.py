"""Alone, together, pooled: the comparison that a rehearsal makes, on small generated hospitals."""

import dataclasses
import json
import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from tests.support.masked_hospitals import seeded
from tests.support.small_federation import write_study

from wardround.errors import BadInput
from wardround.study.files import read_study_plan
from wardround_client.comparison.compare import compare, write_comparison
from wardround_client.comparison.next_hospital import next_hospital
from wardround_client.comparison.page import page
from wardround_client.comparison.picture import forest
from wardround_client.comparison.result import MARK, compared
from wardround_client.comparison.sites import gather, study_of, together
from wardround_client.comparison.training import trained
from wardround_client.comparison.ways import Way, score, ways_of

NAMES = ("alpha", "beta", "delta", "gamma")
EVERYBODY = 1 - 1e-9  # a sampling rate that leaves nobody out in any run that ends


@pytest.fixture
def small(tmp_path):
    write_study(tmp_path, NAMES)
    return tmp_path


def gathered(folder, *overrides):
    return gather(folder / "study", folder / "data", overrides)


def test_without_noise_and_sampling_a_federation_learns_what_the_pooled_patients_teach(small):
    """Sums of gradients add up: the same step, but for the rounding to lanes."""
    found = gathered(small, "training.local_steps=1", "privacy.mechanism=none")
    sites = found.sites()
    patients = sum(site.train.patients for site in sites.values())
    privacy = {"sampling_rate": EVERYBODY}
    plan, four, one = found.plan, patients / len(NAMES), float(patients)
    apart = study_of(plan, NAMES, privacy=privacy, training={"expected_batch": four})
    in_one = study_of(plan, NAMES, privacy=privacy, training={"expected_batch": one})
    trains = {name: site.train for name, site in sites.items()}
    federated = trained(apart, trains, seeded("federated"))
    pooled = trained(in_one, {"all": together(list(trains.values()))}, seeded("pooled"))
    assert np.abs(federated).max() > 0.1
    np.testing.assert_allclose(federated, pooled, atol=2e-5)
    other = trained(in_one, {"all": trains["alpha"]}, seeded("pooled"))
    assert np.abs(federated - other).max() > 0.05


@pytest.mark.parametrize("mechanism", ["local", "distributed"])
def test_noise_is_in_the_model_with_dp_and_in_no_other(small, mechanism):
    found = gathered(small, "training.local_steps=1", f"privacy.mechanism={mechanism}")
    plan = found.plan.model_copy(
        update={"privacy": found.plan.privacy.model_copy(update={"sampling_rate": EVERYBODY})}
    )
    sites = found.sites()

    def twice(way):
        one, two = (score(plan, sites, way, seeded(seed)).whole for seed in "ab")
        return one["brier"]["value"], two["brier"]["value"]

    for way in (Way.ALONE, Way.FEDERATED, Way.POOLED):
        one, two = twice(way)
        assert one == two, way
    for way in (Way.PRIVATE, Way.LEFT_OUT):
        one, two = twice(way)
        assert one != two, way


def test_a_hospital_that_is_left_out_is_scored_whole_and_its_patients_are_not_learned(small):
    found = gathered(small, "privacy.mechanism=none")
    sites = found.sites()
    scored = score(found.plan, sites, Way.LEFT_OUT, seeded("x"))
    assert {name: own["patients"] for name, own in scored.hospitals.items()} == dict.fromkeys(
        NAMES, 160
    )
    assert scored.whole["patients"] == 640
    # Alpha's training labels are turned: only a model that learned them could rank alpha well.
    alpha = sites["alpha"]
    turned = dataclasses.replace(alpha.train, labels=1 - alpha.train.labels)
    spoilt = {**sites, "alpha": dataclasses.replace(alpha, train=turned)}
    again = score(found.plan, spoilt, Way.LEFT_OUT, seeded("x"))
    assert scored.hospitals["alpha"]["auroc"]["value"] > 0.7
    assert again.hospitals["alpha"]["auroc"]["value"] < 0.5
    assert again.hospitals["beta"]["brier"] != scored.hospitals["beta"]["brier"]
    held_out = score(found.plan, sites, Way.FEDERATED, seeded("x")).hospitals["alpha"]["patients"]
    assert held_out == sites["alpha"].held_out.patients < 160


def test_alone_each_hospital_is_served_by_its_own_model(small):
    found = gathered(small)
    sites = found.sites()
    alone = score(found.plan, sites, Way.ALONE, seeded("x"))
    alpha = sites["alpha"]
    turned = dataclasses.replace(alpha.train, labels=1 - alpha.train.labels)
    spoilt = score(
        found.plan,
        {**sites, "alpha": dataclasses.replace(alpha, train=turned)},
        Way.ALONE,
        seeded("x"),
    )
    assert spoilt.hospitals["alpha"]["auroc"]["value"] < 0.3
    assert alone.hospitals["alpha"]["auroc"]["value"] > 0.7
    assert spoilt.hospitals["beta"]["auroc"]["value"] > 0.7


def test_the_files_say_what_they_are_and_refuse_to_be_overwritten(small):
    found = compare(
        small / "study", small / "data", randomness=seeded("files"), say=lambda _line: None
    )
    write_comparison(found, small)
    said = json.loads((small / "comparison.json").read_text())
    assert said["mark"] == MARK
    assert [line["way"] for line in said["lines"]] == [way.value for way in Way]
    assert [line["epsilon"] for line in said["lines"]] == [None, None, 3.0, None, 3.0]
    assert said["next_hospital"]["hospitals"] == len(NAMES)
    html = (small / "comparison.html").read_text()
    assert MARK in html
    assert "<script" not in html
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    svg = ET.fromstring((small / "comparison.svg").read_text())
    words = " ".join(element.text or "" for element in svg.iter())
    assert "without gamma, in gamma" in words
    assert "the next hospital" in words
    with pytest.raises(BadInput, match=r"comparison\.json, comparison\.svg"):
        write_comparison(found, small)


def test_without_noise_in_the_study_no_line_claims_an_epsilon(small):
    plan = read_study_plan(small / "study" / "study.toml", ["privacy.mechanism=none"])
    assert Way.PRIVATE not in ways_of(plan)
    found = gathered(small, "privacy.mechanism=none")
    scored = [score(found.plan, found.sites(), Way.LEFT_OUT, seeded("x"))]
    assert [line.epsilon for line in compared(found.plan, scored).lines] == [None]


def test_a_study_whose_rounds_are_not_played_here_is_refused(small):
    found = gathered(
        small,
        "privacy.mechanism=none",
        "training.weighting=patients",
        "training.weight_unit=10",
        "training.weight_most=100",
    )
    with pytest.raises(BadInput, match="weights"):
        score(found.plan, found.sites(), Way.FEDERATED, seeded("x"))


def test_it_is_refused_before_anything_is_trained(small):
    said = []
    with pytest.raises(BadInput, match="weights"):
        compare(
            small / "study",
            small / "no such data",
            overrides=[
                "privacy.mechanism=none",
                "training.weighting=patients",
                "training.weight_unit=10",
                "training.weight_most=100",
            ],
            randomness=seeded("x"),
            say=said.append,
        )
    assert said == []


def test_the_next_hospital_equals_the_restricted_likelihoods_maximum():
    """Oracle: the restricted likelihood itself, maximised by search."""
    found = [(0.91, 0.02), (0.78, 0.03), (0.85, 0.02), (0.69, 0.05), (0.88, 0.015)]
    odds = np.array([math.log(v / (1 - v)) for v, _ in found])
    variances = np.array([(e / (v * (1 - v))) ** 2 for v, e in found])

    def minus_likelihood(between):
        weights = 1 / (variances + between)
        mean = (weights * odds).sum() / weights.sum()
        parts = np.log(variances + between).sum() + np.log(weights.sum())
        return parts + (weights * (odds - mean) ** 2).sum()

    best = minimize_scalar(minus_likelihood, bounds=(0, 5), options={"xatol": 1e-10}).x
    summary = next_hospital(found)
    assert summary.between == pytest.approx(math.sqrt(best), abs=1e-4)
    assert best > 0.05
    low, high = summary.prediction
    assert low < summary.interval[0] < summary.mean < summary.interval[1] < high


def test_hospitals_that_agree_have_no_variance_between_them():
    summary = next_hospital([(0.8, 0.05)] * 4)
    assert summary.between == 0.0
    assert summary.mean == pytest.approx(0.8)


def test_a_prediction_interval_holds_the_next_hospital_as_often_as_it_says():
    """400 draws of six hospitals and a seventh; half as wide an interval fails the same test."""
    draw, held, held_by_half = np.random.default_rng(5), 0, 0
    for _ in range(400):
        odds = 1.2 + 0.5 * draw.normal(size=7)
        errors = draw.uniform(0.1, 0.3, 6)
        seen = 1 / (1 + np.exp(-(odds[:6] + errors * draw.normal(size=6))))
        summary = next_hospital([(v, e * v * (1 - v)) for v, e in zip(seen, errors, strict=True)])
        low, high = (math.log(end / (1 - end)) for end in summary.prediction)
        held += low <= odds[6] <= high
        held_by_half += abs(odds[6] - (low + high) / 2) <= (high - low) / 4
    assert 0.92 <= held / 400 <= 0.985
    assert held_by_half / 400 < 0.9


@pytest.mark.parametrize("found", [[], [(0.8, 0.1)] * 2, [(0.8, 0.1), (0.9, 0.1), (1.0, 0.0)]])
def test_two_hospitals_say_nothing_about_a_third(found):
    assert next_hospital(found) is None


def test_what_is_not_available_is_na_and_has_no_mark(small):
    found = gathered(small, "privacy.mechanism=none")
    sites = found.sites()
    sick = {
        name: dataclasses.replace(
            site, held_out=dataclasses.replace(site.held_out, labels=site.held_out.labels * 0 + 1)
        )
        for name, site in sites.items()
    }
    result = compared(found.plan, [score(found.plan, sick, Way.FEDERATED, seeded("x"))])
    assert result.lines[0].whole.value is None
    assert result.next_hospital is None
    picture = ET.fromstring(forest(result))
    assert "NA" in [element.text for element in picture.iter()]
    assert [element for element in picture.iter() if element.tag.endswith("circle")] == []
    assert "not available" in page(result)
