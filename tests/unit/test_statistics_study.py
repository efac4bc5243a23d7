"""What a study may ask of the patients in numbers, and what both sides make of it."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from tests.support.hospitals import study_json
from tests.unit.test_specs import COMMON, MODEL, ROSTER

from wardround.errors import BadInput, ProtocolViolation, RefusedByBudget
from wardround.masking.quantise import largest_limit
from wardround.masking.round_spec import Purpose, RoundSpec
from wardround.privacy.accounting import epsilon_spent, gaussian_count_noise
from wardround.privacy.engine import StatisticsEngine, parse_engine
from wardround.privacy.mechanism import SampledGaussian
from wardround.protocol.halves import model_digest
from wardround.protocol.specs import (
    attempt_spec,
    check_spec,
    check_training,
    standardised_spec,
    statistics_layout,
    statistics_noise_lanes,
    statistics_share_of,
    statistics_spec,
)
from wardround.statistics.cells import ONE
from wardround.statistics.noise import deviation_of_sum
from wardround.statistics.released import ReleasedStatistics
from wardround.statistics.scaling import LEAST_SPREAD, standardisations
from wardround.study.files import checked
from wardround.study.manifest import Study, StudyPlan
from wardround_client.attempt_record import AttemptRecord
from wardround_client.cli.review import in_words
from wardround_client.ledger import Purpose as Charged
from wardround_client.ledger import Release
from wardround_client.ledger.budget import check_fits, epsilon_of
from wardround_client.plans import planned_release
from wardround_client.policy import DEFAULT_POLICY, Policy, check_study
from wardround_client.remaining import evaluation_left, statistics_left, training_left
from wardround_client.restored import LoggedAttempt

DELTA = 1e-4


def study(**changes):
    return checked(Study, study_json(roster=ROSTER, **changes), what="study")


def counting(**changes):
    return study(statistics={"epsilon": 1.0} | changes)


def scaling(**changes):
    return study(statistics={"epsilon": 1.0, "standardise": True}, **changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rounds__count": 0}, "rounds.count 0"),
        ({"statistics": {"epsilon": 1.0, "columns": ["weight"]}}, "weight is no column"),
        (
            {"statistics": {"epsilon": 1.0, "standardise": True}, "rounds__count": 0},
            "without a round",
        ),
        ({"statistics": {"epsilon": 1.0, "standardise": True, "columns": ["male"]}}, "standardise"),
        (
            {
                "statistics": {"epsilon": 1.0},
                "privacy__mechanism": "none",
                "privacy__epsilon": None,
                "privacy__delta": None,
            },
            "privacy.delta",
        ),
        ({"statistics": {"epsilon": 1.0, "bins": 1}}, "bins"),
        ({"statistics": {}}, "epsilon"),
        ({"statistics": {"epsilon": 1.0, "quantiles": [0.5]}}, "quantiles"),
    ],
)
def test_a_section_that_does_not_fit_the_study_is_refused(changes, says):
    with pytest.raises(BadInput, match=says.replace(".", r"\.")):
        study(**changes)


def test_a_study_may_count_only_and_then_covers_no_training():
    only = study(statistics={"epsilon": 1.0}, rounds__count=0)
    assert (only.attempts, only.noise_multiplier()) == (0, 0.0)
    with pytest.raises(ProtocolViolation, match="round 1 came, the study has 0"):
        attempt_spec(only, round_number=0, **COMMON)
    assert statistics_spec(only, **COMMON).purpose is Purpose.STATISTICS


@pytest.mark.parametrize("attempts", [1, 3])
def test_epsilon_is_a_ceiling_over_all_attempts(attempts):
    one = counting(attempts=attempts).release_of_statistics()
    assert (one.sampling_rate, one.steps) == (1.0, 1)
    spent = epsilon_spent([one] * attempts, delta=DELTA)
    assert 0.999 < spent <= 1.0
    if attempts == 1:
        assert one.noise_multiplier == gaussian_count_noise(1.0, DELTA)


def test_the_spec_of_statistics_is_their_layout_and_anything_else_is_named():
    one = counting()
    spec = statistics_spec(one, **COMMON)
    assert spec.lanes == statistics_layout(one).lanes
    assert (spec.round, spec.scale, spec.limit) == (0, 1.0, largest_limit(3))
    assert RoundSpec.from_json(spec.to_json()) == spec
    check_spec(spec, one, MODEL)
    for field, value in (("lanes", 9), ("scale", 2.0), ("round", 1), ("limit", 5)):
        with pytest.raises(ProtocolViolation, match=field):
            check_spec(replace(spec, **{field: value}), one, MODEL)
    with pytest.raises(ProtocolViolation, match="asks for none"):
        check_spec(spec, study(), MODEL)


def released(one, shift=0):
    layout = statistics_layout(one)
    return ReleasedStatistics(layout, np.full(layout.lanes, 90_000) + shift, 3, 3)


def test_a_scaled_round_is_bound_to_the_statistics_that_scale_it():
    one = scaling()
    plain = attempt_spec(one, round_number=0, **COMMON)
    first, other = released(one), released(one, shift=1)
    bound = standardised_spec(plain, one, MODEL, first)
    parameters = MODEL.astype("<f4").tobytes()
    due = hashlib.sha256(parameters + bytes.fromhex(first.digest)).hexdigest()
    assert bound.model_digest == model_digest(MODEL, first) == due
    check_spec(bound, one, MODEL, first)
    for wrong in (other, None):
        with pytest.raises(ProtocolViolation):
            check_spec(bound, one, MODEL, wrong)
    with pytest.raises(ProtocolViolation, match="model_digest"):
        check_spec(plain, one, MODEL, first)
    with pytest.raises(ProtocolViolation, match="standardises"):
        standardised_spec(plain, counting(), MODEL, first)
    with pytest.raises(ProtocolViolation, match="before they were asked"):
        check_spec(statistics_spec(one, **COMMON), one, MODEL, first)


def test_shares_count_on_all_hospitals_but_the_colluders_under_distributed_only():
    shared = study(statistics={"epsilon": 1.0}, privacy__mechanism="distributed")
    assert statistics_share_of(shared, 3).honest == 2
    assert statistics_share_of(counting(), 3).honest == 1
    ratio = statistics_share_of(counting(), 3).variance / statistics_share_of(shared, 3).variance
    assert ratio == pytest.approx(2.0, rel=1e-3)


def test_statistics_whose_noise_the_lanes_cannot_hold_are_refused_with_the_roster():
    loud = study(statistics={"epsilon": 1e-4})
    with pytest.raises(BadInput, match=r"larger statistics\.epsilon"):
        check_training(loud, most_hospitals=1000, lanes=3)
    check_training(counting(), most_hospitals=30, lanes=3)


def test_the_engine_of_statistics_is_charged_by_what_it_says_and_read_strictly():
    share = statistics_share_of(counting(), 3)
    engine = StatisticsEngine(
        share_variance=share.variance,
        sensitivity_lanes=share.sensitivity_lanes,
        honest=share.honest,
    )
    assert parse_engine(engine.body()) == engine
    assert engine.released == SampledGaussian(engine.noise_multiplier, 1.0, 1)
    assert engine.noise_multiplier >= counting().statistics_noise()
    for wrong in (
        {"share_variance": 0},
        {"honest": 0},
        {"sensitivity_lanes": 0.0},
        {"noise_multiplier": 4.0},
        {"share_variance": 1.5},
    ):
        with pytest.raises(BadInput, match="engine"):
            parse_engine(engine.body() | wrong)


def release(one, purpose=Charged.STATISTICS, mechanism=None):
    return Release(
        id="ab" * 8,
        study_digest=one.digest,
        run="1" * 32,
        purpose=purpose,
        transcript="2" * 64,
        reserved=mechanism or one.release_of_statistics(),
        done=None,
        unit="patient",
        units=40,
        split="fever 0.250000",
        reserved_at="2026-01-01T00:00:00Z",
        sent_at=None,
    )


def test_what_is_left_of_the_statistics_counts_every_charged_attempt_of_this_study():
    one, other = counting(attempts=2), study(statistics={"epsilon": 2.0})
    assert len(statistics_left(one, ())) == 2
    assert len(statistics_left(one, [release(one)])) == 1
    assert len(statistics_left(one, [release(one)] * 3)) == 0
    assert len(statistics_left(one, [release(other)])) == 2
    assert len(statistics_left(one, [release(one, Charged.TRAIN)])) == 2
    assert statistics_left(study(), ()) == []
    only = study(statistics={"epsilon": 1.0}, rounds__count=0)
    assert (training_left(only, ()), evaluation_left(only, ())) == ([], [])


def test_statistics_are_added_to_training_and_to_held_out_patients_alike():
    one = counting()
    counted, trained = one.release_of_statistics(), one.release_of_one_attempt()
    loud = SampledGaussian(1.0, 1.0, 1)
    alone = epsilon_spent([counted], delta=DELTA)
    assert epsilon_of([release(one)], delta=DELTA) == pytest.approx(alone)
    both = epsilon_of([release(one)], delta=DELTA, training=[trained], evaluation=[loud])
    assert both == pytest.approx(epsilon_spent([counted, loud], delta=DELTA))
    planned = epsilon_of((), delta=DELTA, training=[trained], statistics=[counted])
    assert planned == pytest.approx(epsilon_spent([counted, trained], delta=DELTA))


def test_a_study_that_only_counts_is_told_the_epsilon_that_would_fit():
    counted = study(statistics={"epsilon": 6.0}, rounds__count=0).release_of_statistics()
    with pytest.raises(RefusedByBudget) as refused:
        check_fits((), (), (), statistics=[counted], split="s 0.2", budget_epsilon=2.0, delta=DELTA)
    assert 1.98 < refused.value.epsilon_that_fits <= 2.0


def test_the_ledger_reserves_one_release_over_everybody():
    one = counting()
    spec = statistics_spec(one, **COMMON)
    assert planned_release(one, spec) == SampledGaussian(one.statistics_noise(), 1.0, 1)


class Home:
    """A directory that remembers attempts."""

    def __init__(self, folder):
        self.folder = folder

    def attempt_file(self, digest):
        return self.folder / digest


def test_statistics_come_before_the_first_round_in_what_a_hospital_remembers(tmp_path):
    one = study(statistics={"epsilon": 1.0, "attempts": 2}, evaluation__counts="exact")
    record = AttemptRecord(Home(tmp_path), one)
    spec = statistics_spec(one, **COMMON)
    record.check(spec)
    record.begin(spec, LoggedAttempt())
    with pytest.raises(Exception, match="was answered"):
        record.check(spec)
    record.check(replace(spec, attempt=2))
    training = attempt_spec(one, round_number=0, **COMMON)
    record.check(training)
    record.begin(training, LoggedAttempt())
    with pytest.raises(Exception, match="was answered"):
        record.check(replace(spec, attempt=2))


def test_a_sum_that_lost_a_hospital_has_fewer_shares_of_the_same_size():
    """Shares are made for who was asked; nine of which seven remain, and five may collude."""
    one = checked(
        Study,
        study_json(
            statistics={"epsilon": 1.0},
            privacy__mechanism="distributed",
            privacy__colluders=4,
            masking__minimum_hospitals=5,
            rounds__quorum=5,
            roster=[{"name": f"h{n}", "fingerprint": f"{n}" * 64} for n in range(9)],
        ),
        what="study",
    )
    layout = statistics_layout(one)
    sums = np.zeros(layout.lanes, dtype=np.int64)
    share = statistics_share_of(one, 9)
    for hospitals in (9, 7):
        released = ReleasedStatistics(layout, sums, hospitals, 9)
        due = np.sqrt(hospitals * share.variance)
        assert statistics_noise_lanes(one, released) == pytest.approx(due)
    with pytest.raises(BadInput):  # asked of seven, four colluders would open two sets
        statistics_share_of(one, 7)


def test_a_scale_is_the_released_mean_and_deviation_and_is_kept_from_exploding():
    one = scaling()
    layout = statistics_layout(one)
    noise = deviation_of_sum(statistics_share_of(one, 3), 3)
    patients = int(40 * noise / ONE)
    sums = np.zeros(layout.lanes, dtype=np.int64)
    sums[0] = patients * ONE
    ((_, age),) = [placed for placed in layout.placed() if placed[0].name == "age"]
    sums[age.start] = int(0.5 * patients * ONE)
    sums[age.start + 1] = int((0.25 + 0.16 - 0.5) * patients * ONE)
    (scale,) = standardisations(ReleasedStatistics(layout, sums, 3, 3), noise)
    assert (scale.centre, scale.spread, scale.released) == (
        pytest.approx(0.5, abs=1e-3),
        pytest.approx(0.4, abs=1e-3),
        True,
    )
    sums[age.start + 1] = int((0.25 - 0.5) * patients * ONE)
    (flat,) = standardisations(ReleasedStatistics(layout, sums, 3, 3), noise)
    assert flat.spread == LEAST_SPREAD
    sums[0] = ONE
    (drowned,) = standardisations(ReleasedStatistics(layout, sums, 3, 3), noise)
    assert (drowned.centre, drowned.spread, drowned.released) == (0.0, 1.0, False)


def test_an_officer_is_told_what_is_counted_and_at_which_price():
    text = in_words(
        study(
            statistics={
                "epsilon": 0.3,
                "attempts": 2,
                "standardise": True,
                "cohort": [{"name": "old", "conditions": [{"column": "age", "range": [60, 100]}]}],
            }
        )
    )
    for words in ("epsilon 0.3 in all", "at most 2 attempts", "age, male, cohort old", "scale the"):
        assert words in text
    assert "statistics  none" in in_words(study())


def test_an_officer_reads_when_a_sum_opens():
    assert "masks       double-mask: a sum opens when more than two thirds" in in_words(study())
    shared = study(privacy__mechanism="distributed", masking__profile="one-trip")
    assert "masks       one-trip: a sum opens only with all that were asked" in in_words(shared)


def test_a_study_that_evaluates_nothing_opens_no_counts_that_a_policy_could_forbid():
    strict = Policy.model_validate(
        {
            "epsilon_budget": 10.0,
            "delta_max": 1e-3,
            "mechanisms": ["local"],
            "minimum_hospitals": 2,
            "allow_exact_evaluation": False,
        }
    )
    check_study(strict, study(statistics={"epsilon": 1.0}, rounds__count=0))
    with pytest.raises(Exception, match="noised counts only"):
        check_study(strict, counting())
    assert "epsilon_budget" in DEFAULT_POLICY


def test_the_schema_of_a_study_holds_the_section():
    names = StudyPlan.model_json_schema(by_alias=True)["$defs"]
    assert {"StatisticsPlan", "PatientCohort", "Condition"} <= set(names)
