"""What was done in a release of training: the part that travels, and the part that stays."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from wardround.errors import WardroundError
from wardround.privacy.engine import DistributedEngine, Trained, TrainingEngine
from wardround_client.training.noise import NoiseProbe
from wardround_client.training.plan import TrainingPlan
from wardround_client.training.stages import ClippedLanes, NoisedLanes, NoiseDone

SALT_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """What was done in one release. `engine` travels; the opening of its commitment stays here.

    So does `noise_probe`, from which the hospital sees how much noise there was (None: none).
    """

    engine: Trained
    batch_sizes: tuple[int, ...] = field(repr=False)
    salt: bytes = field(repr=False)
    without_gradient: int = field(repr=False)
    noise_probe: NoiseProbe | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """What one step did."""

    batch_size: int
    clip_norm_l2: float | None
    noise: NoiseDone | None
    probe: NoiseProbe | None = field(repr=False)
    without_gradient: int = field(repr=False)


def commitment(batch_sizes: tuple[int, ...], salt: bytes) -> str:
    """SHA-256 over the salt and the batch sizes: binds the hospital to them, opens nothing."""
    sizes = ",".join(map(str, batch_sizes)).encode()
    return hashlib.sha256(b"wardround/1 batches\x00" + salt + sizes).hexdigest()


def report_steps(steps: Sequence[StepDone], plan: TrainingPlan, *, salt: bytes) -> EngineReport:
    """The report of mechanisms local and none.

    The clip norm is the largest that was used. Raises WardroundError for steps that cannot be
    told as one: they differ in their noise, or in a clip norm that was not to move.
    """
    noises = {None if step.noise is None else step.noise.of_step for step in steps}
    clips = {step.clip_norm_l2 for step in steps}
    if len(noises) != 1 or (len(clips) != 1 and plan.clipping != "adaptive"):
        raise WardroundError("training: its steps differ in noise or clip norm")
    (noise,) = noises
    batch_sizes = tuple(step.batch_size for step in steps)
    engine = TrainingEngine(
        mechanism="none" if noise is None else "local",
        noise_multiplier=_claimed(noise, plan),
        clip_norm_l2=None if None in clips else max(clip for clip in clips if clip is not None),
        sampling_rate=plan.sampling_rate,
        steps=len(steps),
        records_per_patient=plan.records_per_patient,
        batches_commitment=commitment(batch_sizes, salt),
        clipping=plan.clipping,
        truncation=plan.truncation,
    )
    probes = [step.probe for step in steps if step.probe is not None]
    return EngineReport(
        engine=engine,
        batch_sizes=batch_sizes,
        salt=salt,
        without_gradient=sum(step.without_gradient for step in steps),
        noise_probe=NoiseProbe.together(probes) if probes else None,
    )


def _claimed(noise: float | None, plan: TrainingPlan) -> float:
    """What was done, or the plan where that is less by a rounding: never more than was done."""
    if noise is None:
        return 0.0
    above = noise - plan.noise_multiplier
    return plan.noise_multiplier if 0.0 <= above <= 1e-9 * noise else noise


def report_share(
    step: StepDone, clipped: ClippedLanes, shared: NoisedLanes, plan: TrainingPlan, *, salt: bytes
) -> EngineReport:
    """The report of mechanism distributed: one step, and this hospital's share of its noise."""
    if step.clip_norm_l2 is None or plan.clipping == "adaptive":
        raise WardroundError("training: a share of noise stands against a fixed clip norm")
    batch_sizes = (step.batch_size,)
    engine = DistributedEngine(
        share_variance=shared.share_variance,
        sensitivity_lanes=clipped.sensitivity_lanes,
        honest=plan.honest,
        clip_norm_l2=step.clip_norm_l2,
        sampling_rate=plan.sampling_rate,
        records_per_patient=plan.records_per_patient,
        batches_commitment=commitment(batch_sizes, salt),
        clipping=plan.clipping,
        truncation=plan.truncation,
    )
    return EngineReport(
        engine=engine,
        batch_sizes=batch_sizes,
        salt=salt,
        without_gradient=step.without_gradient,
        noise_probe=shared.probe,
    )
