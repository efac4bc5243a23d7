"""What report.json holds. Every number says where it comes from."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from wardround.audit.report_comparison import ComparisonFacts
from wardround.audit.report_data import DataPart, HospitalData
from wardround.audit.report_evaluation import (
    EstimateFacts,
    EvaluationFacts,
    GroupFacts,
    GroupingFacts,
    MeasuredGroupFacts,
    MeasuredGroupingFacts,
    ShuffledFacts,
    ShuffledMetricFacts,
)
from wardround.audit.report_figure import (
    Figure,
    Origin,
    Place,
    Text,
    declared,
    logged,
    not_available,
    recomputed,
)
from wardround.audit.report_participation import (
    Absent,
    AttemptFacts,
    Participation,
    Suspicion,
)
from wardround.canonical import Json, canonical_bytes
from wardround.study.contract import Frozen

__all__ = [
    "Absent",
    "AttackPoint",
    "AttemptFacts",
    "CodeFacts",
    "ColumnFacts",
    "ComparisonFacts",
    "DataPart",
    "DpiaItem",
    "EngineAudit",
    "EstimateFacts",
    "EvaluationFacts",
    "Figure",
    "GroupFacts",
    "GroupingFacts",
    "Guarantee",
    "GuaranteeClass",
    "Hazard",
    "HospitalData",
    "HospitalGuarantee",
    "Incident",
    "LogFacts",
    "MeasuredGroupFacts",
    "MeasuredGroupingFacts",
    "ModelAttack",
    "Moment",
    "NoiseAudit",
    "Origin",
    "Outflow",
    "Participation",
    "Place",
    "Report",
    "RosterEntry",
    "RunFacts",
    "ShuffledFacts",
    "ShuffledMetricFacts",
    "StatisticsFacts",
    "Status",
    "StudyFacts",
    "Suspicion",
    "Text",
    "declared",
    "logged",
    "moment",
    "not_available",
    "recomputed",
    "report_schema",
]

Moment = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]


class GuaranteeClass(StrEnum):
    """What can be promised to a patient, in two words. Masks alone are no promise."""

    FORMAL_DP = "FORMAL DP"
    NONE = "NO FORMAL GUARANTEE"


class Status(StrEnum):
    """What a hazard's check says."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    REMARK = "REMARK"
    FAIL = "FAIL"


class Hazard(Frozen):
    """One way in which a guarantee goes wrong, and what the evidence says about it here."""

    id: str
    title: Text
    status: Status
    origin: Origin
    finding: Text
    evidence: tuple[Place, ...] = ()


class RosterEntry(Frozen):
    """A hospital of the study, and whether its own log shows the approval."""

    hospital: str
    fingerprint: str
    approved_by: Text | None
    approved_at: Moment | None
    policy_digest: str | None


class ColumnFacts(Frozen):
    """One column of the contract: what a hospital's data had to be."""

    name: Text
    kind: str
    description: Text
    unit: Text
    range: tuple[float, float] | None
    categories: int
    may_be_missing: bool


class StudyFacts(Frozen):
    """Section A: what was agreed."""

    name: str
    title: Text
    purpose: Text
    contact: Text
    digest: str
    family: str
    model: str
    label: Text
    features: int
    columns: tuple[ColumnFacts, ...]
    registered: str
    rounds_planned: int
    attempts_covered: int
    quorum: int
    minimum_hospitals: int
    coordinator_fingerprint: str
    roster: tuple[RosterEntry, ...]


class CodeFacts(Frozen):
    """One package's code digest, and which parties logged it of themselves."""

    package: str
    digest: str
    parties: tuple[str, ...]
    verdict: Literal["pinned", "NOT THE PINNED", "not pinned"]


class RunFacts(Frozen):
    """Which run this is. `code` is empty where nobody logged which code ran."""

    run: str
    opened_at: Moment
    closed_at: Moment | None
    software: tuple[Text, ...]
    code: tuple[CodeFacts, ...]
    sessions: int
    model_digest: str | None


class HospitalGuarantee(Frozen):
    """What one hospital's patients can rely on, and what its dataset has left."""

    hospital: str
    epsilon: Figure
    epsilon_rdp: Figure
    delta: Figure
    releases: Figure
    unsent: Figure
    steps: Figure
    noise_multiplier: Figure
    epsilon_dataset: Figure
    epsilon_budget: Figure
    budget_left: Figure


class AttackPoint(Frozen):
    """At this share of non-members accused, an attack finds at most this share of members."""

    false_alarms: float
    found_most: float


class Guarantee(Frozen):
    """Section B: the promise, in numbers and in words."""

    kind: GuaranteeClass
    headline: Text
    scope: tuple[Text, ...]
    unit: Literal["patient", "record"]
    unit_in_words: Text
    relation: Literal["add/remove"] = "add/remove"
    mechanism: str
    mechanism_in_words: Text
    masking_in_words: Text
    accountant: Text
    epsilon: Figure
    delta: Figure
    epsilon_ceiling: Figure
    worst_hospital: str | None
    odds_percent: Figure
    odds_in_words: Text
    attack_curve: tuple[AttackPoint, ...]
    right_of_100: Figure
    found_in_words: Text
    clip_norm_l2: Figure
    sampling_rate: Figure
    records_per_patient: Figure
    hospitals: tuple[HospitalGuarantee, ...]


class EngineAudit(Frozen):
    """Section C: what an attack on one hospital's engine could show, beside its claim.

    Of a dry run on synthetic canaries before the run; the claim is that of its steps, not the
    study's. `epsilon_f_dp` and `epsilon_steinke` are lower bounds with confidence 95 %; `power`
    is the chance that an engine with half the noise would have been caught.
    """

    hospital: str
    verdict: Literal["PASS", "VIOLATION", "INCONCLUSIVE", "NOT RUN"]
    dry_runs: int
    without_outcome: int
    named: Figure
    right: Figure
    epsilon_claimed: Figure
    epsilon_f_dp: Figure
    epsilon_steinke: Figure
    power: Figure
    place: Place | None


class NoiseAudit(Frozen):
    """Section C: how much noise one hospital drew in the run, over what it claims.

    The interval is at 99.99 %; `shortfall_seen` is the least shortfall that would show.
    """

    hospital: str
    verdict: Literal["PASS", "VIOLATION", "INCONCLUSIVE", "NOT MEASURED"]
    coordinates: Figure
    sigma_ratio: Figure
    sigma_ratio_low: Figure
    sigma_ratio_high: Figure
    shortfall_seen: Figure
    place: Place | None


class ModelAttack(Frozen):
    """Section C: how a hospital's attack on a released model went, if it chose to say so.

    Of this run where the hospital's policy asks for it, and of earlier runs. `skipped` says why
    nothing was attacked although the policy asks for it.
    """

    hospital: str
    run: str
    verdict: Literal["PASS", "VIOLATION", "INCONCLUSIVE"]
    verdicts: dict[str, str]
    shadows: int
    skipped: Literal["no time", "failed"] | None
    epsilon_claimed: Figure
    place: Place


class Outflow(Frozen):
    """What left one hospital over the whole run."""

    hospital: str
    training_messages: Figure
    evaluation_messages: Figure
    statistics_messages: Figure
    megabytes: Figure
    not_added: Figure
    form: Text


class StatisticsFacts(Frozen):
    """Section F: the patients in numbers, where the study asks for it.

    `estimates` is `wardround.statistics`' JSON, each number with its 95 % interval for the noise;
    `scales` are those of the features, when the study standardises.
    """

    origin: Origin
    asked: bool
    standardise: bool
    epsilon: Figure
    epsilon_ceiling: Figure
    hospitals: tuple[str, ...]
    place: Place | None
    estimates: Json | None
    scales: tuple[Json, ...]


class LogFacts(Frozen):
    """Section H: one party's log."""

    party: str
    entries: int
    head: str
    root: str
    first_at: Moment | None
    last_at: Moment | None
    clock_back_s: float
    countersigned: bool | None


class Incident(Frozen):
    """Section D: something that was refused, rejected or void."""

    what: Text
    party: str
    reason: Text
    place: Place


class DpiaItem(Frozen):
    """Section G: one point of GDPR Art. 35(7), as far as this report can fill it in.

    `to_fill_in` is what a person of the hospital has to add.
    """

    clause: Literal["Art. 35(7)(a)", "Art. 35(7)(b)", "Art. 35(7)(c)", "Art. 35(7)(d)"]
    title: Text
    filled_in: tuple[Text, ...] = Field(min_length=1)
    to_fill_in: tuple[Text, ...] = Field(min_length=1)


class Report(Frozen):
    """The privacy audit report of one run."""

    schema_: Literal["wardround.report/1"] = Field(alias="schema")
    study: StudyFacts
    run: RunFacts
    guarantee: Guarantee
    engine_audits: tuple[EngineAudit, ...]
    noise_audits: tuple[NoiseAudit, ...]
    model_attacks: tuple[ModelAttack, ...]
    outflow: tuple[Outflow, ...]
    participation: Participation
    evaluation: EvaluationFacts
    # Of a rehearsal that compared, and of no federation; not written without.
    comparison: ComparisonFacts | None = Field(default=None, exclude_if=lambda value: value is None)
    statistics: StatisticsFacts
    # Not written where no hospital told anything: reports from before keep their bytes.
    datasheets: tuple[HospitalData, ...] = Field(default=(), exclude_if=lambda value: not value)
    not_protected: tuple[Text, ...] = Field(min_length=1)
    hazards: tuple[Hazard, ...] = Field(min_length=1)
    incidents: tuple[Incident, ...]
    dpia: tuple[DpiaItem, ...]
    logs: tuple[LogFacts, ...]
    without_log: tuple[str, ...]

    def to_json(self) -> Json:
        """The JSON value of report.json."""
        value: Json = self.model_dump(mode="json", by_alias=True)
        return value

    def to_bytes(self) -> bytes:
        """report.json: RFC 8785 bytes."""
        return canonical_bytes(self.to_json())


def report_schema() -> Json:
    """The JSON Schema of report.json.

    >>> report_schema()["title"]
    'Report'
    """
    return Report.model_json_schema(by_alias=True)


def moment(time: datetime) -> str:
    """A time as the report prints it, in whole seconds UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
