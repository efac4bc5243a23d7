"""Hazards for groups of patients: whether the model serves some of them worse than the others."""

import math
from typing import NamedTuple

from wardround.audit.bodies import EvaluationClosed
from wardround.audit.hazard_case import Case, Finding
from wardround.audit.report_evaluation import EstimateFacts, GroupingFacts, MeasuredGroupingFacts
from wardround.audit.report_model import Origin, Status
from wardround.evaluation.subgroups import OTHER

WORST_GAP = 0.05
"""So much less AUROC or C-index than the others, or so much more error in shares of the range, is
what nobody may overlook: a convention, not a law."""


class _Told(NamedTuple):
    """A group and the ends of its gap, sampling and noise together; None where it has none."""

    name: str
    ends: tuple[float, float] | None


def small_groups(case: Case) -> Finding:
    """The metric of every group against that of all others of its grouping, from the counts.

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
    said = _said_of(case)
    if worse:
        text = said.worse.format(n=len(worse), gap=f"{WORST_GAP:g}", names=", ".join(worse))
        return Finding(Status.FAIL, Origin.RECOMPUTED, text, records)
    untold = sum(group.ends is None for group in found)
    unsure = sum(group.ends is not None and group.ends[1] > WORST_GAP for group in found)
    if untold or unsure:
        text = said.unsure.format(n=len(found), m=untold, there=unsure, gap=f"{WORST_GAP:g}")
        return Finding(Status.REMARK, Origin.RECOMPUTED, text, records)
    text = said.none.format(n=len(found), gap=f"{WORST_GAP:g}")
    return Finding(Status.PASS, Origin.RECOMPUTED, text, records)


class _Said(NamedTuple):
    """The three sentences; what is in braces is filled in."""

    worse: str
    unsure: str
    none: str


_BY_AUROC = _Said(
    "{n} groups are ranked worse than the others of their grouping, by an AUROC of more than {gap} "
    "whatever chance and noise did: {names}.",
    "Of {n} groups {m} are too small to be told apart, and {there} may be ranked worse than the "
    "others by an AUROC of more than {gap}.",
    "None of {n} groups is ranked worse than the others of its grouping by an AUROC of {gap} or "
    "more, chance and noise included.",
)


def _said_of(case: Case) -> _Said:
    (metric, *_) = {_compared_by(grouping) for grouping in case.evaluation.subgroups}
    if metric == "AUROC":
        return _BY_AUROC
    return _Said(
        f"{{n}} groups are served worse than the others of their grouping, by more than {{gap}} "
        f"({metric}) whatever chance and noise did: {{names}}.",
        "Of {n} groups {m} are too small to be told apart, and {there} may be served worse than "
        f"the others by more than {{gap}} ({metric}).",
        f"None of {{n}} groups is served worse than the others of its grouping by {{gap}} or more "
        f"({metric}), chance and noise included.",
    )


def _compared_by(grouping: GroupingFacts | MeasuredGroupingFacts) -> str:
    return grouping.compared_by if isinstance(grouping, MeasuredGroupingFacts) else "AUROC"


def _groups(case: Case) -> list[_Told]:
    """Every group with patients; an empty one too, where some patients were not counted apart."""
    return [
        _Told(f"{grouping.column} {group.group}", _ends(group.gap))
        for grouping in case.evaluation.subgroups
        for group in grouping.groups
        if group.standing != "nobody counted" or _left_over(grouping)
    ]


def _left_over(grouping: GroupingFacts | MeasuredGroupingFacts) -> bool:
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
