"""What the attack tests found, as values, as JSON, and as lines for a person."""

from dataclasses import asdict, dataclass

from wardround.canonical import Json
from wardround.privacy.attack_bounds import Advantage, NamingRule, OperatingPoint
from wardround.privacy.engine_audit import AuditOutcome
from wardround.privacy.verdict import Verdict
from wardround_client.attacks.reconstruction import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What is claimed for a training patient. Without epsilon: held against no leak at all."""

    epsilon: float | None
    delta: float | None
    auroc_most: float
    advantage_most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipTest:
    """One membership attack beside the claim; numbers are None where there was nobody to score."""

    attack: str
    auroc: float | None
    auroc_interval: tuple[float, float] | None
    advantage: Advantage | None
    points: tuple[OperatingPoint, ...]
    rule: NamingRule | None
    right: int | None
    p_of_claim: float | None
    unseen_epsilon: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryTest:
    """The study's engine on synthetic canaries: how many were named rightly, and the verdict."""

    named: int
    right: int
    outcome: AuditOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackOutcome:
    """All tests of one released model at one hospital."""

    study: str
    study_digest: str
    run: str
    model_sha256: str
    claim: Claim
    alpha: float
    tests: int
    shadows: int
    members: int
    others: int
    membership: tuple[MembershipTest, ...]
    reconstruction: tuple[Reading, ...]
    canaries: CanaryTest | None
    seconds: float

    @property
    def verdict(self) -> Verdict:
        """VIOLATION if any test is one, PASS if all of them pass."""
        found = {test.verdict for test in self.membership}
        found |= {reading.verdict for reading in self.reconstruction if reading.verdict}
        found |= {self.canaries.outcome.verdict} if self.canaries else set()
        for verdict in (Verdict.VIOLATION, Verdict.INCONCLUSIVE):
            if verdict in found:
                return verdict
        return Verdict.PASS

    def verdicts(self) -> dict[str, str]:
        """The verdict of each test by its name, and nothing else."""
        found = {f"membership: {test.attack}": test.verdict.value for test in self.membership}
        for reading in self.reconstruction:
            if reading.verdict:
                found[f"reconstruction: {reading.stage} message"] = reading.verdict.value
        if self.canaries:
            found["canaries: engine"] = self.canaries.outcome.verdict.value
        return found

    def to_json(self) -> Json:
        """Everything, with the verdict on top."""
        value: Json = {"verdict": self.verdict.value, **asdict(self)}
        for test, shown in zip(self.membership, value["membership"], strict=True):
            rule = test.rule
            shown["unseen_auroc"] = None if rule is None else rule.unseen_auroc
        return value

    def lines(self) -> list[str]:
        """The table for a person at the hospital."""
        return [
            f"{self.study}: {self.verdict.value}  {_claim_in_words(self.claim)}",
            f"  {self.members} members and {self.others} non-members attacked, {self.shadows} "
            f"shadow models, {self.tests} tests share an error of {self.alpha:g}, "
            f"{self.seconds:.1f} s",
            *(line for test in self.membership for line in _membership_lines(test, self.claim)),
            *(_reading_line(reading) for reading in self.reconstruction),
            *([_canary_line(self.canaries)] if self.canaries else []),
            "  These numbers depend on patients and stay here.",
        ]


def _claim_in_words(claim: Claim) -> str:
    if claim.epsilon is None:
        return "(no epsilon is claimed: held against no leak at all)"
    return f"(the claim is epsilon {claim.epsilon:g}, delta {claim.delta:g})"


def _membership_lines(test: MembershipTest, claim: Claim) -> list[str]:
    name = f"  membership, {test.attack}: {test.verdict.value}"
    if test.auroc is None or test.auroc_interval is None or test.advantage is None:
        return [f"{name}; too few patients on one side to score"]
    low, high = test.auroc_interval
    lines = [
        name,
        f"    AUC {test.auroc:.3f} ({low:.3f} to {high:.3f}), allowed {claim.auroc_most:.3f}; "
        f"advantage {test.advantage.value:.3f} (at least {test.advantage.low:.3f}), allowed "
        f"{claim.advantage_most:.3f}",
    ]
    lines += [
        f"    TPR {point.true_positive_rate:.3f} ({point.true_positive_low:.3f} to "
        f"{point.true_positive_high:.3f}) at {point.false_positive_rate:.1%} FPR (at most "
        f"{point.false_positive_high:.3f}), allowed {point.allowed:.3f}"
        for point in test.points
    ]
    return [*lines, *_naming_lines(test)]


def _naming_lines(test: MembershipTest) -> list[str]:
    rule = test.rule
    if rule is None:
        return []
    if rule.unseen_auroc is None:
        power = "no leak, however large, would have shown"
    else:
        epsilon = "" if test.unseen_epsilon is None else f", as epsilon {test.unseen_epsilon:.1f}"
        power = f"the smallest leak that would have shown has AUC {rule.unseen_auroc:.3f}{epsilon}"
    return [
        f"    {test.right} of {2 * rule.named} patients named rightly, {rule.critical} refute the "
        f"claim; {power}"
    ]


def _reading_line(reading: Reading) -> str:
    verdict = reading.verdict.value if reading.verdict else "shown as what never leaves"
    allowed = "" if reading.allowed is None else f", allowed {reading.allowed:.3f}"
    return (
        f"  reconstruction, {reading.stage} message: {verdict}\n"
        f"    {reading.right} of {reading.trials} patients told among {reading.candidates} "
        f"(at least {reading.right_low:.3f}{allowed}); correlation {reading.correlation:.3f} "
        f"+- {reading.correlation_error:.3f}, relative error {reading.relative_error:.2g}"
    )


def _canary_line(test: CanaryTest) -> str:
    outcome = test.outcome
    return (
        f"  canaries, engine: {outcome.verdict.value}\n"
        f"    {test.right} of {test.named} synthetic canaries named rightly: epsilon "
        f"{outcome.epsilon_f_dp:.2f} or more, of {outcome.epsilon_claimed:.2f} claimed for the dry "
        f"run; half the noise would have shown with probability {outcome.power:.3f}"
    )
