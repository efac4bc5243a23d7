"""The attack tests from a hospital's own records to the outcome. Nothing of it leaves."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput
from wardround.evaluation.intervals import auroc_interval
from wardround.models.networks import build
from wardround.privacy.accounting import epsilon_spent
from wardround.privacy.attack_bounds import (
    ALPHA,
    ALPHA_OF_READINGS,
    FALSE_POSITIVE_RATES,
    NO_LEAK,
    NamingRule,
    advantage,
    advantage_most,
    auroc,
    auroc_most,
    naming_rule,
    operating_point,
)
from wardround.privacy.mechanism import SampledGaussian
from wardround.privacy.trade_off import TradeOff, profile_curve, trade_off
from wardround.privacy.verdict import Verdict
from wardround.randomness import Randomness, system_randomness
from wardround.study.manifest import Mechanism, Study
from wardround_client.attacks.engine import attack_engine
from wardround_client.attacks.inversion import has_closed_form
from wardround_client.attacks.membership import LikelihoodRatio, scores_of
from wardround_client.attacks.messages import Sender, Stage
from wardround_client.attacks.outcome import AttackOutcome, Claim, MembershipTest
from wardround_client.attacks.reconstruction import TRIALS, Reading, read_messages
from wardround_client.attacks.released import ReleasedModel
from wardround_client.attacks.shadows import Shadow, shadows
from wardround_client.attacks.subjects import Subjects, choose_subjects, of_patients
from wardround_client.records import StudyRecords, standardised
from wardround_client.training.learning import looked_at, trained_part
from wardround_client.training.plan import PatientRecords

Values = npt.NDArray[np.float64]
SHADOWS = 16
_TESTS_OF_A_MEMBERSHIP_ATTACK = 1 + len(FALSE_POSITIVE_RATES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The claim as curves, and the part of the error that each test gets.

    Without a claim everything is held against no leak at all.
    """

    run: TradeOff
    message: TradeOff
    claim: Claim
    memberships: int
    readings: int

    @property
    def tests(self) -> int:
        """How many there are: counted before any is run."""
        return self.memberships + self.readings

    @property
    def alpha_of_membership(self) -> float:
        """What each test of the released model gets (Bonferroni, with weights)."""
        return (ALPHA - ALPHA_OF_READINGS) / self.memberships

    @property
    def alpha_of_reading(self) -> float:
        """What each reading of a message gets."""
        return ALPHA_OF_READINGS / max(self.readings, 1)


def _silently(_: str) -> None:
    """Nobody listens."""


def attack(
    study: Study,
    hospital: str,
    records: StudyRecords,
    released: ReleasedModel,
    *,
    shadow_models: int = SHADOWS,
    trials: int = TRIALS,
    randomness: Randomness = system_randomness,
    tell: Callable[[str], None] = _silently,
) -> AttackOutcome:
    """Attack the released model, and one message of this hospital, with its own patients.

    `tell` hears, after the first shadow models, how long all of them will take.

    Raises BadInput for a study whose unit is the record (patients are in or out, records are
    not), and for an odd number of shadow models, since they come in pairs.
    """
    started_s = time.perf_counter()
    _check(study, shadow_models)
    if released.scales:
        records = standardised(records, released.scales, study.contract)
    seed = bytes.fromhex(study.digest) + bytes.fromhex(released.sha256)
    subjects = choose_subjects(records, held_out=study.evaluation.held_out, seed=seed)
    bounds = bounds_of(study, shadow_models=shadow_models)
    trained = shadows(study, subjects, pairs=shadow_models // 2, randomness=randomness)
    membership = _membership(
        study, subjects, released, bounds, _timed(trained, shadow_models, tell)
    )
    return AttackOutcome(
        study=study.name,
        study_digest=study.digest,
        run=released.run,
        model_sha256=released.sha256,
        claim=bounds.claim,
        alpha=ALPHA,
        tests=bounds.tests,
        shadows=shadow_models,
        members=int(subjects.subject_members.sum()),
        others=int((~subjects.subject_members).sum()),
        membership=membership,
        reconstruction=_reconstruction(
            Sender(study, hospital, randomness), records.train, bounds, trials, randomness
        ),
        canaries=attack_engine(study, randomness=randomness),
        seconds=round(time.perf_counter() - started_s, 2),
    )


def _check(study: Study, shadow_models: int) -> None:
    if study.privacy.unit != "patient":
        raise BadInput(f"attack tests: unit {study.privacy.unit} came, patient was due")
    if shadow_models % 2 or shadow_models < 0:
        raise BadInput(f"shadow models: {shadow_models} came, an even number or 0 was due")


def bounds_of(study: Study, *, shadow_models: int) -> Bounds:
    """What the study claims of its whole training, and of one message. All of it is public."""
    closed = has_closed_form(build(study))
    attacks = 1 + bool(shadow_models) + closed
    private = study.privacy.mechanism is not Mechanism.NONE
    run = message = NO_LEAK
    if private:
        one = study.release_of_one_attempt()
        steps = one.steps * study.attempts
        run, message = _curve(study, one, steps), _curve(study, one, one.steps)
    claim = Claim(
        epsilon=study.privacy.epsilon if private else None,
        delta=study.privacy.delta if private else None,
        auroc_most=auroc_most(run),
        advantage_most=advantage_most(run),
    )
    return Bounds(
        run=run,
        message=message,
        claim=claim,
        memberships=attacks * _TESTS_OF_A_MEMBERSHIP_ATTACK,
        readings=1 + private if closed else 0,
    )


def _curve(study: Study, one: SampledGaussian, steps: int) -> TradeOff:
    """The claim's curve; of cut batches only the one point (epsilon, delta) of the study."""
    if not one.truncation:
        return trade_off(SampledGaussian(one.noise_multiplier, one.sampling_rate, steps))
    epsilon, delta = study.privacy.epsilon or 0.0, study.privacy.delta or 0.0
    return profile_curve(np.array([epsilon]), np.array([delta]))


def _membership(
    study: Study,
    subjects: Subjects,
    released: ReleasedModel,
    bounds: Bounds,
    trained: Iterator[Shadow],
) -> tuple[MembershipTest, ...]:
    members = subjects.subject_members
    # By the number of subjects alone, before any of them is scored.
    rule = naming_rule(len(members), bounds.run, alpha=bounds.alpha_of_membership)
    if rule is None or not members.any() or members.all():
        return (_nobody("loss threshold"),)
    attacked, loss = looked_at(of_patients(subjects.patients, subjects.places), study)
    ratio = LikelihoodRatio(attacked, loss)
    for shadow in trained:
        ratio.see(shadow)
    seen = ratio if ratio.shadows else None
    ended, start = (trained_part(network, study) for network in (released.network, build(study)))
    scores = scores_of(ended, start, attacked, seen, loss)
    return tuple(_judged(name, values, members, rule, bounds) for name, values in scores)


def _timed(trained: Iterator[Shadow], count: int, tell: Callable[[str], None]) -> Iterator[Shadow]:
    """The same, and a word on the time once the first pair is there."""
    started_s = time.perf_counter()
    for number, shadow in enumerate(trained, start=1):
        if number == 2 < count:
            seconds = (time.perf_counter() - started_s) * count / 2
            tell(f"{count} shadow models take about {seconds:.0f} s")
        yield shadow


def _nobody(attack_name: str) -> MembershipTest:
    return MembershipTest(
        attack=attack_name,
        auroc=None,
        auroc_interval=None,
        advantage=None,
        points=(),
        rule=None,
        right=None,
        p_of_claim=None,
        unseen_epsilon=None,
        verdict=Verdict.INCONCLUSIVE,
    )


def _judged(
    name: str,
    scores: Values,
    members: npt.NDArray[np.bool_],
    rule: NamingRule,
    bounds: Bounds,
) -> MembershipTest:
    """VIOLATION: a test refutes the claim. PASS: none does, and a large leak would have shown."""
    inside, outside = scores[members], scores[~members]
    area, right = auroc(inside, outside), rule.right(scores, members)
    points = tuple(
        operating_point(inside, outside, bounds.run, rate=rate, alpha=bounds.alpha_of_membership)
        for rate in FALSE_POSITIVE_RATES
    )
    verdict = Verdict.PASS if rule.conclusive else Verdict.INCONCLUSIVE
    if right >= rule.critical or any(point.violates for point in points):
        verdict = Verdict.VIOLATION
    return MembershipTest(
        attack=name,
        auroc=area,
        auroc_interval=auroc_interval(area, len(inside), len(outside)),
        advantage=advantage(inside, outside, alpha=ALPHA),
        points=points,
        rule=rule,
        right=right,
        p_of_claim=rule.p_of_claim(right, bounds.run),
        unseen_epsilon=_epsilon_of_shift(rule.unseen_shift, bounds.claim.delta),
        verdict=verdict,
    )


def _epsilon_of_shift(shift: float | None, delta: float | None) -> float | None:
    """The epsilon of one Gaussian release whose best attack has scores shifted by so much."""
    if shift is None or delta is None:
        return None
    return epsilon_spent([SampledGaussian(1.0 / shift, 1.0, 1)], delta=delta)


def _reconstruction(
    sender: Sender, patients: PatientRecords, bounds: Bounds, trials: int, randomness: Randomness
) -> tuple[Reading, ...]:
    if not has_closed_form(build(sender.study)):
        return ()
    claims: dict[Stage, TradeOff | None] = {
        "raw": None,
        "noised": bounds.message,
        "masked": NO_LEAK,
    }
    return read_messages(
        sender,
        patients,
        claims=claims,
        alpha=bounds.alpha_of_reading,
        randomness=randomness,
        trials=trials,
    )
