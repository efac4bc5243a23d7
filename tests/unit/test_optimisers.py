"""The coordinator's step equals the published formulas, written out here once more."""

import numpy as np
import pytest

from wardround.errors import BadInput
from wardround.optimisers import OptimiserState, step
from wardround.study.manifest import ServerOptimiser
from wardround_server.rounds.attempt import Progress
from wardround_server.rounds.checkpoints import Checkpoint, read_checkpoint, write_checkpoint

SIZE, STEPS = 7, 5
PLAN = {"learning_rate": 0.3, "beta_1": 0.8, "beta_2": 0.95, "tau": 0.01}
NAMES = ("fedavg", "fedavgm", "fedadam", "fedyogi")


def updates():
    return np.random.default_rng(4).normal(size=(STEPS, SIZE)).astype(np.float32)


def by_the_formula(name, start, deltas):
    """Reddi et al. 2021, Algorithm 2; Hsu et al. 2019 for FedAvgM. In float64, coordinate-wise."""
    x, m, v = start.astype(float), np.zeros(SIZE), np.full(SIZE, PLAN["tau"] ** 2)
    rate, b1, b2, tau = (PLAN[k] for k in ("learning_rate", "beta_1", "beta_2", "tau"))
    for delta in deltas.astype(float):
        if name == "fedavg":
            x = x + rate * delta
        elif name == "fedavgm":
            m = b1 * m + delta
            x = x + rate * m
        else:
            m = b1 * m + (1 - b1) * delta
            if name == "fedadam":
                v = b2 * v + (1 - b2) * delta**2
            else:
                v = v - (1 - b2) * delta**2 * np.sign(v - delta**2)
            x = x + rate * m / (np.sqrt(v) + tau)
    return x


def run(name, start, deltas, state):
    plan = ServerOptimiser(name=name, **PLAN)
    for delta in deltas:
        start = step(start, delta, plan, state)
    return start


@pytest.mark.parametrize("name", NAMES)
def test_five_steps_equal_the_formula(name):
    start = np.linspace(-1, 1, SIZE, dtype=np.float32)
    due = by_the_formula(name, start, updates())
    np.testing.assert_allclose(run(name, start, updates(), OptimiserState()), due, rtol=2e-5)


def test_no_two_optimisers_step_alike():
    start = np.zeros(SIZE, np.float32)
    ends = [run(name, start, updates(), OptimiserState()) for name in NAMES]
    for place, one in enumerate(ends):
        assert not any(np.allclose(one, two, rtol=1e-3) for two in ends[place + 1 :])


@pytest.mark.parametrize("name", NAMES)
def test_the_model_and_the_update_that_came_are_left_as_they_were(name):
    start, delta = np.zeros(SIZE, np.float32), updates()[0]
    before = delta.copy()
    moved = run(name, start, [delta, delta], OptimiserState())
    assert moved.dtype == np.float32
    np.testing.assert_array_equal(start, 0)
    np.testing.assert_array_equal(delta, before)


def test_an_update_of_another_size_is_refused():
    with pytest.raises(ValueError, match="shape"):
        step(np.zeros(3, np.float32), np.zeros(2, np.float32), ServerOptimiser(), OptimiserState())


def checkpoint(model=None, **moments):
    model = np.arange(SIZE, dtype=np.float32) if model is None else model
    return Checkpoint(
        model, OptimiserState(moments), Progress(round=3, attempt=2, spare_attempts=1)
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_steps_as_if_it_had_never_stopped(tmp_path, name):
    path, start, deltas = tmp_path / "checkpoint", np.zeros(SIZE, np.float32), updates()
    never_stopped = run(name, start, deltas, OptimiserState())
    state = OptimiserState()
    half = run(name, start, deltas[:2], state)
    write_checkpoint(path, Checkpoint(half, state, Progress(round=2, attempt=1, spare_attempts=0)))
    kept = read_checkpoint(path, parameters=SIZE)
    np.testing.assert_array_equal(run(name, kept.model, deltas[2:], kept.optimiser), never_stopped)


def test_a_checkpoint_reads_back_with_model_moments_and_progress(tmp_path):
    path = tmp_path / "checkpoint"
    write_checkpoint(path, checkpoint(first=np.ones(SIZE, np.float32)))
    kept = read_checkpoint(path, parameters=SIZE)
    assert kept.progress == Progress(round=3, attempt=2, spare_attempts=1)
    np.testing.assert_array_equal(kept.model, np.arange(SIZE))
    np.testing.assert_array_equal(kept.optimiser.moments["first"], np.ones(SIZE))


def test_a_crash_between_write_and_rename_leaves_the_checkpoint_of_before(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint"
    write_checkpoint(path, checkpoint())

    def crash(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", crash)
        with pytest.raises(KeyboardInterrupt):
            write_checkpoint(path, checkpoint(np.full(SIZE, 9, np.float32)))
    kept = read_checkpoint(path, parameters=SIZE)
    np.testing.assert_array_equal(kept.model, np.arange(SIZE))
    write_checkpoint(path, checkpoint(np.full(SIZE, 9, np.float32)))
    assert read_checkpoint(path, parameters=SIZE).model[0] == 9
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize(
    "kept",
    [
        checkpoint(np.zeros(SIZE + 1, np.float32)),
        checkpoint(np.zeros(SIZE, np.float64)),
        checkpoint(np.zeros((SIZE, 1), np.float32)),
        checkpoint(first=np.zeros(2, np.float32)),
        checkpoint(first=np.zeros(SIZE, np.int32)),
    ],
    ids=["size", "dtype", "shape", "moment's size", "moment's dtype"],
)
def test_a_checkpoint_of_another_model_is_refused(tmp_path, kept):
    path = tmp_path / "checkpoint"
    write_checkpoint(path, kept)
    with pytest.raises(
        BadInput, match=r"checkpoint: (model|moment\.first) is .*, float32 of shape"
    ):
        read_checkpoint(path, parameters=SIZE)


@pytest.mark.parametrize("content", [b"", b"junk", b"\xff" * 100])
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path, content):
    path = tmp_path / "checkpoint"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="checkpoint checkpoint"):
        read_checkpoint(path, parameters=SIZE)
    write_checkpoint(path, checkpoint())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadInput, match="checkpoint checkpoint"):
        read_checkpoint(path, parameters=SIZE)
