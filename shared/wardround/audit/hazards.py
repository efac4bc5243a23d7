"""Each known way in which a guarantee goes wrong, as one small question to the evidence.

PASS: the evidence rules it out. REMARK: the reader should know, or the evidence cannot tell.
FAIL: the evidence shows it. What rests on the study's word alone is DECLARED.
"""

from wardround.audit import hazards_of_groups as groups
from wardround.audit import hazards_of_layers as layers
from wardround.audit import hazards_of_noise as noise
from wardround.audit import hazards_of_runs as runs
from wardround.audit.hazard_case import Case, Finding, Question
from wardround.audit.report_model import Hazard, Place

_MOST_PLACES = 20


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


QUESTIONS: tuple[tuple[str, str, Question], ...] = (
    ("no-noise", "An update left without noise", noise.no_noise),
    ("unit", "The unit of privacy is not the person", noise.unit_is_a_person),
    ("contribution", "One person's influence is not bounded", noise.contribution_is_bounded),
    ("delta", "Delta is as large as one over the number of patients", noise.delta_is_small),
    ("sampler", "The sampler is not the accountant's", noise.sampler_is_the_accountants),
    ("relation", "The neighbour relation is not the accountant's", noise.relation),
    ("charged", "Failed or repeated rounds are not charged", noise.every_release_is_charged),
    ("noise-share", "The shares of noise in a sum are too small", noise.shares_add_up),
    ("second-look", "Two sums of one round open an update", noise.no_second_look),
    ("small-sum", "A sum of too few hospitals", runs.sums_are_of_many),
    ("metrics", "Metrics left without noise", runs.metrics_are_noised),
    ("batch-norm", "A layer mixes patients (BatchNorm)", layers.no_batch_norm),
    ("preprocessing", "Preprocessing depends on the data", runs.preprocessing_is_public),
    ("stopping", "Stopping depended on the results", runs.stopping_was_planned),
    ("budget", "The budget was reset or forgotten", runs.budget_was_not_reset),
    ("tuning", "Tuning on the same patients was not charged", runs.tuning),
    ("two-hospitals", "Patients known to two hospitals", runs.two_hospitals),
    ("timing", "Timing and participation", runs.timing),
    ("randomness", "Weak randomness or floating-point noise", noise.randomness),
    ("raw-checkpoints", "Raw checkpoints on disk", runs.checkpoints_on_disk),
    ("small-groups", "Utility lost for small groups", groups.small_groups),
)
