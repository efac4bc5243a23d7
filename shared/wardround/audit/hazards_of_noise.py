"""Hazards of the noise and of its accounting. Each asks the evidence one question."""

from collections.abc import Iterator

from wardround.audit.body_fields import Body
from wardround.audit.check_survivors import second_looks, signed_by_hospital
from wardround.audit.empirical import audits_of, noise_of
from wardround.audit.evidence import Record, ending
from wardround.audit.hazard_case import ACCOUNTS_AGREE, Case, Finding, sent
from wardround.audit.report_model import Origin, Status
from wardround.audit.shares import share_faults
from wardround.evaluation.shown import patients_in
from wardround.privacy.engine import DistributedEngine
from wardround.study.manifest import Mechanism


def no_noise(case: Case) -> Finding:
    """Every update's noise, from the hospitals' logs."""
    bare = [r for r, engine in case.trained if engine.noise_multiplier == 0]
    if not case.has_noise:
        text = "The study asks for no noise: no epsilon exists for any patient."
        return Finding(Status.FAIL, Origin.DECLARED, text, sent(bare))
    if bare:
        text = f"{len(bare)} updates left without noise, though the study promises it."
        return Finding(Status.FAIL, Origin.LOGGED, text, sent(bare))
    text = f"All {len(case.trained)} updates in the hospitals' logs carried noise."
    return Finding(Status.PASS, Origin.LOGGED, text)


def unit_is_a_person(case: Case) -> Finding:
    """What the study counts; it says so itself, and every epsilon rests on it."""
    if case.evidence.study.privacy.unit == "patient":
        text = "Epsilon counts whole patients; at most the declared records of each enter a step."
        return Finding(Status.PASS, Origin.DECLARED, text)
    text = "Epsilon counts records. A patient with k records is protected far less than it says."
    return Finding(Status.FAIL, Origin.DECLARED, text, sent(release for release, _ in case.trained))


def contribution_is_bounded(case: Case) -> Finding:
    """Clip norm and records per patient of every update, from the hospitals' logs."""
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
        return Finding(Status.FAIL, Origin.LOGGED, text, sent(loose))
    if not case.has_noise:
        text = "Without noise a clip norm bounds nothing that could be promised."
        return Finding(Status.REMARK, Origin.DECLARED, text)
    where = f"at L2 norm {privacy.clip_norm_l2:g}"
    if privacy.clipping == "adaptive":
        where = f"at an L2 norm that begins at {privacy.clip_norm_l2:g} and moves by noised counts"
    text = f"One clip per {privacy.unit} {where} in every update."
    return Finding(Status.PASS, Origin.LOGGED, text)


def delta_is_small(case: Case) -> Finding:
    """Delta against the patients that were counted, or else those that the study expects."""
    study = case.evidence.study
    if study.privacy.delta is None:
        return Finding(Status.REMARK, Origin.NOT_AVAILABLE, "No delta: the study asks for none.")
    counted = _patients_at_a_hospital(case)
    # The normaliser of a step is public, and meant to be q times the patients of a hospital.
    expected = study.training.expected_batch / study.privacy.sampling_rate
    patients = max(expected, counted or 0.0)
    origin = Origin.RECOMPUTED if patients == counted else Origin.DECLARED
    if study.privacy.delta * patients >= 1.0:
        text = (
            f"delta {study.privacy.delta:g} is at least 1/{patients:.0f}: publishing one patient "
            "outright would keep to it."
        )
        return Finding(Status.FAIL, origin, text)
    text = (
        f"delta {study.privacy.delta:g} is {1 / (study.privacy.delta * patients):.0f} times below "
        f"1/n for the {patients:.0f} patients of a hospital, the more of those that the study "
        "expects and those that were counted."
    )
    status = Status.PASS if study.privacy.delta * patients <= 0.1 else Status.REMARK
    return Finding(status, origin, text)


def _patients_at_a_hospital(case: Case) -> float | None:
    """Held-out patients over the share held out and the hospitals: what one has on average."""
    metrics, hospitals = case.evaluation.metrics, len(case.evaluation.hospitals)
    if metrics is None or not hospitals:
        return None
    held_out = case.evidence.study.evaluation.held_out
    return float(round(patients_in(metrics) / held_out / hospitals))


def sampler_is_the_accountants(case: Case) -> Finding:
    """Sampling rate and steps of every update, from the hospitals' logs."""
    study = case.evidence.study
    other = [
        release
        for release, engine in case.trained
        if engine.sampling_rate > study.privacy.sampling_rate
        or engine.steps > study.training.local_steps
    ]
    if other:
        text = f"{len(other)} updates sampled more, or took more steps, than the study says."
        return Finding(Status.FAIL, Origin.LOGGED, text, sent(other))
    text = (
        "The engines log Poisson sampling at the study's public rate, which is what the accountant "
        "assumes; the private batch sizes are committed to with a salt."
    )
    return Finding(Status.PASS, Origin.LOGGED, text)


def relation(case: Case) -> Finding:
    """What an attack with canaries in or out could show of each engine."""
    logs, run = case.evidence.hospitals.values(), case.evidence.run
    found = [record for log in logs for record in audits_of(log, run)]
    leaked = [record for record in found if record.body.verdict == "VIOLATION"]
    if leaked:
        text = (
            f"{len(leaked)} dry runs, in which canaries were in or out by coin, proved more than "
            "the accountant's add/remove neighbours allow."
        )
        return Finding(Status.FAIL, Origin.LOGGED, text, tuple(leaked))
    held = [record for record in found if record.body.verdict == "PASS"]
    if held:
        text = (
            f"{len(held)} dry runs, in which canaries were in or out by coin, kept to the "
            "accountant's add/remove neighbours, and half the noise would have shown."
        )
        return Finding(Status.PASS, Origin.LOGGED, text, tuple(held))
    text = "The accountant assumes add/remove neighbours; no dry run could have shown otherwise."
    return Finding(Status.REMARK, Origin.LOGGED if found else Origin.DECLARED, text, tuple(found))


def every_release_is_charged(case: Case) -> Finding:
    """Each hospital's own account against all that its log says it reserved."""
    short = tuple(_accounts_below_their_releases(case))
    if short:
        text = (
            f"{len(short)} hospitals' own accounts of this run name less epsilon than the releases "
            "in their logs add up to, failed and repeated ones included."
        )
        return Finding(Status.FAIL, Origin.RECOMPUTED, text, short)
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


def _accounts_below_their_releases(case: Case) -> Iterator[Record[Body]]:
    for entry in case.guarantee.hospitals:
        log = case.evidence.hospitals.get(entry.hospital)
        end = ending(log, case.evidence.run) if log else None
        if end is None or end.body.epsilon is None or entry.epsilon.value is None:
            continue
        if end.body.epsilon + ACCOUNTS_AGREE < entry.epsilon.value:
            yield end


def shares_add_up(case: Case) -> Finding:
    """The noise shares of every update, against what its cohort needed."""
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
        return Finding(Status.FAIL, Origin.RECOMPUTED, text, sent(short))
    text = (
        f"All {len(shared)} shares in the hospitals' logs are large enough that a sum has its "
        f"noise without those of {study.privacy.colluders} of its hospitals; that each was added "
        "rests on the hospitals."
    )
    return Finding(Status.PASS, Origin.RECOMPUTED, text)


def no_second_look(case: Case) -> Finding:
    """Whether a round without noise was answered twice."""
    study = case.evidence.study
    signed = signed_by_hospital(case.evidence, case.attempts)
    twice = [attempt.opened for attempt, _ in second_looks(study, case.attempts, signed)]
    if twice:
        text = "A round without noise was tried again after its sum may have been opened."
        return Finding(Status.FAIL, Origin.LOGGED, text, tuple(twice))
    if case.has_noise and study.evaluation.counts != "exact":
        text = "Repeated attempts draw fresh noise and are charged: their difference opens nothing."
        return Finding(Status.PASS, Origin.LOGGED, text)
    text = "Of no round without noise two sums were opened: no difference opens an update."
    return Finding(Status.PASS, Origin.LOGGED, text)


def randomness(case: Case) -> Finding:
    """The noise that hospitals measured; that it was random no log can prove."""
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
