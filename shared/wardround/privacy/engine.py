"""What an engine DID, as it travels and is logged. Accounting reads this, never a configuration."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.privacy.mechanism import MOST_STEPS, Exact, Mechanism, SampledGaussian

_Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Above0 = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def body(self) -> Json:
        """The JSON object of the evidence log and of the answer."""
        return self.model_dump(mode="json")


class TrainingEngine(_Wire):
    """One training release. `batches_commitment` hides the private batch sizes behind a salt."""

    mechanism: Literal["local", "none"]
    noise_multiplier: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    clip_norm_l2: _Above0 | None
    sampling_rate: Annotated[float, Field(gt=0, le=1)]
    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)]
    records_per_patient: Annotated[int, Field(ge=1)]
    batches_commitment: _Hex64

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
        return SampledGaussian(self.noise_multiplier, self.sampling_rate, self.steps)


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


Engine = TrainingEngine | ExactEvaluation | GaussianEvaluation

_KINDS: dict[object, type[TrainingEngine | ExactEvaluation | GaussianEvaluation]] = {
    "local": TrainingEngine,
    "none": TrainingEngine,
    "exact": ExactEvaluation,
    "gaussian": GaussianEvaluation,
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
