"""What goes into a release of training: what sets its guarantee, step sizes, records."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from torch import Tensor

from wardround.errors import BadInput
from wardround.privacy.engine import Clipping
from wardround.privacy.mechanism import Exact, Mechanism, SampledGaussian
from wardround.privacy.truncation import truncation_bound
from wardround.study.task import Augmentation
from wardround_client.training.sampling import Indices

_MECHANISMS = ("local", "distributed", "none")
_CLIPPINGS = ("flat", "per-layer", "adaptive")
_OPTIMISERS = ("sgd", "adam")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """What sets the guarantee of one training release. All of it is public and the study's.

    `noise_multiplier` is that of a whole step: with clipping "adaptive" it covers the count that
    moves the clip norm, with mechanism "distributed" it is what the shares of `honest` hospitals
    make together. `patients_most` and `batch_most` bound a hospital's patients and a batch.
    """

    mechanism: Literal["local", "distributed", "none"]
    noise_multiplier: float
    clip_norm_l2: float | None
    sampling_rate: float
    records_per_patient: int
    local_steps: int
    clipping: Clipping = "flat"
    adaptive_quantile: float | None = None
    adaptive_count_noise: float | None = None
    patients_most: int | None = None
    batch_most: int | None = None
    honest: int = 1

    def __post_init__(self) -> None:
        if self.mechanism not in _MECHANISMS or self.clipping not in _CLIPPINGS:
            raise BadInput(
                f"training plan: mechanism {self.mechanism!r} and clipping {self.clipping!r} came, "
                f"one of {', '.join(_MECHANISMS)} and of {', '.join(_CLIPPINGS)} was due"
            )
        if self.mechanism == "none" and self.noise_multiplier != 0.0:
            raise BadInput(f"mechanism none: noise {self.noise_multiplier} came, 0 was due")
        if self.mechanism != "none" and self.clip_norm_l2 is None:
            raise BadInput(f"mechanism {self.mechanism}: a clip norm is due")
        if self.records_per_patient < 1:
            raise BadInput(f"records per patient: {self.records_per_patient}, 1 or more was due")
        self._check_clipping()
        self._check_distributed()
        self._check_ceiling()
        noise = 1.0 if self.mechanism == "none" else self.noise_multiplier
        SampledGaussian(noise, self.sampling_rate, self.local_steps, self.truncation)

    @property
    def release(self) -> Mechanism:
        """What the ledger reserves for one release of this plan."""
        if self.mechanism == "none":
            return Exact()
        return SampledGaussian(
            self.noise_multiplier, self.sampling_rate, self.local_steps, self.truncation
        )

    @property
    def truncation(self) -> float:
        """The probability, at most, that the sample of a step is cut to `batch_most`."""
        if self.patients_most is None or self.batch_most is None:
            return 0.0
        return truncation_bound(self.patients_most, self.sampling_rate, self.batch_most)

    @property
    def gradient_noise_multiplier(self) -> float:
        """Noise on the gradients alone, such that gradients and count together have theirs.

        A count of patients within the clip norm, each as +-1/2, has sensitivity 1/2.
        (Andrew et al. 2021, theorem 1)
        """
        if self.adaptive_count_noise is None:
            return self.noise_multiplier
        of_count = 2.0 * self.adaptive_count_noise
        if of_count <= self.noise_multiplier:
            raise BadInput(
                f"clipping adaptive: count noise {self.adaptive_count_noise} came, more than "
                f"half of the noise multiplier {self.noise_multiplier} was due, or the count alone "
                "spends it"
            )
        # A hair up: rounding must not leave the two together below what is due.
        return (1.0 + 1e-12) / math.sqrt(self.noise_multiplier**-2 - of_count**-2)

    def refuse_too_many(self, patients: int) -> None:
        """Raise BadInput for more patients than the bound with which cut batches are accounted."""
        if self.patients_most is not None and patients > self.patients_most:
            raise BadInput(
                f"patients: there are more than the {self.patients_most} that the study's "
                "privacy.patients_most allows a hospital"
            )

    def _check_clipping(self) -> None:
        if self.clipping != "flat" and self.clip_norm_l2 is None:
            raise BadInput(f"clipping {self.clipping}: a clip norm is due")
        adaptive = (self.adaptive_quantile, self.adaptive_count_noise)
        if self.clipping != "adaptive":
            if adaptive != (None, None):
                raise BadInput(f"clipping {self.clipping}: it has no quantile and no count noise")
            return
        if self.mechanism != "local":
            raise BadInput(f"clipping adaptive: mechanism {self.mechanism} came, local was due")
        if self.adaptive_quantile is None or not 0.0 < self.adaptive_quantile < 1.0:
            raise BadInput("clipping adaptive: a quantile between 0 and 1 is due")
        if self.adaptive_count_noise is None or not 0.0 < self.adaptive_count_noise < math.inf:
            raise BadInput("clipping adaptive: a count noise above 0 is due")
        if self.noise_multiplier > 0.0:
            _ = self.gradient_noise_multiplier

    def _check_distributed(self) -> None:
        if self.honest < 1:
            raise BadInput(f"honest hospitals: {self.honest} came, 1 or more was due")
        if self.mechanism == "distributed" and self.local_steps != 1:
            raise BadInput(
                f"mechanism distributed: {self.local_steps} local steps came, 1 was due: a share "
                "of the noise covers one step, and no step on top of it"
            )

    def _check_ceiling(self) -> None:
        if (self.patients_most is None) != (self.batch_most is None):
            raise BadInput("patients_most and batch_most go together: one of them is missing")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSizes:
    """How far a step goes: no effect on the guarantee.

    `expected_batch` is the study's fixed public normaliser. It is never the size of a batch or of
    the data, for then the step itself would tell neighbours apart. `augmentation` is what happens
    to training images before their gradient. `proximal` is mu of FedProx.
    """

    learning_rate: float
    expected_batch: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    augmentation: Augmentation | None = None
    optimiser: Literal["sgd", "adam"] = "sgd"
    proximal: float = 0.0

    def __post_init__(self) -> None:
        if not (self.learning_rate > 0 and self.expected_batch > 0):
            raise BadInput("step sizes: learning rate and expected batch are above 0")
        if not 0 <= self.momentum < 1 or self.weight_decay < 0:
            raise BadInput("step sizes: momentum is in [0, 1), weight decay 0 or more")
        if not 0 <= self.proximal < math.inf:
            raise BadInput("step sizes: proximal is 0 or more")
        if self.optimiser not in _OPTIMISERS or (self.optimiser == "adam" and self.momentum):
            raise BadInput(
                f"step sizes: optimiser {self.optimiser!r} came, one of {', '.join(_OPTIMISERS)} "
                "was due; momentum belongs to sgd"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientRecords:
    """Records sorted by patient: patient p has records `offsets[p]` up to `offsets[p + 1]`.

    `beside`, where it is there, puts a record that is nobody's behind each one of a step, as part
    of its patient: features and labels of n records become those of 2 n.
    """

    features: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    offsets: Indices = field(repr=False)
    beside: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = field(
        default=None, repr=False
    )

    def __post_init__(self) -> None:
        records = len(self.features)
        if len(self.labels) != records:
            raise BadInput(f"records: {records} features, {len(self.labels)} labels")
        ends = (int(self.offsets[0]), int(self.offsets[-1])) if len(self.offsets) else ()
        if ends != (0, records) or bool((np.diff(self.offsets) < 1).any()):
            raise BadInput("records: offsets rise from 0 to the number of records, by 1 or more")

    @property
    def patients(self) -> int:
        """How many patients there are. Private: neither q nor the normaliser comes from it."""
        return len(self.offsets) - 1
