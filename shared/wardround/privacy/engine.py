"""What an engine DID, as it travels and is logged. Accounting reads this, never a configuration."""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.privacy.mechanism import MOST_STEPS, Exact, Mechanism, SampledGaussian

_Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Above0 = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Truncation = Annotated[float, Field(ge=0, lt=1)]
_JSON_INTEGER = 2**53 - 1

Clipping = Literal["flat", "per-layer", "adaptive"]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def body(self) -> Json:
        """The JSON object of the evidence log and of the answer."""
        return self.model_dump(mode="json")


class TrainingEngine(_Wire):
    """One training release. `batches_commitment` hides the private batch sizes behind a salt.

    `clip_norm_l2` is the largest of its steps. `truncation` bounds the probability that a step's
    sample was larger than the study's physical maximum and was cut.
    """

    mechanism: Literal["local", "none"]
    noise_multiplier: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    clip_norm_l2: _Above0 | None
    sampling_rate: Annotated[float, Field(gt=0, le=1)]
    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)]
    records_per_patient: Annotated[int, Field(ge=1)]
    batches_commitment: _Hex64
    clipping: Clipping = "flat"
    truncation: _Truncation = 0.0

    @model_validator(mode="after")
    def _local_means_clipped_and_noised(self) -> "TrainingEngine":
        protected = self.noise_multiplier > 0 and self.clip_norm_l2 is not None
        if self.mechanism == "local" and not protected:
            raise ValueError("mechanism local has a clip norm and a noise multiplier above 0")
        if self.mechanism == "none" and self.noise_multiplier > 0:
            raise ValueError("mechanism none has noise multiplier 0")
        return self

    @property
    def released(self) -> Mechanism:
        """What the accountant charges for it."""
        if self.mechanism == "none":
            return Exact()
        return SampledGaussian(
            self.noise_multiplier, self.sampling_rate, self.steps, self.truncation
        )


class DistributedEngine(_Wire):
    """One step whose noise is a share of the noise in the masked sum (decision 0006).

    In lanes, the integers that are summed: this hospital drew discrete Gaussian noise with
    parameter sigma^2 = `share_variance`, its vector moves by at most `sensitivity_lanes` (L2,
    rounding included) when one unit comes or goes, and the sum holds the shares of at least
    `honest` contributors who pool nothing with the coordinator.
    """

    mechanism: Literal["distributed"] = "distributed"
    share_variance: Annotated[int, Field(ge=1, le=_JSON_INTEGER)]
    sensitivity_lanes: _Above0
    honest: Annotated[int, Field(ge=1, le=1000)]
    clip_norm_l2: _Above0
    sampling_rate: Annotated[float, Field(gt=0, le=1)]
    records_per_patient: Annotated[int, Field(ge=1)]
    batches_commitment: _Hex64
    clipping: Literal["flat", "per-layer"] = "flat"
    truncation: _Truncation = 0.0

    @property
    def steps(self) -> int:
        """A masked sum is opened after each step: one."""
        return 1

    @property
    def noise_multiplier(self) -> float:
        """Deviation of the guaranteed noise in the sum over the sensitivity."""
        return math.sqrt(self.honest * self.share_variance) / self.sensitivity_lanes

    @property
    def released(self) -> Mechanism:
        """What the accountant charges for it."""
        return SampledGaussian(self.noise_multiplier, self.sampling_rate, 1, self.truncation)


class ExactEvaluation(_Wire):
    """Evaluation counts that left without noise."""

    mechanism: Literal["exact"] = "exact"

    @property
    def released(self) -> Mechanism:
        """No epsilon."""
        return Exact()


class GaussianEvaluation(_Wire):
    """Evaluation counts with Gaussian noise, one count per patient (L2 sensitivity 1)."""

    mechanism: Literal["gaussian"] = "gaussian"
    noise_multiplier: _Above0

    @property
    def released(self) -> Mechanism:
        """One Gaussian release over all held-out patients."""
        return SampledGaussian(self.noise_multiplier, 1.0, 1)


class StatisticsEngine(_Wire):
    """Statistics of all patients, in lanes, with discrete Gaussian noise.

    As in DistributedEngine: a variance, what one patient changes (L2), and how many hospitals
    of the cohort count as honest; 1 where each hospital's vector is private by itself.
    """

    mechanism: Literal["statistics-gaussian"] = "statistics-gaussian"
    share_variance: Annotated[int, Field(ge=1, le=_JSON_INTEGER)]
    sensitivity_lanes: _Above0
    honest: Annotated[int, Field(ge=1, le=1000)]

    @property
    def noise_multiplier(self) -> float:
        """Deviation of the guaranteed noise over the sensitivity."""
        return math.sqrt(self.honest * self.share_variance) / self.sensitivity_lanes

    @property
    def released(self) -> Mechanism:
        """One Gaussian release over all patients."""
        return SampledGaussian(self.noise_multiplier, 1.0, 1)


Trained = TrainingEngine | DistributedEngine
Engine = Trained | ExactEvaluation | GaussianEvaluation | StatisticsEngine

_KINDS: dict[object, type[Engine]] = {
    "local": TrainingEngine,
    "distributed": DistributedEngine,
    "none": TrainingEngine,
    "exact": ExactEvaluation,
    "gaussian": GaussianEvaluation,
    "statistics-gaussian": StatisticsEngine,
}


def parse_engine(value: Json) -> Engine:
    """Read an `engine` object from a log or a message. Raises BadInput, naming the field.

    >>> parse_engine({"mechanism": "gaussian", "noise_multiplier": 4}).released
    SampledGaussian(noise_multiplier=4.0, sampling_rate=1.0, steps=1, truncation=0.0)
    """
    mechanism = value.get("mechanism")
    kind = _KINDS.get(mechanism) if isinstance(mechanism, str) else None
    if kind is None:
        raise BadInput(f"engine: mechanism is one of {', '.join(map(str, _KINDS))}")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "as a whole"
        raise BadInput(f"engine: {where}: {first['msg']}") from error
