"""Epsilon from what the engines DID, never from what the study asked for."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from wardround.audit import guarantee_words as words
from wardround.audit.attack_curve import AttackLimits, attack_limits
from wardround.audit.attempts import Attempt, Release
from wardround.audit.bodies import Gaussian
from wardround.audit.evidence import Evidence, ending
from wardround.audit.guarantee_words import NO_LOG
from wardround.audit.report_model import (
    Figure,
    Guarantee,
    GuaranteeClass,
    HospitalGuarantee,
    Origin,
    declared,
    logged,
    not_available,
    recomputed,
)
from wardround.masking.round_spec import Purpose
from wardround.privacy.accounting import (
    epsilon_by_rdp,
    epsilon_spent,
    gaussian_count_noise,
)
from wardround.privacy.engine import Trained
from wardround.privacy.mechanism import Exact, Mechanism, SampledGaussian
from wardround.study import manifest
from wardround.study.manifest import Study

EPSILON_DIGITS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What one hospital's patients were exposed to, as the accountants read it.

    `declared` says that a hospital's own log is missing, so that the study's numbers stand in for
    its engine's.
    """

    training: tuple[Mechanism, ...]
    evaluation: tuple[Mechanism, ...]
    statistics: tuple[Mechanism, ...]
    noises: tuple[float, ...]
    unsent: int
    steps: int
    declared: bool

    def epsilons(self, delta: float) -> tuple[float, float]:
        """The worst-off patient's epsilon by PLD, and by RDP as the bound above it.

        A patient trains or is held out, for ever, never both: so the two groups compose in
        parallel, and the larger epsilon counts, as in the hospital's ledger; statistics touch
        both. (McSherry 2009, theorem 4)
        """
        training = composed_epsilons(_gaussians((*self.training, *self.statistics)), delta)
        evaluation = composed_epsilons(_gaussians((*self.evaluation, *self.statistics)), delta)
        return max(training[0], evaluation[0]), max(training[1], evaluation[1])

    def attack_limits(self, delta: float) -> AttackLimits:
        """How far any attack on a patient of the worse-off group gets."""
        groups = [
            _gaussians((*group, *self.statistics)) for group in (self.training, self.evaluation)
        ]
        return attack_limits(max(groups, key=lambda group: composed_epsilons(group, delta)[0]))

    def training_epsilon(self, delta: float) -> float:
        """What the training releases alone spent: this is what the study's ceiling is for."""
        return composed_epsilons(_gaussians(self.training), delta)[0]

    def statistics_epsilon(self, delta: float) -> float:
        """What the statistics alone spent, which have a ceiling of their own."""
        return composed_epsilons(_gaussians(self.statistics), delta)[0]


@lru_cache(maxsize=256)
def composed_epsilons(releases: tuple[SampledGaussian, ...], delta: float) -> tuple[float, float]:
    """PLD and RDP of sorted releases. Hospitals of one study mostly share them: hence the cache."""
    return epsilon_spent(releases, delta=delta), epsilon_by_rdp(releases, delta=delta)


def charge_of_log(study: Study, releases: Iterable[Release]) -> Charge:
    """Everything that a hospital reserved counts as spent, sent or not."""
    found = tuple(releases)
    engines = [release.engine for release in found]
    trained = [engine for engine in engines if isinstance(engine, Trained)]
    charged = {
        purpose: tuple(_charged(study, r) for r in found if r.purpose is purpose)
        for purpose in Purpose
    }
    return Charge(
        training=charged[Purpose.TRAIN],
        evaluation=charged[Purpose.EVALUATE],
        statistics=charged[Purpose.STATISTICS],
        noises=tuple(engine.noise_multiplier for engine in trained),
        unsent=sum(release.sent is None for release in found),
        steps=sum(engine.steps for engine in trained),
        declared=False,
    )


def charge_without_log(study: Study, hospital: str, attempts: Iterable[Attempt]) -> Charge:
    """Every attempt that asked the hospital counts, with the study's own mechanism."""
    asked = [a.purpose for a in attempts if hospital in a.spec.cohort]
    trained = asked.count(Purpose.TRAIN)
    charged = {
        purpose: tuple(planned_mechanism(study, each) for each in asked if each is purpose)
        for purpose in Purpose
    }
    return Charge(
        training=charged[Purpose.TRAIN],
        evaluation=charged[Purpose.EVALUATE],
        statistics=charged[Purpose.STATISTICS],
        noises=(),
        unsent=0,
        steps=study.training.local_steps * trained,
        declared=True,
    )


@lru_cache(maxsize=16)
def planned_mechanism(study: Study, purpose: Purpose) -> Mechanism:
    """What the study says that one release is."""
    if purpose is Purpose.STATISTICS:
        return Exact() if study.statistics is None else study.release_of_statistics()
    if purpose is Purpose.TRAIN:
        if study.privacy.mechanism is manifest.Mechanism.NONE:
            return Exact()
        return study.release_of_one_attempt()
    epsilon = study.evaluation.epsilon
    if epsilon is None or study.privacy.delta is None:
        return Exact()
    return SampledGaussian(gaussian_count_noise(epsilon, study.privacy.delta), 1.0, 1)


def rounded_up(epsilon: float) -> float:
    """Four decimals, never less than what came in: a printed epsilon may not flatter.

    >>> rounded_up(2.50001), rounded_up(2.5)
    (2.5001, 2.5)
    """
    # The last bits of a PLD differ between machines: what is 1e-9 above a step is that step.
    ticks = 10**EPSILON_DIGITS
    return math.ceil(round(epsilon * ticks, 5)) / ticks


def odds_of_100(epsilon: float) -> int:
    """Where a guesser who starts at 50 of 100 can get at most, rounded up.

    (Nanayakkara et al. 2023; Kasiviswanathan and Smith 2014)

    >>> odds_of_100(1.0), odds_of_100(0.0), odds_of_100(50.0)
    (74, 50, 100)
    """
    return min(100, math.ceil(round(100.0 / (1.0 + math.exp(-epsilon)), 6)))


def guarantee_of(
    evidence: Evidence, charges: Mapping[str, Charge], *, accountant: str
) -> Guarantee:
    """Section B of the report; `accountant` names who computed epsilon."""
    study = evidence.study
    hospitals = tuple(_hospital(evidence, name, charge) for name, charge in sorted(charges.items()))
    kind = _kind(study, charges)
    worst = _worst(hospitals) if kind is GuaranteeClass.FORMAL_DP else None
    epsilon = worst.epsilon if worst else not_available("nothing was noised: no epsilon exists")
    odds = _odds(epsilon)
    delta = study.privacy.delta
    limits = AttackLimits()
    if worst is not None and delta is not None:
        limits = charges[worst.hospital].attack_limits(delta)
    used = "trained the model" if study.rounds.count else "was counted"
    return Guarantee(
        kind=kind,
        headline=words.headline(kind, study),
        scope=words.scope(kind, study, evidence),
        unit=study.privacy.unit,
        unit_in_words=words.unit_in_words(study, kind),
        mechanism=study.privacy.mechanism.value,
        mechanism_in_words=words.mechanism_in_words(study),
        masking_in_words=words.masking_in_words(study),
        accountant=accountant,
        epsilon=epsilon,
        delta=worst.delta if worst else not_available("no guarantee, so no delta"),
        epsilon_ceiling=declared(study.privacy.epsilon, "the study's ceiling for training"),
        worst_hospital=worst.hospital if worst else None,
        odds_percent=odds,
        odds_in_words=words.odds_in_words(odds, used),
        attack_curve=limits.points,
        right_of_100=limits.right(odds.origin),
        found_in_words=limits.found_in_words(),
        clip_norm_l2=declared(study.privacy.clip_norm_l2),
        sampling_rate=declared(study.privacy.sampling_rate),
        records_per_patient=declared(study.privacy.records_per_patient),
        hospitals=hospitals,
    )


def _charged(study: Study, release: Release) -> Mechanism:
    """The less private of what was reserved and what was done, as the ledger charges it."""
    done = release.engine.released if release.engine else None
    reserved = _reserved(release)
    if done is None:
        # Reserved, and nothing says that it left: it counts as if it had.
        return reserved or planned_mechanism(study, release.purpose)
    if reserved is None or isinstance(done, Exact):
        return done
    return SampledGaussian(
        min(reserved.noise_multiplier, done.noise_multiplier),
        max(reserved.sampling_rate, done.sampling_rate),
        max(reserved.steps, done.steps),
        max(reserved.truncation, done.truncation),
    )


def _reserved(release: Release) -> SampledGaussian | None:
    mechanism = release.reserved.body.mechanism
    return SampledGaussian(**mechanism.model_dump()) if isinstance(mechanism, Gaussian) else None


def _gaussians(mechanisms: Iterable[Mechanism]) -> tuple[SampledGaussian, ...]:
    return tuple(sorted(found for found in mechanisms if isinstance(found, SampledGaussian)))


def _kind(study: Study, charges: Mapping[str, Charge]) -> GuaranteeClass:
    if study.privacy.mechanism is manifest.Mechanism.NONE:
        return GuaranteeClass.NONE
    noised = all(noise > 0 for charge in charges.values() for noise in charge.noises)
    formal = noised and _bounded(study, charges)
    return GuaranteeClass.FORMAL_DP if formal else GuaranteeClass.NONE


def _bounded(study: Study, charges: Mapping[str, Charge]) -> bool:
    """Whether an epsilon exists: noise of nearly nothing, or batches cut too often, have none."""
    delta = study.privacy.delta
    return delta is not None and all(
        math.isfinite(charge.epsilons(delta)[0]) for charge in charges.values()
    )


def _hospital(evidence: Evidence, name: str, charge: Charge) -> HospitalGuarantee:
    study = evidence.study
    end = ending(evidence.hospitals[name], evidence.run) if name in evidence.hospitals else None
    dataset = end.body.epsilon_dataset if end else None
    spent = logged(None if dataset is None else rounded_up(dataset), "its ledger, over all studies")
    budget = logged(end.body.epsilon_budget if end else None, "its own limit for this dataset")
    epsilon, rdp = _epsilons(study, charge)
    origin = Origin.DECLARED if charge.declared else Origin.RECOMPUTED
    note = f"{NO_LOG}: counted with the study's numbers" if charge.declared else ""
    return HospitalGuarantee(
        hospital=name,
        epsilon=epsilon,
        epsilon_rdp=rdp,
        delta=declared(study.privacy.delta, "set by the study"),
        releases=Figure(
            value=len((*charge.training, *charge.evaluation, *charge.statistics)),
            origin=origin,
            note=note,
        ),
        unsent=not_available(NO_LOG) if charge.declared else recomputed(charge.unsent),
        steps=Figure(value=charge.steps, origin=origin, note=note),
        noise_multiplier=_noise(charge),
        epsilon_dataset=spent,
        epsilon_budget=budget,
        budget_left=_left(budget, spent),
    )


def _epsilons(study: Study, charge: Charge) -> tuple[Figure, Figure]:
    delta = study.privacy.delta
    if delta is None or any(isinstance(release, Exact) for release in charge.training):
        reason = "updates left without noise"
        return not_available(reason), not_available(reason)
    origin = Origin.DECLARED if charge.declared else Origin.RECOMPUTED
    note = f"{NO_LOG}: the study's noise is taken" if charge.declared else ""
    by_pld, by_rdp = charge.epsilons(delta)
    return (
        _epsilon(by_pld, origin, note),
        _epsilon(by_rdp, origin, "second accountant, an upper bound"),
    )


def _epsilon(epsilon: float, origin: Origin, note: str) -> Figure:
    if not math.isfinite(epsilon):
        return not_available("the noise bounds no epsilon")
    return Figure(value=rounded_up(epsilon), origin=origin, note=note)


def _noise(charge: Charge) -> Figure:
    if not charge.noises:
        return not_available(NO_LOG if charge.declared else "no training release was sent")
    return recomputed(min(charge.noises), "the least of its releases")


def _left(budget: Figure, spent: Figure) -> Figure:
    if budget.value is None or spent.value is None:
        return not_available("its log does not say")
    return logged(round(max(0.0, budget.value - spent.value), EPSILON_DIGITS))


def _worst(hospitals: tuple[HospitalGuarantee, ...]) -> HospitalGuarantee | None:
    with_epsilon = [entry for entry in hospitals if entry.epsilon.value is not None]
    return max(with_epsilon, key=lambda entry: entry.epsilon.value or 0.0, default=None)


def _odds(epsilon: Figure) -> Figure:
    if epsilon.value is None:
        return not_available("without an epsilon no limit can be named")
    return Figure(value=odds_of_100(epsilon.value), origin=epsilon.origin)
