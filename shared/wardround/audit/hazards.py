"""Each known way in which a guarantee goes wrong, as one small question to the evidence.

PASS: the evidence rules it out. REMARK: the reader should know, or the evidence cannot tell.
FAIL: the evidence shows it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from wardround.audit.attempts import Attempt, Release
from wardround.audit.bodies import Body
from wardround.audit.empirical import noise_of
from wardround.audit.evidence import Evidence, Record, ending
from wardround.audit.report_model import (
    Guarantee,
    Hazard,
    Origin,
    Place,
    Status,
)
from wardround.audit.shares import share_faults
from wardround.masking.round_spec import Purpose
from wardround.privacy.engine import DistributedEngine, Trained
from wardround.protocol.specs import standardises
from wardround.study.manifest import Mechanism, Model

_MOST_PLACES = 20
_SAFE_COHORT = 3
_WITHOUT_BATCH_NORM = frozenset({Model.LOGISTIC_REGRESSION, Model.MLP, Model.REFERENCE_CNN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What the hazards look at."""

    evidence: Evidence
    attempts: tuple[Attempt, ...]
    releases: Mapping[str, tuple[Release, ...]]
    guarantee: Guarantee

    @property
    def has_noise(self) -> bool:
        """Whether the study asks for noise at all."""
        return self.evidence.study.privacy.mechanism is not Mechanism.NONE

    @property
    def trained(self) -> list[tuple[Release, Trained]]:
        """Every training release that was sent, with what its engine did."""
        return [
            (release, release.engine)
            for _, found in sorted(self.releases.items())
            for release in found
            if isinstance(release.engine, Trained)
        ]


@dataclass(frozen=True, slots=True)
class Finding:
    """A status, where it comes from, why, and the entries that show it."""

    status: Status
    origin: Origin
    text: str
    records: tuple[Record[Body], ...] = ()


Question = Callable[[Case], Finding]


def hazards_of(case: Case) -> tuple[Hazard, ...]:
    """Ask every question, in the order of the list below."""
    return tuple(_answer(name, title, ask(case)) for name, title, ask in QUESTIONS)


def _answer(name: str, title: str, found: Finding) -> Hazard:
    places = tuple(Place(log=r.log, seq=r.seq) for r in found.records[:_MOST_PLACES])
    return Hazard(
        id=name,
        title=title,
        status=found.status,
        origin=found.origin,
        finding=found.text,
        evidence=places,
    )


def _no_noise(case: Case) -> Finding:
    bare = [r for r, engine in case.trained if engine.noise_multiplier == 0]
    if not case.has_noise:
        text = "The study asks for no noise: no epsilon exists for any patient."
        return Finding(Status.FAIL, Origin.DECLARED, text, _sent(bare))
    if bare:
        text = f"{len(bare)} updates left without noise, though the study promises it."
        return Finding(Status.FAIL, Origin.LOGGED, text, _sent(bare))
    text = f"All {len(case.trained)} updates in the hospitals' logs carried noise."
    return Finding(Status.PASS, Origin.LOGGED, text)


def _unit_is_a_person(case: Case) -> Finding:
    if case.evidence.study.privacy.unit == "patient":
        text = "Epsilon counts whole patients; at most the declared records of each enter a step."
        return Finding(Status.PASS, Origin.DECLARED, text)
    text = "Epsilon counts records. A patient with k records is protected far less than it says."
    return Finding(Status.REMARK, Origin.DECLARED, text)


def _contribution_is_bounded(case: Case) -> Finding:
    privacy = case.evidence.study.privacy
    loose = [
        release
        for release, engine in case.trained
        if engine.records_per_patient > privacy.records_per_patient
        or (engine.clipping != "adaptive" and (engine.clip_norm_l2 or 0.0) > privacy.clip_norm_l2)
        or (case.has_noise and engine.clip_norm_l2 is None)
    ]
    if loose:
        text = f"{len(loose)} updates were clipped more loosely than the study says."
        return Finding(Status.FAIL, Origin.LOGGED, text, _sent(loose))
    if not case.has_noise:
        text = "Without noise a clip norm bounds nothing that could be promised."
        return Finding(Status.REMARK, Origin.DECLARED, text)
    where = f"at L2 norm {privacy.clip_norm_l2:g}"
    if privacy.clipping == "adaptive":
        where = f"at an L2 norm that begins at {privacy.clip_norm_l2:g} and moves by noised counts"
    text = f"One clip per {privacy.unit} {where} in every update."
    return Finding(Status.PASS, Origin.LOGGED, text)


def _delta_is_small(case: Case) -> Finding:
    study = case.evidence.study
    if study.privacy.delta is None:
        return Finding(Status.REMARK, Origin.NOT_AVAILABLE, "No delta: the study asks for none.")
    # The normaliser of a step is public, and meant to be q times the patients of a hospital.
    patients = study.training.expected_batch / study.privacy.sampling_rate
    if study.privacy.delta * patients >= 1.0:
        text = (
            f"delta {study.privacy.delta:g} is at least 1/{patients:.0f}: publishing one patient "
            "outright would keep to it."
        )
        return Finding(Status.FAIL, Origin.DECLARED, text)
    text = (
        f"delta {study.privacy.delta:g} is {1 / (study.privacy.delta * patients):.0f} times below "
        f"1/n for the {patients:.0f} patients that the study expects at a hospital."
    )
    status = Status.PASS if study.privacy.delta * patients <= 0.1 else Status.REMARK
    return Finding(status, Origin.DECLARED, text)


def _sampler_is_the_accountants(case: Case) -> Finding:
    study = case.evidence.study
    other = [
        release
        for release, engine in case.trained
        if engine.sampling_rate > study.privacy.sampling_rate
        or engine.steps > study.training.local_steps
    ]
    if other:
        text = f"{len(other)} updates sampled more, or took more steps, than the study says."
        return Finding(Status.FAIL, Origin.LOGGED, text, _sent(other))
    text = (
        "The engines log Poisson sampling at the study's public rate, which is what the accountant "
        "assumes; the private batch sizes are committed to with a salt."
    )
    return Finding(Status.PASS, Origin.LOGGED, text)


def _relation(case: Case) -> Finding:
    text = "Accountant, sampler and normaliser agree on add/remove neighbours."
    return Finding(Status.PASS if case.has_noise else Status.REMARK, Origin.DECLARED, text)


def _every_release_is_charged(case: Case) -> Finding:
    unsent = [r for found in case.releases.values() for r in found if r.sent is None]
    opened = {attempt.transcript for attempt in case.attempts if attempt.counted}
    wasted = [r for found in case.releases.values() for r in found if r.transcript not in opened]
    text = (
        f"{len(wasted)} releases for attempts that came to nothing, and {len(unsent)} reserved "
        "without a word that they were sent, are counted as spent."
    )
    if not wasted and not unsent:
        text = "Every release became part of a sum, and every one is counted."
    return Finding(Status.PASS, Origin.RECOMPUTED, text, tuple(r.reserved for r in wasted))


def _shares_add_up(case: Case) -> Finding:
    study = case.evidence.study
    if study.privacy.mechanism is not Mechanism.DISTRIBUTED:
        text = "No update counts on noise that others add."
        return Finding(Status.PASS, Origin.DECLARED, text)
    specs = {attempt.transcript: attempt.spec for attempt in case.attempts}
    shared = [
        (release, engine, specs[release.transcript])
        for release, engine in case.trained
        if isinstance(engine, DistributedEngine) and release.transcript in specs
    ]
    short = [release for release, engine, spec in shared if any(share_faults(study, spec, engine))]
    if short:
        text = (
            f"{len(short)} updates carried a smaller share of the noise than their cohort needs: "
            "they counted on more honest hospitals, or on less influence of one patient."
        )
        return Finding(Status.FAIL, Origin.RECOMPUTED, text, _sent(short))
    text = (
        f"All {len(shared)} shares in the hospitals' logs are large enough that a sum has its "
        f"noise without those of {study.privacy.colluders} of its hospitals; that each was added "
        "rests on the hospitals."
    )
    return Finding(Status.PASS, Origin.RECOMPUTED, text)


def _no_second_look(case: Case) -> Finding:
    if case.has_noise:
        text = "Repeated attempts draw fresh noise and are charged: their difference hides nothing."
        return Finding(Status.PASS, Origin.LOGGED, text)
    seen: dict[tuple[str, int], int] = {}
    for attempt in case.attempts:
        answered = bool(attempt.received)
        key = (attempt.spec.purpose.value, attempt.spec.round)
        seen[key] = seen.get(key, 0) + answered
    twice = sorted(key for key, count in seen.items() if count > 1)
    if twice:
        text = "A round without noise was answered twice: two sums may open one hospital's update."
        return Finding(Status.FAIL, Origin.LOGGED, text)
    text = "No round was answered twice, so that no difference of two sums opens an update."
    return Finding(Status.PASS, Origin.LOGGED, text)


def _sums_are_of_many(case: Case) -> Finding:
    small = [a for a in case.attempts if a.counted and len(a.spec.cohort) < _SAFE_COHORT]
    if small:
        text = f"{len(small)} sums were of two hospitals: each can subtract its own part."
        return Finding(Status.REMARK, Origin.LOGGED, text, tuple(a.opened for a in small))
    least = min((len(a.spec.cohort) for a in case.attempts if a.counted), default=0)
    if not least:
        return Finding(Status.PASS, Origin.LOGGED, "No sum was opened.")
    return Finding(Status.PASS, Origin.LOGGED, f"Every sum was of at least {least} hospitals.")


def _metrics_are_noised(case: Case) -> Finding:
    if not case.evidence.study.rounds.count:
        return Finding(Status.PASS, Origin.DECLARED, "The study evaluates no model.")
    if case.evidence.study.evaluation.counts == "noised":
        text = "Evaluation counts carry noise, and their epsilon is charged."
        return Finding(Status.PASS, Origin.DECLARED, text)
    text = (
        "Pooled counts of held-out patients were opened without noise, as the study says openly. "
        "They come on top of epsilon."
    )
    return Finding(Status.REMARK, Origin.DECLARED, text)


def _no_batch_norm(case: Case) -> Finding:
    model = case.evidence.study.task.model
    if model in _WITHOUT_BATCH_NORM:
        text = f"The installed network {model} has no layer that mixes the patients of a batch."
        return Finding(Status.PASS, Origin.DECLARED, text)
    text = f"Network {model} is unknown to this verifier: it may mix the patients of a batch."
    return Finding(Status.REMARK, Origin.NOT_AVAILABLE, text)


def _preprocessing_is_public(case: Case) -> Finding:
    if standardises(case.evidence.study):
        counted = tuple(
            attempt.end
            for attempt in case.attempts
            if attempt.end and attempt.purpose is Purpose.STATISTICS and attempt.counted
        )
        if not counted:
            text = "The study scales by statistics, and the logs show none that were opened."
            return Finding(Status.FAIL, Origin.LOGGED, text)
        text = (
            "Scaling came from statistics that carry noise and are charged to every patient; "
            "missing codes come from the contract."
        )
        return Finding(Status.PASS, Origin.LOGGED, text, counted)
    text = "Scaling and missing codes come from the contract's declared ranges, not from the data."
    return Finding(Status.PASS, Origin.DECLARED, text)


def _stopping_was_planned(case: Case) -> Finding:
    planned = case.evidence.study.rounds.count
    closed = sum(attempt.trains and attempt.counted for attempt in case.attempts)
    if closed == planned:
        text = f"All {planned} planned rounds were run: nobody stopped at a good result."
        return Finding(Status.PASS, Origin.RECOMPUTED, text)
    text = f"{closed} of {planned} planned rounds were closed; the logs do not say who decided."
    return Finding(Status.REMARK, Origin.RECOMPUTED, text)


def _budget_was_not_reset(case: Case) -> Finding:
    spent = {entry.hospital: entry for entry in case.guarantee.hospitals}
    ends = {
        name: end
        for name, log in sorted(case.evidence.hospitals.items())
        if (end := ending(log, case.evidence.run)) and end.body.epsilon_dataset is not None
    }
    wrong = [
        end
        for name, end in ends.items()
        if (end.body.epsilon_dataset or 0.0) + 1e-3 < (spent[name].epsilon.value or 0.0)
    ]
    if wrong:
        text = "A ledger counts less for its dataset than this run alone has spent."
        return Finding(Status.FAIL, Origin.LOGGED, text, tuple(wrong))
    if not ends:
        text = "No hospital's log says what its dataset has spent over all studies."
        return Finding(Status.REMARK, Origin.NOT_AVAILABLE, text)
    text = f"{len(ends)} ledgers count at least what this run spent, over all studies."
    return Finding(Status.PASS, Origin.LOGGED, text, tuple(ends.values()))


def _tuning(_: Case) -> Finding:
    text = (
        "Whether other settings were tried on these patients without being charged cannot be seen "
        "in the evidence of one run, and nobody declares it."
    )
    return Finding(Status.REMARK, Origin.NOT_AVAILABLE, text)


def _two_hospitals(_: Case) -> Finding:
    text = (
        "A patient known to several hospitals is one patient at each: their epsilons add up, and "
        "no log shows who is shared."
    )
    return Finding(Status.REMARK, Origin.NOT_AVAILABLE, text)


def _timing(_: Case) -> Finding:
    text = "Who took part and when it answered are visible to the coordinator and in the logs."
    return Finding(Status.REMARK, Origin.LOGGED, text)


def _randomness(case: Case) -> Finding:
    found = [noise_of(log, case.evidence.run) for log in case.evidence.hospitals.values()]
    measured = [record for record in found if record is not None]
    short = [record for record in measured if record.body.verdict == "VIOLATION"]
    if short:
        text = f"{len(short)} hospitals measured less noise in their run than they claim for it."
        return Finding(Status.FAIL, Origin.LOGGED, text, tuple(short))
    text = (
        "Noise and sampling draw on the operating system's generator; that is how the installed "
        "code works, and no log can prove what was drawn."
    )
    seen = [record for record in measured if record.body.verdict == "PASS"]
    if seen:
        least = min(record.body.sigma_ratio for record in seen)
        text += (
            f" {len(seen)} hospitals measured at least {least:.3f} of the noise they claim, on "
            "values drawn beside it."
        )
    return Finding(Status.REMARK, Origin.LOGGED if seen else Origin.DECLARED, text, tuple(seen))


def _checkpoints_on_disk(_: Case) -> Finding:
    text = "What a hospital keeps on its own disks is outside this evidence."
    return Finding(Status.REMARK, Origin.NOT_AVAILABLE, text)


def _small_groups(_: Case) -> Finding:
    text = "Whether noise cost small groups more than others was not measured in this run."
    return Finding(Status.REMARK, Origin.NOT_AVAILABLE, text)


def _sent(releases: list[Release]) -> tuple[Record[Body], ...]:
    return tuple(release.sent for release in releases if release.sent is not None)


QUESTIONS: tuple[tuple[str, str, Question], ...] = (
    ("no-noise", "An update left without noise", _no_noise),
    ("unit", "The unit of privacy is not the person", _unit_is_a_person),
    ("contribution", "One person's influence is not bounded", _contribution_is_bounded),
    ("delta", "Delta is as large as one over the number of patients", _delta_is_small),
    ("sampler", "The sampler is not the accountant's", _sampler_is_the_accountants),
    ("relation", "The neighbour relation is not the accountant's", _relation),
    ("charged", "Failed or repeated rounds are not charged", _every_release_is_charged),
    ("noise-share", "The shares of noise in a sum are too small", _shares_add_up),
    ("second-look", "Two sums of one round open an update", _no_second_look),
    ("small-sum", "A sum of too few hospitals", _sums_are_of_many),
    ("metrics", "Metrics left without noise", _metrics_are_noised),
    ("batch-norm", "A layer mixes patients (BatchNorm)", _no_batch_norm),
    ("preprocessing", "Preprocessing depends on the data", _preprocessing_is_public),
    ("stopping", "Stopping depended on the results", _stopping_was_planned),
    ("budget", "The budget was reset or forgotten", _budget_was_not_reset),
    ("tuning", "Tuning on the same patients was not charged", _tuning),
    ("two-hospitals", "Patients known to two hospitals", _two_hospitals),
    ("timing", "Timing and participation", _timing),
    ("randomness", "Weak randomness or floating-point noise", _randomness),
    ("raw-checkpoints", "Raw checkpoints on disk", _checkpoints_on_disk),
    ("small-groups", "Utility lost for small groups", _small_groups),
)
