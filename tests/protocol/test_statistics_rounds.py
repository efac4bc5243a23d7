"""Statistics over the real path: the coordinator's loop, hospitals in memory, the audit."""

from math import sqrt

import numpy as np
import pandas as pd
import pytest
from tests.support.hospitals import LANES, NAMES, RUN, Ward
from tests.support.memory_runs import Federation, when

from wardround.audit.bundle import write_bundle
from wardround.audit.verify import verify_bundle
from wardround.errors import QuorumMissed
from wardround.protocol.envelope import unseal
from wardround.protocol.halves import model_digest
from wardround.protocol.messages import Refusal, RefusalCode, Update, Work
from wardround.protocol.specs import (
    standardised_spec,
    statistics_layout,
    statistics_noise_lanes,
    statistics_share_of,
    statistics_spec,
)
from wardround.statistics.released import ReleasedStatistics
from wardround.statistics.scaling import standardisations
from wardround.statistics.tally import tally
from wardround_client.ledger import Purpose as Charged
from wardround_server.rounds.closing import RunCloser
from wardround_server.rounds.post import Post
from wardround_server.rounds.record import RunRecord

HARBOUR, LAKESIDE, NORTHSIDE = NAMES
COUNTS = {"epsilon": 1.0}
SCALES = {"epsilon": 3.0, "standardise": True}
MANY = 400


def write_many(path, seed):
    """Enough patients that the noise leaves a spread to be stated."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "id": [f"p{number}" for number in range(MANY)],
            "age": np.clip(random.normal(60, 12, MANY), 0, 100).round(1),
            "male": random.integers(0, 2, MANY),
            "fever": random.integers(0, 2, MANY),
        }
    )
    table.to_csv(path, index=False)


@pytest.fixture
def ward(tmp_path):
    with Ward.holding(tmp_path, write_many) as ward:
        yield ward


def rows_of(ward, name):
    return ward[name].hospital.sessions[RUN].records.rows


def releases(ward, name, purpose):
    ledger = ward[name].hospital.sessions[RUN].ledger
    return [release for release in ledger.releases() if release.purpose is purpose]


def closed(federation, run, model, session):
    record = RunRecord(federation.study, RUN, federation.log, federation.status)
    identity = federation.ward.coordinator.identity()
    record.closed(federation.study.rounds.count, model_digest(model, run.scale))
    closer = RunCloser(
        Post(federation.grid, lanes=LANES),
        record,
        federation.ward.signed(federation.study),
        identity.public_key,
        federation.ward.identity_keys,
    )
    evidence = closer.close(
        session, model if federation.study.rounds.count else None, deadline_s=5.0
    )
    path = federation.ward.folder / "bundle.zip"
    return write_bundle(path, evidence, identity=identity), verify_bundle(path)


def in_statistics(attempt=1):
    return lambda body: (
        isinstance(body, Work)
        and (body.spec["purpose"], body.spec["attempt"]) == ("statistics", attempt)
    )


@pytest.mark.parametrize("mechanism", ["local", "distributed"])
def test_the_opened_sums_are_the_patients_with_the_noise_that_is_due(ward, mechanism):
    federation = Federation(ward, rounds__count=0, statistics=COUNTS, privacy__mechanism=mechanism)
    run = federation.run()
    model, session = run.train_and_evaluate()
    layout = statistics_layout(federation.study)
    exact = sum(tally(rows_of(ward, name), layout).values for name in NAMES)
    assert exact[0] == 3 * MANY * 256
    (opened,) = federation.entries("statistics-closed")
    share = statistics_share_of(federation.study, 3)
    assert share.honest == (2 if mechanism == "distributed" else 1)
    noise = np.array(opened["sums"]) - exact
    z = noise / sqrt(3 * share.variance)
    # Twenty draws of the system's noise: bounds that one run in a million misses.
    assert 0.3 < z.std() < 2.0
    assert np.abs(z).max() < 6
    for name in NAMES:
        (release,) = releases(ward, name, Charged.STATISTICS)
        assert release.units == MANY
        assert release.reserved.sampling_rate == 1.0
        assert release.done.noise_multiplier >= federation.study.statistics_noise()
    report, verdicts = closed(federation, run, model, session)
    assert verdicts.ok, verdicts.lines()
    assert report["statistics"]["estimates"]["patients"]["value"] == pytest.approx(
        3 * MANY, abs=5 * sqrt(3 * share.variance) / 256
    )
    assert report["guarantee"]["epsilon"]["value"] <= 1.0
    assert report["participation"]["verdict"] == "everybody"
    assert report["evaluation"]["metrics"] is None


def test_a_study_that_standardises_trains_on_the_released_scale_and_verifies(ward):
    federation = Federation(ward, statistics=SCALES)
    run = federation.run()
    model, session = run.train_and_evaluate()
    assert run.scale is not None
    noise = statistics_noise_lanes(federation.study, run.scale)
    (scale,) = standardisations(run.scale, noise)
    assert scale.released
    assert (scale.centre, scale.spread) == pytest.approx((0.2, 0.24), abs=0.05)
    for name in NAMES:
        records = ward[name].hospital.sessions[RUN].records
        age = np.concatenate([records.train.features[:, 0], records.held_out.features[:, 0]])
        raw = rows_of(ward, name).numbers["age"] / 50 - 1
        np.testing.assert_allclose(
            np.sort(age), np.sort((raw - scale.centre) / scale.spread), rtol=1e-4, atol=1e-5
        )
        others = np.concatenate([records.train.features[:, 1], records.held_out.features[:, 1]])
        assert set(others.tolist()) == {-1.0, 1.0}
        groups = {release.purpose for release in federation_releases(ward, name)}
        assert groups == {Charged.STATISTICS, Charged.TRAIN, Charged.EVALUATE}
    opened = federation.entries("round-opened")
    plain = [model_digest(np.zeros(3, np.float32))]
    assert opened[0]["spec"]["purpose"] == "statistics"
    assert [opened[0]["spec"]["model_digest"]] == plain
    assert opened[1]["spec"]["model_digest"] not in plain
    report, verdicts = closed(federation, run, model, session)
    assert verdicts.ok, verdicts.lines()
    (hazard,) = [hazard for hazard in report["hazards"] if hazard["id"] == "preprocessing"]
    assert hazard["status"] == "PASS"
    assert "charged to every patient" in hazard["finding"]
    assert report["statistics"]["scales"][0]["column"] == "age"
    hospital = report["guarantee"]["hospitals"][0]
    alone = report["statistics"]["epsilon"]["value"]
    assert hospital["epsilon"]["value"] > alone > 2.9


def federation_releases(ward, name):
    return ward[name].hospital.sessions[RUN].ledger.releases()


def test_a_hospital_that_leaves_costs_an_attempt_and_the_others_go_on(ward):
    def leave(_answer):
        federation.grid.gone.add(NORTHSIDE)

    federation = Federation(
        ward,
        when(in_statistics(), leave),
        rounds__count=0,
        statistics=COUNTS | {"attempts": 2},
    )
    run = federation.run()
    model, session = run.train_and_evaluate()
    cohorts = [body["spec"]["cohort"] for body in federation.entries("round-opened")]
    assert cohorts == [list(NAMES), [HARBOUR, LAKESIDE]]
    assert len(releases(ward, HARBOUR, Charged.STATISTICS)) == 2
    report, verdicts = closed(federation, run, model, session)
    assert verdicts.ok, verdicts.lines()
    assert report["statistics"]["hospitals"] == [HARBOUR, LAKESIDE]
    assert 0.9 < report["statistics"]["epsilon"]["value"] <= 1.0
    spent = ward[HARBOUR].hospital.sessions[RUN].ledger.spent(1e-4)
    assert 0.9 < spent <= 1.0


def test_a_hospital_that_is_back_at_once_is_in_the_next_attempt(ward):
    federation = Federation(
        ward,
        when(in_statistics(), lambda _: federation.grid.come_back(NORTHSIDE)),
        rounds__count=0,
        statistics=COUNTS | {"attempts": 2},
    )
    federation.run().train_and_evaluate()
    assert federation.cohorts() == [list(NAMES)] * 2
    assert len({body["session"] for body in federation.entries("hospital-joined")}) == 2
    assert federation.survivors() == [list(NAMES)]


@pytest.mark.parametrize(
    "changes", [{"rounds__count": 0, "statistics": COUNTS}, {"statistics": SCALES}]
)
def test_a_study_that_needs_its_statistics_ends_when_their_attempts_are_spent(ward, changes):
    federation = Federation(ward, when(in_statistics(), lambda _: None), **changes)
    with pytest.raises(QuorumMissed, match="statistics: 1 attempts are spent"):
        federation.run().train_and_evaluate()
    again = federation.run()
    with pytest.raises(QuorumMissed, match="attempts are spent"):
        again.train_and_evaluate()
    assert len(releases(ward, HARBOUR, Charged.STATISTICS)) == 1


def test_a_study_that_only_looks_at_its_statistics_goes_on_without_them(ward):
    federation = Federation(ward, when(in_statistics(), lambda _: None), statistics=COUNTS)
    run = federation.run()
    model, session = run.train_and_evaluate()
    report, verdicts = closed(federation, run, model, session)
    assert verdicts.ok, verdicts.lines()
    assert report["statistics"]["estimates"] is None
    assert len(federation.entries("round-closed")) == 2


def test_a_coordinator_that_was_stopped_uses_the_statistics_in_its_log(ward):
    federation = Federation(ward, statistics=SCALES)
    run = federation.run()
    run.train_and_evaluate()
    again = federation.run()
    again.train_and_evaluate()
    assert again.scale.digest == run.scale.digest
    assert len(federation.entries("statistics-closed")) == 1


def test_a_budget_that_does_not_hold_the_statistics_refuses_before_a_record_is_read(ward):
    study = ward.study(statistics={"epsilon": 9.0})
    ward.approve_everywhere(study)
    ward[HARBOUR].set_policy(epsilon_budget="9.5")
    ward[LAKESIDE].set_policy(epsilon_budget="12.0")
    talk = ward.talk(statistics={"epsilon": 9.0}, title="the same with another digest")
    (ward[HARBOUR].data / "patients.csv").unlink()
    answer, _ = ward[HARBOUR].ask(talk.open_message())
    assert isinstance(answer, Refusal)
    assert answer.code is RefusalCode.BUDGET
    assert answer.epsilon_that_fits < 3.0
    joined, _ = ward[LAKESIDE].ask(talk.open_message())
    assert joined.epsilon_planned > 9.0


class Bent:
    """A coordinator that follows no rule, with hospitals that have joined a study that scales."""

    def __init__(self, ward, **changes):
        self.ward = ward
        self.talk = ward.talk(statistics=SCALES | changes).open()
        self.layout = statistics_layout(self.talk.study)

    def spec(self, attempt=1, **changes):
        common = {
            "run": RUN,
            "session": self.talk.session,
            "attempt": attempt,
            "cohort": tuple(sorted(NAMES)),
            "directory_digest": self.talk.directory.digest,
            "model": self.talk.model,
        }
        return statistics_spec(self.talk.study, **common | changes)

    def ask(self, spec, statistics=None, name=HARBOUR):
        work = self.talk.work(spec, statistics=statistics)
        answer, _ = self.ward[name].ask(work, self.talk.model)
        return answer

    def released(self, shift=0):
        sums = np.arange(self.layout.lanes, dtype=np.int64) * 1000 + 400_000 + shift
        return ReleasedStatistics(self.layout, sums, 3, 3)

    def scaled(self, released, number=0):
        return standardised_spec(self.talk.spec(number), self.talk.study, self.talk.model, released)


@pytest.fixture
def bent(ward):
    return Bent(ward)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """One session for what is refused before anything is written: the tests can share it."""
    ward = Ward.make(tmp_path_factory.mktemp("ward"))
    yield Bent(ward)
    ward.close()


def test_a_statistics_attempt_is_answered_once(bent):
    assert isinstance(bent.ask(bent.spec()), Update)
    again = bent.ask(bent.spec())
    assert again.code is RefusalCode.REPLAY


def test_a_second_attempt_that_no_epsilon_covers_is_refused(bent):
    assert isinstance(bent.ask(bent.spec()), Update)
    assert bent.ask(bent.spec(attempt=2)).code is RefusalCode.BUDGET
    assert len(releases(bent.ward, HARBOUR, Charged.STATISTICS)) == 1


def test_statistics_after_training_are_refused(bent):
    released = bent.released()
    assert isinstance(bent.ask(bent.scaled(released), released.to_json()), Update)
    assert bent.ask(bent.spec()).code is RefusalCode.REPLAY
    assert releases(bent.ward, HARBOUR, Charged.STATISTICS) == []


@pytest.mark.parametrize(
    "change", [{"lanes": 7}, {"limit": 9}, {"scale": 2.0}, {"round": 1}, {"model_digest": "9" * 64}]
)
def test_a_statistics_spec_that_differs_from_the_study_is_refused(asked, change):
    assert asked.ask(asked.spec().to_json() | change).code is RefusalCode.SPEC


def test_a_study_without_statistics_refuses_to_count(ward):
    talk = ward.talk().open()
    spec = talk.spec().to_json() | {"purpose": "statistics"}
    answer, _ = ward[HARBOUR].ask(talk.work(spec), talk.model)
    assert answer.code is RefusalCode.SPEC
    assert rows_of(ward, HARBOUR) is None


def test_training_without_the_statistics_that_scale_it_is_refused(asked):
    assert asked.ask(asked.talk.spec()).code is RefusalCode.SPEC


def test_training_on_other_statistics_than_those_in_the_spec_is_refused(asked):
    spec = asked.scaled(asked.released())
    assert asked.ask(spec, asked.released(shift=256).to_json()).code is RefusalCode.SPEC
    assert asked.ask(spec, {"hospitals": 3, "asked": 3, "sums": [1]}).code is RefusalCode.SPEC


def test_other_statistics_later_in_a_session_are_refused(bent):
    first, other = bent.released(), bent.released(shift=256)
    assert isinstance(bent.ask(bent.scaled(first), first.to_json()), Update)
    assert bent.ask(bent.scaled(other, number=1), other.to_json()).code is RefusalCode.SPEC
    assert isinstance(bent.ask(bent.scaled(first, number=1), first.to_json()), Update)


def test_hospitals_that_were_given_other_statistics_do_not_cancel(asked):
    """What each scales by is inside its masks: the sum of two stories stays uniform."""
    first, other = asked.scaled(asked.released()), asked.scaled(asked.released(shift=256))
    assert first.transcript() != other.transcript()


def test_statistics_that_a_study_does_not_ask_for_are_refused(ward):
    talk = ward.talk(statistics=COUNTS).open()
    layout = statistics_layout(talk.study)
    released = ReleasedStatistics(layout, np.zeros(layout.lanes, dtype=np.int64), 3, 3)
    answer, _ = ward[HARBOUR].ask(talk.work(talk.spec(), statistics=released.to_json()), talk.model)
    assert answer.code is RefusalCode.SPEC


def test_a_log_with_other_sums_than_those_a_hospital_used_is_not_countersigned(ward):
    federation = Federation(ward, statistics=SCALES)
    run = federation.run()
    model, session = run.train_and_evaluate()
    real = run.scale
    other = ReleasedStatistics(real.layout, real.sums + 1, real.hospitals, real.asked)
    hospital = ward[HARBOUR].hospital.sessions[RUN]
    hospital.released = other
    report, _ = closed(federation, run, model, session)
    (missed,) = federation.entries("hospital-missed")
    assert (missed["hospital"], "did not countersign" in missed["reason"]) == (HARBOUR, True)
    assert report["without_log"] == [HARBOUR]
    kind, _ = ward[HARBOUR].log_entries(federation.study)[-1]
    assert kind != "run-ended"


def test_the_vector_that_travels_is_not_the_one_that_is_summed(ward):
    federation = Federation(ward, rounds__count=0, statistics=COUNTS)
    federation.run().train_and_evaluate()
    layout = statistics_layout(federation.study)
    for name, content in federation.grid.received:
        _, vector = unseal(content, lanes=LANES)
        if vector is None:
            continue
        exact = tally(rows_of(ward, name), layout).values
        assert np.abs(vector.view(np.int32) - exact).min() > 1000
