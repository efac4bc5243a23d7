"""The study manifest: purpose, task, contract, privacy, training, rounds, evaluation, roster.

Its digest (SHA-256 over RFC 8785 bytes) is what a hospital approves. A change of one character is
another study.
"""

import math
from functools import lru_cache
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from wardround.canonical import Json, canonical_bytes, digest
from wardround.masking.round_spec import Profile, Purpose
from wardround.privacy.mechanism import SampledGaussian
from wardround.quality.plan import QualityPlan
from wardround.statistics.plan import StatisticsPlan
from wardround.study.contract import Contract, Frozen, Text
from wardround.study.evaluation import MAX_NOISED_BINS, Evaluation
from wardround.study.privacy import Mechanism, Positive, Privacy, Probability
from wardround.study.robust import Robust
from wardround.study.task import FamilyName, Model, Task
from wardround.study.training import ServerOptimiser, Training

__all__ = [
    "COORDINATOR",
    "MAX_NOISED_BINS",
    "Evaluation",
    "FamilyName",
    "Fingerprint",
    "Hospital",
    "HospitalName",
    "Masking",
    "Mechanism",
    "Model",
    "Positive",
    "Privacy",
    "Probability",
    "Profile",
    "Rounds",
    "ServerOptimiser",
    "Software",
    "Study",
    "StudyPlan",
    "Task",
    "Training",
]

COORDINATOR = "coordinator"  # the actor of the coordinator's evidence log
HospitalName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Rounds(Frozen):
    """How many rounds, how many of the roster, how long.

    `count` is 0 in a study that only asks for statistics: nothing is trained or evaluated then.
    """

    count: Annotated[int, Field(ge=0, le=10_000)]
    spare_attempts: Annotated[int, Field(ge=0, le=100)] = 2
    quorum: Annotated[int, Field(ge=2, le=1000)]
    deadline_s: Annotated[float, Field(gt=0, le=604_800)] = 600.0


class Masking(Frozen):
    """How updates are masked, and the smallest cohort whose sum may be opened.

    `bits` is how wide one parameter of an update travels; counts always take 32.
    """

    minimum_hospitals: Annotated[int, Field(ge=2, le=1000)] = 3
    profile: Profile = Profile.DOUBLE_MASK
    bits: Literal[20, 24, 32] = 32


class Hospital(Frozen):
    """One hospital of the roster, by the fingerprint that was exchanged out of band."""

    name: HospitalName
    fingerprint: Fingerprint


class Software(Frozen):
    """Pins the code by the digest of each package (`wardround.code_digest`)."""

    wardround: Fingerprint
    wardround_client: Fingerprint | None = Field(
        default=None, exclude_if=lambda value: value is None
    )
    wardround_server: Fingerprint | None = Field(
        default=None, exclude_if=lambda value: value is None
    )

    def pins(self) -> dict[str, str]:
        """The digest of each package that is pinned."""
        found: dict[str, str] = self.model_dump(exclude_none=True)
        return found


class StudyPlan(Frozen):
    """A study as it is written in study.toml: all but the roster."""

    schema_: Literal["wardround.study/1"] = Field(alias="schema")
    name: HospitalName
    title: Text
    purpose: Text
    contact: Text
    task: Task
    contract: Contract
    privacy: Privacy
    training: Training
    rounds: Rounds
    masking: Masking = Masking()
    evaluation: Evaluation
    statistics: StatisticsPlan | None = None
    quality: QualityPlan | None = Field(default=None, exclude_if=lambda value: value is None)
    software: Software | None = Field(default=None, exclude_if=lambda value: value is None)
    robust: Robust | None = Field(default=None, exclude_if=lambda value: value is None)

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if unfit := self.task.faults(self.contract):
            raise ValueError("study: " + "; ".join(unfit))
        if self.rounds.quorum < self.masking.minimum_hospitals:
            raise ValueError(
                f"study: quorum {self.rounds.quorum} is below masking.minimum_hospitals "
                f"{self.masking.minimum_hospitals}: such a sum would never be opened"
            )
        if self.evaluation.counts == "noised" and self.privacy.delta is None:
            raise ValueError("study: noised evaluation counts need `privacy.delta`")
        if unfit := list(self.evaluation.faults(self.contract)):
            raise ValueError("study: " + "; ".join(unfit))
        if self.robust is not None:
            if self.training.control != "none":
                raise ValueError(
                    "study: training.control does not go with [robust]: what a rule makes of the "
                    "groups is no mean, so no hospital could read the mean gradient off the model"
                )
            quorum, minimum = self.rounds.quorum, self.masking.minimum_hospitals
            self.robust.check_sizes(quorum=quorum, minimum=minimum, rounds=self.rounds.count)
        return self

    @model_validator(mode="after")
    def _quality_fits(self) -> Self:
        if self.quality is not None and (found := self.quality.faults(self.contract)):
            raise ValueError("; ".join(found))
        return self

    @model_validator(mode="after")
    def _statistics_fit(self) -> Self:
        plan = self.statistics
        if plan is None:
            if not self.rounds.count:
                raise ValueError("study: rounds.count 0 belongs to a study with [statistics]")
            return self
        faults = list(plan.faults(self.contract))
        if self.privacy.delta is None:
            faults.append("statistics: `privacy.delta` is due")
        if plan.standardise and not self.rounds.count:
            faults.append("statistics: `standardise` without a round of training")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @model_validator(mode="after")
    def _one_trip_is_accounted(self) -> Self:
        one_trip = self.masking.profile is Profile.ONE_TRIP
        if one_trip and self.privacy.mechanism is not Mechanism.DISTRIBUTED:
            raise ValueError(
                f"study: masking.profile one-trip with mechanism {self.privacy.mechanism}: sums of "
                "two attempts show their difference, which only mechanism distributed has noised"
            )
        return self

    @model_validator(mode="after")
    def _weights_need_no_guarantee(self) -> Self:
        if self.training.weighting == "patients" and self.privacy.mechanism is not Mechanism.NONE:
            raise ValueError(
                f"study: training.weighting patients with mechanism {self.privacy.mechanism}: a "
                "weight depends on who is a patient, and no noise covers it"
            )
        return self

    @model_validator(mode="after")
    def _models_beside_claim_no_epsilon(self) -> Self:
        if not self.evaluation.beside:
            return self
        if not self.rounds.count or self.task.synthesis is not None:
            raise ValueError(
                "study: evaluation.beside needs rounds that train on patients' records"
            )
        claims = {
            "evaluation.counts noised": self.evaluation.counts == "noised",
            f"privacy.mechanism {self.privacy.mechanism}": (
                self.privacy.mechanism is not Mechanism.NONE
            ),
            "[statistics]": self.statistics is not None,
        }
        if found := [name for name, there in claims.items() if there]:
            raise ValueError(
                f"study: evaluation.beside does not go with {', '.join(found)}: a model that a "
                "hospital trains alone has no noise, so all its scores tell of training patients, "
                "and no epsilon that the study claims would cover them"
            )
        return self

    @model_validator(mode="after")
    def _distributed_is_one_step(self) -> Self:
        privacy = self.privacy
        if unfit := self.training.faults(privacy.mechanism):
            raise ValueError("study: " + "; ".join(unfit))
        if privacy.mechanism is not Mechanism.DISTRIBUTED:
            return self
        if privacy.colluders >= self.masking.minimum_hospitals:
            raise ValueError(
                f"study: privacy.colluders {privacy.colluders} of masking.minimum_hospitals "
                f"{self.masking.minimum_hospitals}: at least one hospital's noise has to remain"
            )
        return self

    @model_validator(mode="after")
    def _cut_batches_leave_delta(self) -> Self:
        if self.delta_of_noise is not None and self.delta_of_noise <= 0:
            raise ValueError(
                f"study: privacy.delta {self.privacy.delta:g} is less than the batches that are "
                f"cut to privacy.batch_most {self.privacy.batch_most} cost alone over all attempts"
            )
        return self

    @model_validator(mode="after")
    def _a_gan_is_trained_plainly(self) -> Self:
        if self.task.synthesis is None:
            return self
        standardised = self.statistics is not None and self.statistics.standardise
        strange = {
            "training.weighting patients": self.training.weighting != "equal",
            "[robust]": self.robust is not None,
            "statistics.standardise": standardised,
            "rounds.count 0": not self.rounds.count,
            "training.control": self.training.control != "none",
        }
        if found := [name for name, there in strange.items() if there]:
            raise ValueError(f"study: family gan does not go with {', '.join(found)}")
        return self

    @property
    def made_from(self) -> int | None:
        """Where in the model's vector the part begins that no hospital trains; None: nowhere."""
        return self.task.made_from(self.contract)

    @property
    def delta_of_noise(self) -> float | None:
        """What delta leaves to the noise, after the chance that a batch is cut is charged.

        Each cut is a total variation, so it costs (1 + exp(epsilon)) times its probability.
        """
        privacy = self.privacy
        if privacy.delta is None or privacy.epsilon is None or not privacy.truncation:
            return privacy.delta
        cut = self.attempts * self.training.local_steps * privacy.truncation
        return privacy.delta - (1.0 + math.exp(privacy.epsilon)) * cut

    @property
    def attempts(self) -> int:
        """Training attempts that the guarantee covers: planned rounds and spare ones."""
        return self.rounds.count + self.rounds.spare_attempts if self.rounds.count else 0

    def noise_multiplier(self) -> float:
        """Noise per step in units of the clip norm; hospital and coordinator compute the same."""
        from wardround.privacy.accounting import noise_for  # noqa: PLC0415  # loads SciPy

        private = self.privacy.mechanism is not Mechanism.NONE and self.attempts
        if not private or self.privacy.epsilon is None or self.delta_of_noise is None:
            return 0.0
        return noise_for(
            self.privacy.epsilon,
            delta=self.delta_of_noise,
            sampling_rate=self.privacy.sampling_rate,
            steps=self.attempts * self.training.local_steps,
        )

    def release_of_one_attempt(self) -> SampledGaussian:
        """What one training attempt costs, as the accountant reads it."""
        return SampledGaussian(
            noise_multiplier=self.noise_multiplier(),
            sampling_rate=self.privacy.sampling_rate,
            steps=self.training.local_steps,
            truncation=self.privacy.truncation,
        )

    def profile_of(self, purpose: Purpose) -> Profile:
        """How a round of this purpose is masked: one trip only where the sum is noised as one."""
        return Profile.DOUBLE_MASK if purpose is Purpose.EVALUATE else self.masking.profile

    def noises(self, purpose: Purpose) -> bool:
        """Whether each vector of such a round has noise: a second sum of it may be opened then."""
        if purpose is Purpose.EVALUATE:
            return self.evaluation.counts == "noised"
        return purpose is Purpose.STATISTICS or self.privacy.mechanism is not Mechanism.NONE

    def statistics_noise(self) -> float:
        """Noise multiplier of one release of statistics; epsilon covers all its attempts.

        Raises ValueError when the study asks for none.
        """
        from wardround.privacy.accounting import noise_for  # noqa: PLC0415  # loads SciPy

        if self.statistics is None or self.privacy.delta is None:
            raise ValueError(f"study {self.name}: it asks for no statistics")
        return noise_for(
            self.statistics.epsilon,
            delta=self.privacy.delta,
            sampling_rate=1.0,
            steps=self.statistics.attempts,
        )

    def release_of_statistics(self) -> SampledGaussian:
        """What one statistics attempt costs: every patient takes part."""
        return SampledGaussian(self.statistics_noise(), 1.0, 1)

    def to_json(self) -> Json:
        """The manifest as a JSON value."""
        value: Json = self.model_dump(mode="json", by_alias=True)
        return value


class Study(StudyPlan):
    """A study with its roster: the thing that is signed, approved and run."""

    roster: tuple[Hospital, ...] = Field(min_length=2, max_length=1000)

    @model_validator(mode="after")
    def _roster_is_enough(self) -> Self:
        names = [hospital.name for hospital in self.roster]
        prints = [hospital.fingerprint for hospital in self.roster]
        if len(set(names)) != len(names) or len(set(prints)) != len(prints):
            raise ValueError("roster: a hospital or a fingerprint is listed twice")
        if COORDINATOR in names:
            raise ValueError(f"roster: no hospital may be named {COORDINATOR}, as its log is")
        if len(names) < self.rounds.quorum:
            raise ValueError(f"roster: {len(names)} hospitals, the quorum is {self.rounds.quorum}")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical manifest: the study's identity."""
        return _digest_of(self)

    def canonical(self) -> bytes:
        """The bytes that are signed."""
        return canonical_bytes(self.to_json())

    def names(self) -> tuple[str, ...]:
        """The roster's hospitals, sorted."""
        return tuple(sorted(hospital.name for hospital in self.roster))

    def fingerprint_of(self, hospital: str) -> str:
        """The pinned fingerprint of one hospital; KeyError when it is not on the roster."""
        return {entry.name: entry.fingerprint for entry in self.roster}[hospital]


@lru_cache(maxsize=64)
def _digest_of(study: Study) -> str:
    # Every check of a round compares digests: at hospitals of long studies it was most of a round.
    return digest(study.to_json())
