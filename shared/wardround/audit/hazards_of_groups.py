"""Hazards for groups of patients: whether the model serves some of them worse than the others."""

import math
from typing import NamedTuple

from wardround.audit.bodies import EvaluationClosed
from wardround.audit.hazard_case import Case, Finding
from wardround.audit.report_evaluation import EstimateFacts, GroupingFacts
from wardround.audit.report_model import Origin, Status
from wardround.evaluation.subgroups import OTHER

WORST_GAP = 0.05
"""So much AUROC less than the others is what nobody may overlook: a convention, not a law."""


class _Told(NamedTuple):
    """A group and the ends of its gap, sampling and noise together; None where it has none."""

    name: str
    ends: tuple[float, float] | None


def small_groups(case: Case) -> Finding:
    """The AUROC of every group against that of all others of its grouping, from the counts.

    FAIL where a gap is above `WORST_GAP` for certain, PASS where every group is told and none can
    be, at 95 % jointly. What the study does not ask for, or what is too small to be told, is a
    REMARK.
    """
    found = list(_groups(case))
    if not found:
        text = "Whether noise cost small groups more than others was not measured in this run."
        return Finding(Status.REMARK, Origin.NOT_AVAILABLE, text)
    ended = (attempt.end for attempt in case.attempts if attempt.counted and attempt.end)
    records = tuple(end for end in ended if isinstance(end.body, EvaluationClosed))[-1:]
    worse = [group.name for group in found if group.ends and group.ends[0] > WORST_GAP]
    if worse:
        text = (
            f"{len(worse)} groups are ranked worse than the others of their grouping, by an AUROC "
            f"of more than {WORST_GAP:g} whatever chance and noise did: {', '.join(worse)}."
        )
        return Finding(Status.FAIL, Origin.RECOMPUTED, text, records)
    untold = sum(group.ends is None for group in found)
    unsure = sum(group.ends is not None and group.ends[1] > WORST_GAP for group in found)
    if untold or unsure:
        text = (
            f"Of {len(found)} groups {untold} are too small to be told apart, and {unsure} may be "
            f"ranked worse than the others by an AUROC of more than {WORST_GAP:g}."
        )
        return Finding(Status.REMARK, Origin.RECOMPUTED, text, records)
    text = (
        f"None of {len(found)} groups is ranked worse than the others of its grouping by an AUROC "
        f"of {WORST_GAP:g} or more, chance and noise included."
    )
    return Finding(Status.PASS, Origin.RECOMPUTED, text, records)


def _groups(case: Case) -> list[_Told]:
    """Every group with patients; an empty one too, where some patients were not counted apart."""
    return [
        _Told(f"{grouping.column} {group.group}", _ends(group.auroc_gap))
        for grouping in case.evaluation.subgroups
        for group in grouping.groups
        if group.standing != "nobody counted" or _left_over(grouping)
    ]


def _left_over(grouping: GroupingFacts) -> bool:
    return any(
        each.group == OTHER and each.standing != "nobody counted" for each in grouping.groups
    )


def _ends(gap: EstimateFacts | None) -> tuple[float, float] | None:
    if gap is None or gap.low is None:
        return None
    sampling = gap.value - gap.low
    noise = 0.0 if gap.noise_low is None else gap.value - gap.noise_low
    half = math.hypot(sampling, noise)
    return gap.value - half, gap.value + half
