"""How far the steps of training go: a study's [training] table."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from wardround.study.contract import Frozen
from wardround.study.privacy import Mechanism, Positive

# Of a hospital's Adam: those of the paper, and of PyTorch.
ADAM_BETA_1: Final = 0.9
ADAM_BETA_2: Final = 0.999
ADAM_EPSILON: Final = 1e-8


class ServerOptimiser(Frozen):
    """How the coordinator steps with the mean update (Reddi et al. 2021, Alg. 2)."""

    name: Literal["fedavg", "fedavgm", "fedadam", "fedyogi"] = "fedavg"
    learning_rate: Positive = 1.0
    beta_1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta_2: Annotated[float, Field(ge=0, lt=1)] = 0.99
    tau: Positive = 1e-3


class Training(Frozen):
    """Sizes of the steps; they change what is learned, never the guarantee.

    `expected_batch` is the fixed public normaliser of every step: a sum of clipped gradients is
    divided by it whatever the batch turned out to be. `update_bound` is the largest absolute
    change of one parameter that a round can carry; beyond it a change is cut.
    With `weighting = "patients"` a hospital counts as its training patients over `weight_unit`,
    rounded, 1 to `weight_most`. Where all count the same, none of the three is in the bytes.
    `optimiser` is what takes a hospital's local steps: gradient descent with `momentum`, or Adam
    (Kingma and Ba 2015), whose state begins anew in each attempt.
    `proximal` is mu of FedProx: each local step is pulled back to the round's model by mu times
    the distance from it (Li et al. 2020). `control = "scaffold"` corrects each local step by what
    this hospital's gradients of the round before differed from everybody's (Karimireddy et al.
    2020, Algorithm 1, option II; decision 0021). Neither costs any privacy: both are computed from
    noised sums and public models. Not in the bytes where they are not used.
    """

    local_steps: Annotated[int, Field(ge=1, le=10_000)]
    learning_rate: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    expected_batch: Positive
    update_bound: Positive = 64.0
    server: ServerOptimiser = ServerOptimiser()
    weighting: Literal["equal", "patients"] = Field(
        default="equal", exclude_if=lambda value: value == "equal"
    )
    weight_unit: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, exclude_if=lambda value: value is None
    )
    weight_most: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        default=None, exclude_if=lambda value: value is None
    )
    optimiser: Literal["sgd", "adam"] = Field(
        default="sgd", exclude_if=lambda value: value == "sgd"
    )
    proximal: Annotated[float, Field(ge=0, le=1e6)] = Field(
        default=0.0, exclude_if=lambda value: value == 0.0
    )
    control: Literal["none", "scaffold"] = Field(
        default="none", exclude_if=lambda value: value == "none"
    )

    @model_validator(mode="after")
    def _weights_when_weighted(self) -> Self:
        given = {self.weight_unit is not None, self.weight_most is not None}
        if given != {self.weighting == "patients"}:
            raise ValueError(
                "training: `weight_unit` and `weight_most` belong to weighting = patients, and "
                "only there"
            )
        return self

    @model_validator(mode="after")
    def _momentum_is_of_sgd(self) -> Self:
        if self.optimiser == "adam" and self.momentum:
            raise ValueError("training: `momentum` belongs to optimiser = sgd; Adam has its own")
        return self

    @model_validator(mode="after")
    def _proximal_pulls(self) -> Self:
        if not self.proximal:
            return self
        if self.local_steps == 1:
            raise ValueError(
                "training: `proximal` with local_steps = 1: the first step is taken from the "
                "round's model, so there is nothing to pull it back from"
            )
        pull = self.proximal * self.learning_rate
        if self.optimiser == "sgd" and pull > 1.0:
            raise ValueError(
                f"training: `proximal` x `learning_rate` is {pull:g}, at most 1 was due: a longer "
                "pull carries a step beyond the round's model"
            )
        return self

    @model_validator(mode="after")
    def _control_knows_the_steps(self) -> Self:
        """The mean gradient of a round has to follow from two successive models alone."""
        if self.control == "none":
            return self
        strange = {
            'optimiser = "adam"': self.optimiser != "sgd",
            "momentum": self.momentum > 0.0,
            "weight_decay": self.weight_decay > 0.0,
            "proximal": self.proximal > 0.0,
            f'server.name = "{self.server.name}"': self.server.name != "fedavg",
        }
        if found := [name for name, there in strange.items() if there]:
            raise ValueError(
                f"training: control = scaffold does not go with {', '.join(found)}: hospitals "
                "read the mean gradient off two successive models, which takes plain steps"
            )
        return self

    def faults(self, mechanism: Mechanism) -> list[str]:
        """What does not go with the mechanism, in sentences; empty when all does.

        With mechanism distributed the noise is a share of the sum's: whatever is not linear, and
        whatever is kept from step to step, would have to be done on the sum. So a hospital takes
        one plain step there, and Adam is the server's (`server.name = "fedadam"`).
        """
        if mechanism is not Mechanism.DISTRIBUTED:
            return []
        found = []
        if self.local_steps != 1:
            found.append(
                f"training.local_steps {self.local_steps} came, mechanism distributed takes 1: a "
                "share of the noise covers one step, and no step on top of it"
            )
        if self.momentum or self.weight_decay:
            found.append(
                "training.momentum and training.weight_decay are 0 with mechanism distributed: "
                "its step starts anew in each round (training.server may have both)"
            )
        if self.optimiser != "sgd":
            found.append(
                f"training.optimiser {self.optimiser} with mechanism distributed: a share of the "
                "noise covers a step that is linear in the gradients; training.server may have Adam"
            )
        if self.proximal or self.control != "none":
            found.append(
                "training.proximal and training.control with mechanism distributed: they are about "
                "several local steps, and it takes one"
            )
        return found
