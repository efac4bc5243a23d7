"""What a study asks of one round here: the guarantee of a release, and how far its steps go.

All of it follows from the approved study and the round's cohort; nothing is taken from a message.
"""

from wardround.masking.round_spec import Purpose, RoundSpec
from wardround.privacy.accounting import gaussian_count_noise
from wardround.privacy.mechanism import Exact, Mechanism, SampledGaussian
from wardround.protocol.messages import RefusalCode
from wardround.protocol.specs import honest_in
from wardround.study.manifest import Study
from wardround_client.refusal import StudyRefused
from wardround_client.training.plan import StepSizes, TrainingPlan


def training_plan(study: Study, *, hospitals: int) -> TrainingPlan:
    """What sets the guarantee of one attempt with a cohort of so many `hospitals`.

    With noise in the sum as many count as honest as must answer before it opens, less the study's
    colluders. Raises BadInput when nobody is left.
    """
    privacy = study.privacy
    return TrainingPlan(
        mechanism=privacy.mechanism.value,
        noise_multiplier=study.noise_multiplier(),
        clip_norm_l2=privacy.clip_norm_l2,
        sampling_rate=privacy.sampling_rate,
        records_per_patient=privacy.records_per_patient,
        local_steps=study.training.local_steps,
        clipping=privacy.clipping,
        adaptive_quantile=privacy.adaptive_quantile,
        adaptive_count_noise=privacy.adaptive_count_noise,
        patients_most=privacy.patients_most,
        batch_most=privacy.batch_most,
        honest=honest_in(study, Purpose.TRAIN, hospitals),
    )


def step_sizes(study: Study) -> StepSizes:
    """How far the local steps go."""
    training = study.training
    return StepSizes(
        learning_rate=training.learning_rate,
        expected_batch=training.expected_batch,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        optimiser=training.optimiser,
        proximal=training.proximal,
        augmentation=study.task.augmentation,
    )


def planned_release(study: Study, spec: RoundSpec) -> Mechanism:
    """What the ledger reserves before the round of `spec` is computed."""
    if spec.purpose is Purpose.TRAIN:
        return training_plan(study, hospitals=len(spec.cohort)).release
    if spec.purpose is Purpose.STATISTICS:
        return study.release_of_statistics()
    if study.evaluation.counts == "exact":
        return Exact()
    return SampledGaussian(evaluation_noise(study), 1.0, 1)


def evaluation_noise(study: Study) -> float:
    """Noise multiplier of the counts. Raises StudyRefused when the study does not set it."""
    plan, delta = study.evaluation, study.privacy.delta
    if plan.epsilon is None or delta is None:
        raise StudyRefused(RefusalCode.SPEC, "evaluation: noised counts need epsilon and delta")
    return gaussian_count_noise(plan.epsilon, delta)
