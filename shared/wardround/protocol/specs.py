"""The one RoundSpec that a study allows for an attempt; both sides build it and compare."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput, ProtocolViolation
from wardround.evaluation.layout import Layout
from wardround.evaluation.layouts import layout_of
from wardround.masking.partition import Partition, partition_of
from wardround.masking.quantise import choose_scale, largest_limit
from wardround.masking.round_spec import Purpose, RoundSpec, threshold_of
from wardround.privacy.noise_shares import NoiseShare, StepScale, noise_share
from wardround.protocol.halves import digest_of_model, trained_parameters
from wardround.protocol.weighting import head_lanes, most_weight
from wardround.statistics.layout import StatisticsLayout
from wardround.statistics.noise import deviation_of_sum, statistics_share
from wardround.statistics.released import ReleasedStatistics
from wardround.study.manifest import Mechanism, Study, StudyPlan


def attempt_spec(
    study: Study,
    *,
    run: str,
    session: str,
    round_number: int,
    attempt: int,
    cohort: tuple[str, ...],
    directory_digest: str,
    model: npt.NDArray[np.float32],
) -> RoundSpec:
    """The spec of an attempt. Rounds 0 to count - 1 train, round `count` evaluates.

    Training has one lane per parameter, and two before them where hospitals are weighted;
    evaluation has whole counts. A study that standardises binds it to the released statistics
    (`standardised_spec`).
    Raises ProtocolViolation for a round that the study does not have, BadInput for a study whose
    noise does not fit into the lanes.
    """
    last = study.rounds.count
    if round_number > last or not last:
        raise ProtocolViolation(f"round spec: round {round_number + 1} came, the study has {last}")
    trains = round_number < last
    purpose = Purpose.TRAIN if trains else Purpose.EVALUATE
    bits = bits_of(study, purpose)
    trained = trained_parameters(study, model.size)
    return RoundSpec(
        purpose=purpose,
        profile=study.profile_of(purpose),
        run=run,
        session=session,
        study_digest=study.digest,
        round=round_number,
        attempt=attempt,
        cohort=cohort,
        partition=(cohort,),
        threshold=threshold_in(study, purpose, len(cohort)),
        directory_digest=directory_digest,
        model_digest=digest_of_model(study, model),
        lanes=trained + head_lanes(study) if trains else evaluation_layout(study).lanes,
        bits=bits,
        scale=training_scale(study, len(cohort), trained) if trains else 1.0,
        limit=largest_limit(len(cohort), bits),
        minimum=study.masking.minimum_hospitals,
    )


def partition_in(
    study: StudyPlan,
    purpose: Purpose,
    asked: tuple[str, ...],
    *,
    directory_digest: str,
    round_number: int,
    attempt: int,
) -> Partition:
    """Who of those asked is summed with whom: all together, or in training the study's groups.

    Raises ProtocolViolation when they do not fill the groups.
    """
    if study.robust is None or purpose is not Purpose.TRAIN:
        return (asked,)
    due = study.robust.groups * study.masking.minimum_hospitals
    if len(asked) < due:
        raise ProtocolViolation(f"round spec: {len(asked)} hospitals, its groups need {due}")
    return partition_of(
        asked,
        study.robust.groups,
        directory_digest=directory_digest,
        purpose=purpose,
        round_number=round_number,
        attempt=attempt,
    )


def asked_in(spec: RoundSpec) -> tuple[str, ...]:
    """Everybody who is asked in the attempt that this spec is one group of, sorted."""
    return tuple(sorted(name for group in spec.partition for name in group))


def group_specs(spec: RoundSpec, study: Study, asked: tuple[str, ...]) -> tuple[RoundSpec, ...]:
    """The specs of one attempt that asks so many hospitals, one for each group.

    `spec` is that of any cohort (`attempt_spec`): partition, and what follows from a group's
    size, are set anew. Without groups there is one spec, of all. Raises as `partition_in` does.
    """
    partition = partition_in(
        study,
        spec.purpose,
        asked,
        directory_digest=spec.directory_digest,
        round_number=spec.round,
        attempt=spec.attempt,
    )
    return tuple(_spec_of_group(spec, study, group, partition) for group in partition)


def _spec_of_group(
    spec: RoundSpec, study: Study, group: tuple[str, ...], partition: Partition
) -> RoundSpec:
    trains, parameters = spec.purpose is Purpose.TRAIN, spec.lanes - head_lanes(study)
    return replace(
        spec,
        cohort=group,
        partition=partition,
        threshold=threshold_in(study, spec.purpose, len(group)),
        scale=training_scale(study, len(group), parameters) if trains else spec.scale,
        limit=largest_limit(len(group), spec.bits),
    )


def group_sizes(study: StudyPlan, hospitals: int) -> range:
    """How many are summed together in training when so many are asked."""
    if study.robust is None:
        return range(hospitals, hospitals + 1)
    return study.robust.sizes(hospitals)


def standardised_spec(
    spec: RoundSpec,
    study: Study,
    model: npt.NDArray[np.float32],
    released: ReleasedStatistics | None,
) -> RoundSpec:
    """The spec of training or evaluation, bound to the statistics by which features are scaled.

    Raises ProtocolViolation unless they are there exactly when the study standardises.
    """
    if (released is not None) != standardises(study):
        raise ProtocolViolation("round spec: released statistics come when the study standardises")
    if released is None:
        return spec  # it has the model's digest already; a large one takes time
    return replace(spec, model_digest=digest_of_model(study, model, released))


def statistics_spec(
    study: Study,
    *,
    run: str,
    session: str,
    attempt: int,
    cohort: tuple[str, ...],
    directory_digest: str,
    model: npt.NDArray[np.float32],
) -> RoundSpec:
    """The spec of a statistics attempt, which comes before training round 0 and has number 0.

    `model` is the one that the study starts with. Raises ProtocolViolation when the study asks
    for no statistics.
    """
    layout = statistics_layout(study)
    return RoundSpec(
        purpose=Purpose.STATISTICS,
        profile=study.profile_of(Purpose.STATISTICS),
        run=run,
        session=session,
        study_digest=study.digest,
        round=0,
        attempt=attempt,
        cohort=cohort,
        partition=(cohort,),
        threshold=threshold_in(study, Purpose.STATISTICS, len(cohort)),
        directory_digest=directory_digest,
        model_digest=digest_of_model(study, model),
        lanes=layout.lanes,
        bits=bits_of(study, Purpose.STATISTICS),
        scale=1.0,
        limit=largest_limit(len(cohort)),
        minimum=study.masking.minimum_hospitals,
    )


def bits_of(study: StudyPlan, purpose: Purpose) -> int:
    """How wide a lane travels: the study says it for updates; counts always have 32 bits."""
    return study.masking.bits if purpose is Purpose.TRAIN else 32


def threshold_in(study: StudyPlan, purpose: Purpose, hospitals: int) -> int:
    """How many of so many hospitals must answer for the sum of a round to open."""
    return threshold_of(study.profile_of(purpose), hospitals, study.masking.minimum_hospitals)


def honest_in(study: StudyPlan, purpose: Purpose, hospitals: int) -> int:
    """How many honest shares of noise a sum has for certain when so many hospitals are asked.

    Mechanism distributed: all that must answer but the study's colluders. Otherwise 1: each
    hospital's vector is private by itself. Raises BadInput when nobody is left, or when so many
    colluders could open two sums of one attempt: 2t > n + colluders is due (PROTOCOL 9.2).
    """
    if study.privacy.mechanism is not Mechanism.DISTRIBUTED:
        return 1
    threshold, colluders = threshold_in(study, purpose, hospitals), study.privacy.colluders
    if threshold <= colluders or 2 * threshold <= hospitals + colluders:
        raise BadInput(
            f"study {study.name}: {colluders} colluders of {hospitals} hospitals leave nobody "
            f"whose noise counts, or open two sums of one attempt (threshold {threshold})"
        )
    return threshold - colluders


def standardises(study: StudyPlan) -> bool:
    """Whether training and evaluation use features that released statistics scale."""
    return study.statistics is not None and study.statistics.standardise


def statistics_layout(study: StudyPlan) -> StatisticsLayout:
    """How the study's statistics are laid out in the vector that travels."""
    if study.statistics is None:
        raise ProtocolViolation(f"statistics: study {study.name} asks for none")
    return StatisticsLayout.of(study.contract, study.statistics)


def statistics_share_of(study: StudyPlan, hospitals: int) -> NoiseShare:
    """Each hospital's noise in its statistics, for a cohort of so many.

    Raises BadInput when the lanes cannot hold it.
    """
    return statistics_share(
        study.statistics_noise(),
        statistics_layout(study),
        hospitals=hospitals,
        honest=honest_in(study, Purpose.STATISTICS, hospitals),
    )


def statistics_noise_lanes(study: StudyPlan, released: ReleasedStatistics) -> float:
    """Standard deviation of the noise in each released sum, in lanes.

    Each share was made for the cohort that was asked; in the sum are those of its survivors.
    """
    share = statistics_share_of(study, released.asked)
    return deviation_of_sum(share, released.hospitals)


def training_scale(study: StudyPlan, hospitals: int, lanes: int) -> float:
    """What a parameter's change is multiplied by before it is rounded to a lane.

    It fits the study's bound times the largest weight, and with mechanism distributed the noise on
    top of the step.
    """
    if study.privacy.mechanism is Mechanism.DISTRIBUTED:
        return training_share(study, hospitals, lanes).scale
    weight, limit = most_weight(study), largest_limit(hospitals, study.masking.bits)
    if weight > limit:
        raise BadInput(f"study {study.name}: weights up to {weight}, a lane holds {limit}")
    return choose_scale(study.training.update_bound * weight, hospitals, study.masking.bits)


def training_share(study: StudyPlan, hospitals: int, lanes: int) -> NoiseShare:
    """Each hospital's share of the noise in a sum of `hospitals`, with mechanism distributed.

    Raises BadInput when the lanes cannot hold the study's step together with noise that the
    accountant may take for a Gaussian.
    """
    step = StepScale(
        learning_rate=study.training.learning_rate,
        clip_norm_l2=study.privacy.clip_norm_l2,
        expected_batch=study.training.expected_batch,
    )
    return noise_share(
        study.noise_multiplier(),
        step,
        most_change=study.training.update_bound,
        hospitals=hospitals,
        honest=honest_in(study, Purpose.TRAIN, hospitals),
        lanes=lanes,
        bits=study.masking.bits,
    )


def check_training(study: StudyPlan, *, most_hospitals: int, lanes: int) -> None:
    """Raise BadInput when the study's noise cannot be had for some cohort that it allows."""
    noise_multiplier = study.noise_multiplier()
    if study.rounds.count:
        evaluation_layout(study)
    of_count = study.privacy.adaptive_count_noise
    if of_count is not None and 2.0 * of_count <= noise_multiplier:
        raise BadInput(
            f"privacy: adaptive_count_noise {of_count:g} came, more than half of the noise "
            f"multiplier {noise_multiplier:g} was due, or the count alone spends it"
        )
    for hospitals in range(study.rounds.quorum, max(study.rounds.quorum, most_hospitals) + 1):
        for size in group_sizes(study, hospitals) if study.rounds.count else ():
            training_scale(study, size, lanes)
        if study.statistics is not None:
            statistics_share_of(study, hospitals)


def evaluation_layout(study: StudyPlan) -> Layout:
    """How the study's evaluation counts are laid out in the vector that travels.

    Raises BadInput for counts that no evidence log could hold.
    """
    return layout_of(study)


def check_spec(
    spec: RoundSpec,
    study: Study,
    model: npt.NDArray[np.float32],
    released: ReleasedStatistics | None = None,
) -> None:
    """Refuse a spec that is not the study's own. Raises ProtocolViolation naming the field."""
    due = _spec_due(spec, study, model, released)
    came = spec.to_json()
    for name, value in due.to_json().items():
        if came[name] != value:
            raise ProtocolViolation(f"round spec: {name} is not what the study says")
    if not set(asked_in(spec)) <= set(study.names()):
        raise ProtocolViolation("round spec: the cohort is not within the study's roster")


def _spec_due(
    spec: RoundSpec,
    study: Study,
    model: npt.NDArray[np.float32],
    released: ReleasedStatistics | None,
) -> RoundSpec:
    if spec.purpose is Purpose.STATISTICS:
        if released is not None:
            raise ProtocolViolation("round spec: released statistics came before they were asked")
        return statistics_spec(
            study,
            run=spec.run,
            session=spec.session,
            attempt=spec.attempt,
            cohort=spec.cohort,
            directory_digest=spec.directory_digest,
            model=model,
        )
    due = attempt_spec(
        study,
        run=spec.run,
        session=spec.session,
        round_number=spec.round,
        attempt=spec.attempt,
        cohort=spec.cohort,
        directory_digest=spec.directory_digest,
        model=model,
    )
    partition = _partition_due(spec, study)
    return standardised_spec(replace(due, partition=partition), study, model, released)


def _partition_due(spec: RoundSpec, study: Study) -> Partition:
    """The draw of all that are asked, recomputed: it has to hold the cohort as it came."""
    partition = partition_in(
        study,
        spec.purpose,
        asked_in(spec),
        directory_digest=spec.directory_digest,
        round_number=spec.round,
        attempt=spec.attempt,
    )
    if spec.cohort not in partition:
        raise ProtocolViolation("round spec: partition is not what the study says")
    return partition
