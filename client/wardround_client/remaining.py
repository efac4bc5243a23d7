"""What a study may still release of a dataset, by the dataset's ledger. Pure functions."""

from collections.abc import Iterable, Sequence

from wardround.canonical import digest
from wardround.privacy.accounting import gaussian_count_noise
from wardround.privacy.mechanism import SampledGaussian
from wardround.study.manifest import Mechanism, Study
from wardround_client.data.description import DatasetDescription
from wardround_client.ledger import Purpose, Release


def attempts_used(study: Study, releases: Iterable[Release]) -> int:
    """Training releases of this study that were charged, in any run of it."""
    return sum(
        release.study_digest == study.digest and release.purpose is Purpose.TRAIN
        for release in releases
    )


def training_left(study: Study, releases: Iterable[Release]) -> list[SampledGaussian]:
    """The noised training releases that the study's epsilon still covers."""
    if study.privacy.mechanism is Mechanism.NONE or not study.attempts:
        return []
    left = max(0, study.attempts - attempts_used(study, releases))
    return [study.release_of_one_attempt()] * left


def evaluation_left(study: Study, releases: Iterable[Release]) -> list[SampledGaussian]:
    """The noised evaluation that is still to come; none when counts are exact or it was done."""
    plan = study.evaluation
    if plan.epsilon is None or study.privacy.delta is None or not study.rounds.count:
        return []
    done = any(
        release.study_digest == study.digest and release.purpose is Purpose.EVALUATE
        for release in releases
    )
    noise = gaussian_count_noise(plan.epsilon, study.privacy.delta)
    return [] if done else [SampledGaussian(noise, 1.0, 1)]


def statistics_left(study: Study, releases: Iterable[Release]) -> list[SampledGaussian]:
    """The statistics attempts that their epsilon still covers; none when the study asks for none.

    Each that was charged counts, in any run of the study.
    """
    plan = study.statistics
    if plan is None:
        return []
    used = sum(
        release.study_digest == study.digest and release.purpose is Purpose.STATISTICS
        for release in releases
    )
    return [study.release_of_statistics()] * max(0, plan.attempts - used)


def split_name(description: DatasetDescription, held_out: float) -> str:
    """The name of the split for the ledger: two studies with one name share the split.

    Who is held out follows from the patient's key. Another column for a key, or another kind of
    file that may spell it otherwise, deals the patients anew, and then the name is another one.
    """
    named = {"format": description.format, "source": description.patient.source}
    return f"{_drawn(description.dataset, held_out)} by {digest(named)[:16]}"


def split_so_far(releases: Sequence[Release], dataset: str, held_out: float) -> str:
    """The split that the last releases had, for a forecast that knows no description."""
    drawn = _drawn(dataset, held_out)
    return next((r.split for r in reversed(releases) if r.split.startswith(drawn)), drawn)


def _drawn(dataset: str, held_out: float) -> str:
    return f"{dataset} {held_out:.6f}"
