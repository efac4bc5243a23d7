"""The bodies of evidence entries as the audit reads them: one strict type per entry type."""

from typing import Annotated, Literal

from pydantic import Field

from wardround.audit.body_comparison import ComparisonStated
from wardround.audit.body_data import DataDescribed
from wardround.audit.body_fields import (
    Bits,
    Body,
    CodeDigests,
    Count,
    Digest,
    Epsilon,
    Found,
    Hex128,
    Line,
    Names,
    Probability,
    RunId,
    Share,
    Word,
)
from wardround.audit.body_groups import GroupClosed, RoundCombined
from wardround.audit.body_network import NetworkBuilt
from wardround.canonical import Json
from wardround.study.contract import Frozen
from wardround.study.manifest import HospitalName


class StudyOpened(Body):
    """The coordinator opened a run of a study."""

    TYPE = "study-opened"
    study_digest: Digest
    run: RunId
    software: Line | dict[str, Line]
    code_digest: CodeDigests | None = None


class HospitalJoined(Body):
    """A hospital answered with its signed run key."""

    TYPE = "hospital-joined"
    hospital: HospitalName
    session: str | int
    run_key: Json


class HospitalRefused(Body):
    """A hospital said no to the study."""

    TYPE = "hospital-refused"
    hospital: HospitalName
    code: Word
    epsilon_that_fits: Epsilon | None = None


class RoundOpened(Body):
    """An attempt began; `spec` is a RoundSpec."""

    TYPE = "round-opened"
    transcript: Digest
    spec: Json


class UpdateReceived(Body):
    """A masked update came and was accepted."""

    TYPE = "update-received"
    transcript: Digest
    hospital: HospitalName
    header: Json
    signature: Hex128
    bytes: Count


class UpdateRejected(Body):
    """An update came and was not added."""

    TYPE = "update-rejected"
    transcript: Digest
    hospital: HospitalName
    reason: Line


class HospitalMissed(Body):
    """A hospital did not answer; `transcript` is null outside an attempt."""

    TYPE = "hospital-missed"
    transcript: Digest | None = None
    hospital: HospitalName
    reason: Line


class SurvivorsAgreed(Body):
    """Whose updates are in the sum, and the signatures of those who agreed before it opened."""

    TYPE = "survivors-agreed"
    transcript: Digest
    survivors: Names
    signatures: Annotated[dict[HospitalName, Hex128], Field(max_length=1000)]


class HospitalVanished(Body):
    """A hospital whose update had come did not answer later: where it was last due."""

    TYPE = "hospital-vanished"
    transcript: Digest
    hospital: HospitalName
    stage: Literal["signed", "revealed"]


class ShareRejected(Body):
    """Another key than was committed to, or a share that does not fit: it or its dealer."""

    TYPE = "share-rejected"
    transcript: Digest
    hospital: HospitalName
    reason: Line


class AttemptVoid(Body):
    """The attempt's sum was not opened."""

    TYPE = "attempt-void"
    transcript: Digest
    reason: Line


class RoundClosed(Body):
    """A training round's sum was opened and the model moved.

    `made` is the digest of what the coordinator made of it behind the round, in a study of a GAN.
    """

    TYPE = "round-closed"
    transcript: Digest
    sum_digest: Digest
    model_before: Digest
    model_after: Digest
    made: Digest | None = None


class StatisticsClosed(Body):
    """The noised sums of a statistics round were opened."""

    TYPE = "statistics-closed"
    transcript: Digest
    sum_digest: Digest
    sums: Annotated[tuple[int, ...], Field(max_length=100_000, strict=False)]


class EvaluationClosed(Body):
    """Pooled counts were opened."""

    TYPE = "evaluation-closed"
    transcript: Digest
    sum_digest: Digest
    counts: Annotated[tuple[int, ...], Field(max_length=100_000, strict=False)]


class RunClosed(Body):
    """The coordinator ended the run."""

    TYPE = "run-closed"
    rounds: Count
    hospitals_completed: Names
    model: Digest


class StudyApproved(Body):
    """The hospital's officer approved this digest."""

    TYPE = "study-approved"
    study_digest: Digest
    officer: Line
    policy_digest: Digest


class RunJoined(Body):
    """The hospital checked study, policy and budget, and joined."""

    TYPE = "run-joined"
    run: RunId
    session: str | int
    study_digest: Digest
    epsilon_planned: Epsilon | None = None
    code_digest: CodeDigests | None = None


class DryRunRule(Frozen):
    """What was fixed before a dry run (`wardround.privacy.engine_audit.AuditRule`)."""

    noise_multiplier: Annotated[float, Field(gt=0, le=1e6)]
    sampling_rate: Annotated[float, Field(gt=0, le=1)]
    steps: Annotated[int, Field(ge=1, le=10**6)]
    canaries: Annotated[int, Field(ge=2, le=10**5)]
    named: Annotated[int, Field(ge=1, le=10**5)]


class EngineAuditRegistered(Body):
    """The hospital is about to audit its engine: the rule, and a commitment to who is in."""

    TYPE = "engine-audit-registered"
    run: RunId
    session: str | int
    rule: DryRunRule
    coins_commitment: Digest


class EngineAudited(Body):
    """A dry run on synthetic canaries, no patient touched and so nothing charged.

    `seed` opens the commitment; `named_in` and `named_out` are one bit a canary; the rest follows.
    """

    TYPE = "engine-audited"
    run: RunId
    session: str | int
    units: Literal["synthetic"]
    seed: Digest
    named_in: Bits
    named_out: Bits
    right: Count
    delta: Probability
    epsilon_claimed: Epsilon
    epsilon_f_dp: Epsilon
    epsilon_steinke: Epsilon
    p_of_claim: Share
    power: Share
    verdict: Found


class NoiseMeasured(Body):
    """The noise that was drawn beside that of the updates, against what was claimed for it."""

    TYPE = "noise-measured"
    run: RunId
    coordinates: Annotated[int, Field(ge=1, le=2**53 - 1)]
    sum_of_squares_over_variance: Epsilon
    sigma_ratio: Epsilon
    sigma_ratio_low: Epsilon
    sigma_ratio_high: Epsilon
    p_value: Share
    shortfall_seen: Share
    verdict: Found


class AttackTested(Body):
    """The hospital attacked a released model with its own patients and chose to say how it went.

    The verdicts depend on patients and no noise covers them. Without a claim (epsilon null) the
    model was held against no leak at all. At the end of a run `model` is the digest of
    `run-closed`, and `skipped` says why no attack was run although the policy asks for it.
    """

    TYPE = "attack-tested"
    run: RunId
    model: Digest | None = None
    model_sha256: Digest
    epsilon_claimed: Epsilon | None = None
    delta: Probability | None = None
    alpha: Probability
    tests: Count
    shadows: Count
    noise: Literal["none"]
    verdicts: Annotated[dict[Word, Found], Field(max_length=20)]
    verdict: Found
    skipped: Literal["no time", "failed"] | None = None


class Gaussian(Frozen):
    """A reserved mechanism with its numbers, as the ledger writes it."""

    noise_multiplier: Annotated[float, Field(gt=0)]
    sampling_rate: Annotated[float, Field(gt=0, le=1)]
    steps: Annotated[int, Field(ge=1, le=10**9)]
    truncation: Annotated[float, Field(ge=0, lt=1)] = 0.0


class ReleaseReserved(Body):
    """Written to the ledger before a record is read; `control` in studies that have one."""

    TYPE = "release-reserved"
    release: str | int
    transcript: Digest
    purpose: Literal["statistics", "train", "evaluate"]
    mechanism: Gaussian | Word
    control: Literal["begun", "kept"] | None = None


class ReleaseSent(Body):
    """What left, and what the engine did."""

    TYPE = "release-sent"
    release: str | int
    transcript: Digest
    update_digest: Digest
    engine: Json


class SurvivorsSigned(Body):
    """The hospital wrote down whose updates are in the sum, before its signature left."""

    TYPE = "survivors-signed"
    transcript: Digest
    survivors: Names


class RoundRefused(Body):
    """The hospital refused one attempt, or what was no round spec: that has no transcript."""

    TYPE = "round-refused"
    transcript: Digest | None
    code: Word


class CheckpointWitnessed(Body):
    """The hospital saw this head of another party's log and checked that the log only grew."""

    TYPE = "checkpoint-witnessed"
    actor: HospitalName
    size: Count
    head: Digest


class RunEnded(Body):
    """The hospital's own account at the end; `model` is the digest of the one that it kept."""

    TYPE = "run-ended"
    run: RunId
    coordinator_head: Digest
    model: Digest | None = None
    epsilon: Epsilon | None = None
    delta: Epsilon | None = None
    epsilon_dataset: Epsilon | None = None
    epsilon_budget: Epsilon | None = None


class ReportSignedOff(Body):
    """What this hospital's officer decided about an earlier run's report."""

    TYPE = "report-signed-off"
    study_digest: Digest
    report: Digest
    manifest: Digest
    officer: Line
    decision: Literal["approve", "approve-with-remark", "refuse"]
    remark: Line | None


COORDINATOR_TYPES: dict[str, type[Body]] = {
    kind.TYPE: kind
    for kind in (
        StudyOpened,
        HospitalJoined,
        HospitalRefused,
        RoundOpened,
        UpdateReceived,
        UpdateRejected,
        HospitalMissed,
        SurvivorsAgreed,
        HospitalVanished,
        ShareRejected,
        AttemptVoid,
        RoundClosed,
        GroupClosed,
        RoundCombined,
        StatisticsClosed,
        EvaluationClosed,
        ComparisonStated,
        RunClosed,
        CheckpointWitnessed,
    )
}
HOSPITAL_TYPES: dict[str, type[Body]] = {
    kind.TYPE: kind
    for kind in (
        StudyApproved,
        RunJoined,
        NetworkBuilt,
        ReleaseReserved,
        ReleaseSent,
        SurvivorsSigned,
        RoundRefused,
        CheckpointWitnessed,
        EngineAuditRegistered,
        EngineAudited,
        NoiseMeasured,
        AttackTested,
        DataDescribed,
        RunEnded,
        ReportSignedOff,
    )
}
