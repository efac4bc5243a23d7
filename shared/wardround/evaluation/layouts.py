"""The layout of a study's evaluation: which kind its label asks for."""

from contextlib import suppress

from wardround.errors import BadInput
from wardround.evaluation.beside import BesideLayout
from wardround.evaluation.binary import AnomalyLayout, BinaryLayout
from wardround.evaluation.channels import ChannelsLayout
from wardround.evaluation.detailed import DetailedLayout
from wardround.evaluation.histograms import MAX_GROUPS, CountsLayout, CountsMode
from wardround.evaluation.layout import MOST_LANES, Layout
from wardround.evaluation.regression import RegressionLayout, Scale
from wardround.evaluation.subgroups import Groups
from wardround.evaluation.survival import SurvivalLayout
from wardround.evaluation.treatment import TreatmentLayout
from wardround.study.contract import Contract, LabelKind
from wardround.study.evaluation import Crossing, Grouping, crossed_groups
from wardround.study.manifest import StudyPlan

OWN_BINS = 1000
_OWN_TIME_BINS = 10


def exact_layout_of(study: StudyPlan) -> Layout:
    """Exact counts of the study's label, for a hospital's own eyes whatever leaves it.

    They are as fine as a log could hold them. The registered threshold stays on a bin's edge.
    """
    plan, label = study.evaluation, study.contract.label
    time_bins = plan.time_bins if plan.counts == "exact" else _OWN_TIME_BINS
    width = len(label.channels) or 1
    if label.time is not None:
        cells = 2 * (len(label.time.edges) * time_bins + 1)
        bins = max(2, min(OWN_BINS, (MOST_LANES - 2 * width * cells) // cells))
    else:
        room = min(OWN_BINS, (MOST_LANES - width**2) // width // 2 - 2 * MAX_GROUPS)
        bins = plan.bins * max(1, room // plan.bins)
    own: dict[str, object] = {"counts": "exact", "epsilon": None, "bins": bins}
    own |= {"time_bins": time_bins, "subgroups": (), "importance": False, "beside": ()}
    return _whole(study.model_copy(update={"evaluation": plan.model_copy(update=own)}))


def layout_of(study: StudyPlan) -> Layout:
    """How the study's held-out patients are counted: the same at every hospital and verifier.

    Raises BadInput for a plan whose counts do not fit into a log, or into the noise.
    """
    own = _of_model(study)
    if not study.evaluation.beside:
        return own
    try:
        return _beside(study, own)
    except BadInput as error:
        fewer = _bins_that_fit(study)
        raise BadInput(f"{error}; bins = {fewer} would fit" if fewer else str(error)) from error


def _beside(study: StudyPlan, own: Layout) -> BesideLayout:
    return BesideLayout(study=own, plain=_whole(study), ways=study.evaluation.beside)


def _bins_that_fit(study: StudyPlan) -> int | None:
    """The largest part of the plan's bins with which its models beside fit; edges stay edges."""
    asked = study.evaluation.bins
    for bins in (asked // parts for parts in range(2, asked // 2 + 1) if not asked % parts):
        plan = study.evaluation.model_copy(update={"bins": bins})
        fewer = study.model_copy(update={"evaluation": plan})
        with suppress(BadInput):
            _beside(fewer, _of_model(fewer))
            return bins
    return None


def _of_model(study: StudyPlan) -> Layout:
    """In as much detail as the study asks for; `_whole` comes first."""
    whole = _whole(study)
    layout = _detailed(whole, study) if study.evaluation.detailed else whole
    if study.task.treatment is None:
        return layout
    if not isinstance(layout, BinaryLayout | DetailedLayout):
        raise BadInput("evaluation: a treatment needs a label of yes or no")
    told = {part.column for each in study.evaluation.subgroups for part in each.parts}
    if study.task.treatment.column in told and study.evaluation.counts == "exact":
        raise BadInput(
            "evaluation: with exact counts no group is told by the column of the treatment, whose "
            "arms are counted already: a hidden group would come out by subtraction"
        )
    return TreatmentLayout(whole=layout, plan=study.task.treatment)


def _whole(study: StudyPlan) -> Layout:
    plan, label = study.evaluation, study.contract.label
    mode = CountsMode(plan.counts)
    if label.time is not None:
        return SurvivalLayout(
            mode=mode,
            edges=label.time.edges,
            unit=label.time.unit,
            bins=plan.bins,
            time_bins=plan.time_bins,
        )
    if label.numbers:
        scales = tuple(
            Scale(target.name, target.unit, target.range[0], target.range[1] - target.range[0])
            for target in label.targets
            if target.range is not None
        )
        return RegressionLayout(mode=mode, targets=scales, bins=plan.bins)
    cut = CountsLayout(mode=mode, bins=plan.bins)
    if label.kind is LabelKind.NONE:
        return AnomalyLayout(cut, plan.threshold)
    if label.kind is LabelKind.BINARY:
        return BinaryLayout(cut, plan.threshold)
    return ChannelsLayout(
        kind="classes" if label.kind is LabelKind.CLASSES else "labels",
        names=label.channels,
        cut=cut,
        threshold=plan.threshold,
    )


def _detailed(whole: Layout, study: StudyPlan) -> DetailedLayout:
    plan = study.evaluation
    return DetailedLayout(
        whole=whole,
        groupings=tuple(_groups(grouping, study.contract) for grouping in plan.subgroups),
        smallest=plan.smallest_group,
        shuffled=plan.shuffled(study.contract),
    )


def _groups(grouping: Grouping | Crossing, contract: Contract) -> Groups:
    columns = {column.name: column for column in contract.columns}
    names = crossed_groups([part.groups(columns[part.column]) for part in grouping.parts])
    units = [columns[part.column].unit for part in grouping.parts]
    named = [unit for unit in units if unit != "1"]
    return Groups(grouping.name, " by ".join(named) or "1", names)
