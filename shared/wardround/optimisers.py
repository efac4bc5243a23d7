"""The step that a model takes with the mean update of a round (Reddi et al. 2021, Algorithm 2).

FedAvg (McMahan et al. 2017), FedAvgM (Hsu et al. 2019), FedAdam and FedYogi. All state is a few
vectors of the model's size, kept in the checkpoint, so that a resumed run steps as if it had
never stopped.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from wardround.study.manifest import ServerOptimiser

Vector = npt.NDArray[np.float32]


@dataclass(slots=True)
class OptimiserState:
    """First and second moment of the mean updates; empty before the first step."""

    moments: dict[str, Vector] = field(default_factory=dict)

    def moment(self, name: str, like: Vector, *, start: float = 0.0) -> Vector:
        """The named vector, made on first use."""
        if name not in self.moments:
            self.moments[name] = np.full_like(like, start)
        return self.moments[name]


def step(model: Vector, mean: Vector, plan: ServerOptimiser, state: OptimiserState) -> Vector:
    """Return the next model; `state` is updated in place. Shapes: [parameters].

    >>> import numpy as np
    >>> one = np.ones(2, np.float32)
    >>> step(one, one, ServerOptimiser(name="fedavg", learning_rate=0.5), OptimiserState())
    array([1.5, 1.5], dtype=float32)
    """
    if model.shape != mean.shape:
        raise ValueError(f"model has shape {model.shape}, the mean update {mean.shape}")
    moved: Vector = model + np.float32(plan.learning_rate) * _direction(mean, plan, state)
    return moved


def _direction(mean: Vector, plan: ServerOptimiser, state: OptimiserState) -> Vector:
    if plan.name == "fedavg":
        return mean
    first = state.moment("first", mean)
    if plan.name == "fedavgm":
        first[:] = np.float32(plan.beta_1) * first + mean
        return first.copy()
    first[:] = np.float32(plan.beta_1) * first + np.float32(1 - plan.beta_1) * mean
    second = state.moment("second", mean, start=plan.tau**2)
    square = mean * mean
    if plan.name == "fedadam":
        second[:] = np.float32(plan.beta_2) * second + np.float32(1 - plan.beta_2) * square
    else:
        second -= np.float32(1 - plan.beta_2) * square * np.sign(second - square)
    direction: Vector = (first / (np.sqrt(second) + np.float32(plan.tau))).astype(np.float32)
    return direction
