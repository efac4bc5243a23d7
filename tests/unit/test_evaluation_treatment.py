"""What choosing a treatment would do, from counts: statsmodels on the patients says the same."""

import math

import numpy as np
import pytest
import statsmodels.api as sm

from wardround.errors import BadInput
from wardround.evaluation.binary import BinaryLayout
from wardround.evaluation.histograms import CountsLayout, CountsMode
from wardround.evaluation.layout import Outcomes, pooled_noise_sd, read_lanes
from wardround.evaluation.treatment import TreatmentLayout, benefit_of, difference
from wardround.study.treatment import Treatment

PLAN = Treatment(
    column="drug",
    treated="drug",
    untreated="placebo",
    probability=0.4,
    assignment="randomised",
    protocol="two to three, by a public protocol",
    edges=(0.0, 0.1),
    worth=0.0,
)
EXACT = BinaryLayout(CountsLayout(mode=CountsMode.EXACT, bins=100), 0.5)
NOISED = BinaryLayout(CountsLayout(mode=CountsMode.NOISED, bins=10), 0.5)
LAYOUT = TreatmentLayout(whole=EXACT, plan=PLAN)


def trial(seed: int, count: int, plan: Treatment = PLAN) -> Outcomes:
    """A trial in which treatment helps one half of the patients and harms the other."""
    random = np.random.default_rng(seed)
    kind = random.random(count)
    treated = (random.random(count) < plan.probability).astype(np.int64)
    risks = np.stack([0.2 + 0.4 * kind, 0.5 - 0.2 * kind], axis=1)
    truth = (random.random(count) < risks[np.arange(count), treated]).astype(float)
    said = np.clip(risks + 0.05 * random.normal(size=(count, 1)), 0, 1)
    outputs = said[np.arange(count), treated][:, None]
    return Outcomes(truth, outputs, treated=treated, arms=said)


def read(layout: TreatmentLayout, outcomes: Outcomes) -> dict:
    lanes = read_lanes(layout.count(outcomes).exact(), layout)
    return layout.metrics(lanes, cell_noise_sd=0.0)


def of_policy(outcomes: Outcomes, wants: np.ndarray) -> tuple[float, float]:
    """Inverse probability weighting by statsmodels: a weighted mean, robust errors."""
    due = np.where(wants, PLAN.probability, 1 - PLAN.probability)
    weights = (outcomes.treated == wants) / due
    kept = weights > 0
    model = sm.WLS(outcomes.truth[kept], np.ones(kept.sum()), weights=weights[kept])
    found = model.fit(cov_type="HC0")
    return float(found.params[0]), float(found.bse[0])


@pytest.mark.parametrize(("seed", "count"), [(1, 300), (2, 5000)])
def test_policies_are_valued_as_weighted_means_of_who_followed_them(seed, count):
    outcomes = trial(seed, count)
    found = read(LAYOUT, outcomes)["treatment"]
    picks = benefit_of(outcomes.arms, PLAN) >= 0
    said = {
        "risk_untreated": (found["risk_untreated"], np.zeros(count)),
        "risk_treated": (found["risk_treated"], np.ones(count)),
        "policy": (found["policy"]["risk"], picks),
    }
    for estimate, wants in said.values():
        value, error = of_policy(outcomes, wants.astype(np.int64))
        assert estimate["value"] == pytest.approx(value, abs=1e-6)
        assert estimate["high"] - estimate["value"] == pytest.approx(1.959964 * error, abs=1e-6)
    assert found["policy"]["treats"] == pytest.approx(picks.mean(), abs=1e-6)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_effect_of_treatment_is_the_difference_of_the_arms(seed):
    outcomes = trial(seed, 400)
    found = read(LAYOUT, outcomes)["treatment"]
    oracle = sm.OLS(outcomes.truth, sm.add_constant(outcomes.treated)).fit(cov_type="HC0")
    assert found["benefit"]["value"] == pytest.approx(-oracle.params[1], abs=1e-6)
    half = 1.959964 * oracle.bse[1]
    assert found["benefit"]["high"] - found["benefit"]["value"] == pytest.approx(half, abs=1e-6)
    benefit = benefit_of(outcomes.arms, PLAN)
    strata = [benefit < 0, (benefit >= 0) & (benefit < 0.1), benefit >= 0.1]
    for said, own in zip(found["strata"], strata, strict=True):
        part = sm.OLS(outcomes.truth[own], sm.add_constant(outcomes.treated[own]))
        fitted = part.fit(cov_type="HC0")
        assert said["standing"] == "shown"
        assert said["untreated"] + said["treated"] == own.sum()
        assert said["observed"]["value"] == pytest.approx(-fitted.params[1], abs=1e-6)
        width = 1.959964 * fitted.bse[1]
        assert said["observed"]["high"] - said["observed"]["value"] == pytest.approx(
            width, abs=1e-6
        )


def test_differences_of_policies_know_that_the_patients_are_the_same():
    """The intervals hold in 95 of 100 trials: those of differences, too."""
    held = apart = 0
    truth = 0.4 - 0.325  # treating everybody, or the half whom it helps: integrals over the kinds
    for seed in range(200):
        found = read(LAYOUT, trial(seed, 500))["treatment"]
        said = found["policy"]["less_than_treated"]
        held += said["low"] <= truth <= said["high"]
        parts = (found["policy"]["risk"], found["risk_treated"])
        half = math.hypot(*(one["high"] - one["value"] for one in parts))
        apart += abs(said["value"] - truth) <= half
    assert 181 <= held <= 198  # 190 is due, three standard errors
    assert apart > 198  # as if the patients were others each time: far too wide


def test_a_model_that_finds_whom_treatment_helps_beats_both_simple_policies():
    policy = read(LAYOUT, trial(3, 6000))["treatment"]["policy"]
    assert policy["less_than_untreated"]["low"] > 0
    assert policy["less_than_treated"]["low"] > 0
    outcomes = trial(3, 6000)
    random = np.random.default_rng(4).permutation(6000)
    blind = Outcomes(
        outcomes.truth, outcomes.outputs, treated=outcomes.treated, arms=outcomes.arms[random]
    )
    policy = read(LAYOUT, blind)["treatment"]["policy"]
    assert policy["less_than_treated"]["value"] < 0.01


def test_what_is_good_is_counted_the_other_way_round():
    good = PLAN.model_copy(update={"yes_is": "good"})
    outcomes = trial(5, 800)
    turned = Outcomes(
        1 - outcomes.truth, 1 - outcomes.outputs, treated=outcomes.treated, arms=1 - outcomes.arms
    )
    one = read(LAYOUT, outcomes)["treatment"]
    other = read(TreatmentLayout(whole=EXACT, plan=good), turned)["treatment"]
    assert one == other


def test_hospitals_add_up_and_a_table_of_other_patients_is_refused():
    one, other = trial(1, 80), trial(2, 50)
    added = LAYOUT.count(one).lanes + LAYOUT.count(other).lanes
    both = LAYOUT.metrics(read_lanes(added, LAYOUT), cell_noise_sd=0.0)["treatment"]
    assert both["allocation"]["treated"] == one.treated.sum() + other.treated.sum()
    added[-1] += 1
    with pytest.raises(BadInput, match="has other patients"):
        read_lanes(added, LAYOUT)


def test_one_patient_is_in_one_cell_of_the_table_and_noise_is_scaled_by_both():
    layout, outcomes = TreatmentLayout(whole=NOISED, plan=PLAN), trial(1, 40)
    whole, changes = layout.count(outcomes).lanes, set()
    for left in range(40):
        kept = np.arange(40) != left
        parts = (outcomes.truth, outcomes.outputs, outcomes.treated, outcomes.arms)
        truth, outputs, treated, arms = (part[kept] for part in parts)
        less = layout.count(Outcomes(truth, outputs, treated=treated, arms=arms)).lanes
        changes.add(int(((whole - less) ** 2).sum()))
    assert changes == {layout.squared_sensitivity} == {2}
    assert pooled_noise_sd(layout, [3.0]) == pytest.approx(3 * math.sqrt(2 + 1 / 108), rel=1e-3)


def test_noised_tables_are_read_with_their_noise():
    layout, outcomes = TreatmentLayout(whole=NOISED, plan=PLAN), trial(1, 3000)
    raw, sd = layout.count(outcomes), pooled_noise_sd(layout, [4.0])
    exact = layout.metrics(raw.lanes, cell_noise_sd=sd)["treatment"]["benefit"]
    draws = [
        layout.metrics(
            read_lanes(raw.noised(4.0, np.random.default_rng(seed).bytes), layout),
            cell_noise_sd=sd,
        )["treatment"]["benefit"]["value"]
        for seed in range(80)
    ]
    half = (exact["noise_high"] - exact["noise_low"]) / 2
    assert np.std(draws) == pytest.approx(half / 1.96, rel=0.3)


@pytest.mark.parametrize("count", [0, 1, 6])
def test_few_patients_give_no_number_that_they_cannot(count):
    outcomes = trial(1, count)
    arms = np.zeros((count, 2)) if count < 2 else outcomes.arms
    found = read(
        LAYOUT,
        Outcomes(
            outcomes.truth, outcomes.outputs, treated=outcomes.treated, arms=arms.reshape(count, 2)
        ),
    )["treatment"]
    assert all(one["observed"] is None for one in found["strata"])
    assert (found["benefit"] is None) == (len(set(outcomes.treated.tolist())) < 2)
    assert found["allocation"]["contradicts"] is False


def test_arms_that_chance_does_not_give_are_said_to_contradict():
    outcomes = trial(1, 600)
    assert read(LAYOUT, outcomes)["treatment"]["allocation"]["contradicts"] is False
    half = PLAN.model_copy(update={"probability": 0.6})
    found = read(TreatmentLayout(whole=EXACT, plan=half), outcomes)["treatment"]
    assert found["allocation"]["contradicts"] is True


def test_patients_without_arms_are_not_counted():
    outcomes = trial(1, 10)
    with pytest.raises(BadInput, match="which arm each patient was in"):
        LAYOUT.count(Outcomes(outcomes.truth, outcomes.outputs, arms=outcomes.arms))
    with pytest.raises(BadInput, match="in both arms was due"):
        LAYOUT.count(Outcomes(outcomes.truth, outcomes.outputs, treated=outcomes.treated))
    assert difference(np.zeros((1, 2, 2)), np.ones((1, 2)), np.ones((1, 2))) is None
