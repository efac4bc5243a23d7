"""Random schedules of losses, restarts and junk over whole runs: what opens is always right."""

import numpy as np
import pytest
from tests.support.hospitals import LANES, Ward
from tests.support.memory_grid import Late
from tests.support.memory_runs import Federation, PlainLanes

from wardround.errors import QuorumMissed, Refused
from wardround.protocol.envelope import seal, unseal
from wardround.protocol.messages import Agree, Close, Failed, Keyed, Keys, Open

SEVEN = ("alpha", "beta", "delta", "epsilon", "eta", "gamma", "iota")
SEEDS = [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))]


class Chance:
    """What becomes of each answer, drawn from a seed; printed, so that a failure can be read."""

    def __init__(self, seed):
        self._random = np.random.default_rng(seed)
        self.happened = []
        self.federation = None

    def __call__(self, name, question, answer):
        body, _ = unseal(question, lanes=LANES)
        if isinstance(body, Open | Close):
            return answer
        bends = [self._silent, self._gone, self._restarted, self._junk, self._late]
        bend = bends[self._random.choice(len(bends), p=[0.25, 0.1, 0.25, 0.15, 0.25])]
        # A session has two questions for each hospital, and begins anew when one fails.
        if self._random.random() > (0.03 if isinstance(body, Agree | Keys) else 0.12):
            return answer
        self.happened.append((name, type(body).__name__, bend.__name__))
        print(self.happened[-1])
        return bend(name, answer)

    def _silent(self, _name, _answer):
        return None

    def _gone(self, name, _answer):
        self.federation.grid.gone.add(name)

    def _restarted(self, name, _answer):
        self.federation.grid.come_back(name)

    def _junk(self, name, _answer):
        failed = self._random.random() < 0.5
        return seal(Failed(error="KeyError") if failed else Keyed(hospital=name))

    def _late(self, _name, answer):
        return Late(answer, after_s=float(self._random.choice([0.05, 30.0])))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mechanism", ["local", "none"])
def test_whatever_hospitals_do_every_opened_sum_is_that_of_whom_the_log_names(
    tmp_path, monkeypatch, seed, mechanism
):
    ward, plain, chance = Ward.make(tmp_path, SEVEN), PlainLanes(monkeypatch), Chance(seed)
    federation = chance.federation = Federation(
        ward,
        chance,
        privacy__mechanism=mechanism,
        rounds__count=3,
        rounds__spare_attempts=3,
        rounds__deadline_s=1.0,
    )
    try:
        model, session = federation.run().train_and_evaluate()
    except (QuorumMissed, Refused) as error:
        print(error)
    else:
        assert len(federation.close(model, session).hospitals) >= federation.study.rounds.quorum
    opened = plain.check(federation)
    assert opened == len(federation.survivors())
    for body in federation.entries("survivors-agreed"):
        spec = specs(federation)[body["transcript"]]
        assert set(body["survivors"]) <= set(spec["cohort"])
        assert len(body["survivors"]) >= len(body["signatures"]) >= spec["threshold"]
    check_one_opening(federation, mechanism)
    ward.close()


def specs(federation):
    return {body["transcript"]: body["spec"] for body in federation.entries("round-opened")}


def check_one_opening(federation, mechanism):
    """No round is closed twice; without noise no attempt follows one that somebody signed."""
    rounds = [
        specs(federation)[body["transcript"]]["round"]
        for kind in ("round-closed", "evaluation-closed")
        for body in federation.entries(kind)
    ]
    assert len(set(rounds)) == len(rounds)
    if mechanism == "local":
        return
    signed = {
        body["transcript"]
        for hospital in federation.ward.hospitals.values()
        for kind, body in hospital.log_entries(federation.study)
        if kind == "survivors-signed"
    }
    last = {}
    for transcript, spec in specs(federation).items():
        assert last.get(spec["round"]) not in signed
        last[spec["round"]] = transcript
