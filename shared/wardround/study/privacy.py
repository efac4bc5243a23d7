"""What sets the guarantee of a study: its [privacy] table."""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wardround.privacy.engine import Clipping
from wardround.privacy.truncation import truncation_bound
from wardround.study.contract import Frozen

MOST_TRUNCATION = 1e-3  # beyond it no useful delta could hold even one step's cut batches
Probability = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0, le=1e9)]


class Mechanism(StrEnum):
    """How an update is protected before it is masked (decision 0006)."""

    LOCAL = "local"
    DISTRIBUTED = "distributed"
    NONE = "none"


class Privacy(Frozen):
    """What sets the guarantee. Every number is public: none may come from the data.

    `epsilon` is a ceiling over the whole run, spare attempts included, for (epsilon, delta)-DP
    with add/remove neighbours that differ in one `unit`. `colluders` is how many hospitals may
    pool what they know with the coordinator before mechanism distributed gives less than that.
    A batch of more than `batch_most` of the at most `patients_most` patients of a hospital is
    cut, and the probability of it is charged. Clipping adaptive moves the clip norm towards the
    `adaptive_quantile` of the gradients' norms, by counts with noise `adaptive_count_noise`
    (Andrew et al. 2021).
    """

    unit: Literal["patient", "record"] = "patient"
    mechanism: Mechanism
    epsilon: Annotated[float, Field(gt=0, le=50)] | None = None
    delta: Annotated[float, Field(gt=0, lt=0.01)] | None = None
    clip_norm_l2: Positive
    sampling_rate: Probability
    records_per_patient: Annotated[int, Field(ge=1, le=1000)] = 1
    colluders: Annotated[int, Field(ge=0, le=998)] = 1
    clipping: Clipping = "flat"
    patients_most: Annotated[int, Field(ge=1, le=10**9)] | None = None
    batch_most: Annotated[int, Field(ge=1, le=10**9)] | None = None
    adaptive_quantile: Probability | None = None
    adaptive_count_noise: Positive | None = None

    @model_validator(mode="after")
    def _epsilon_unless_none(self) -> Self:
        due = self.mechanism is not Mechanism.NONE
        if due and (self.epsilon is None or self.delta is None):
            raise ValueError("privacy: `epsilon` and `delta` are due unless mechanism is none")
        return self

    @model_validator(mode="after")
    def _adaptive_is_whole(self) -> Self:
        adaptive = self.clipping == "adaptive"
        if any(
            (value is not None) != adaptive
            for value in (self.adaptive_quantile, self.adaptive_count_noise)
        ):
            raise ValueError(
                "privacy: `adaptive_quantile` and `adaptive_count_noise` belong to clipping = "
                "adaptive, and only there"
            )
        if adaptive and self.mechanism is not Mechanism.LOCAL:
            raise ValueError(
                f"privacy: clipping = adaptive with mechanism {self.mechanism}: only mechanism "
                "local noises the count that moves the clip norm"
            )
        return self

    @model_validator(mode="after")
    def _truncation_is_whole(self) -> Self:
        if (self.patients_most is None) != (self.batch_most is None):
            raise ValueError("privacy: `patients_most` and `batch_most` go together, or neither")
        if self.truncation >= MOST_TRUNCATION:
            raise ValueError(
                f"privacy: batch_most {self.batch_most} is too near {self.sampling_rate:g} x "
                f"patients_most {self.patients_most}: a batch would be cut too often to account for"
            )
        return self

    @property
    def truncation(self) -> float:
        """The probability, at most, that the sample of a step is larger than `batch_most`."""
        if self.patients_most is None or self.batch_most is None:
            return 0.0
        return truncation_bound(self.patients_most, self.sampling_rate, self.batch_most)
