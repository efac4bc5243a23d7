"""The layout of a study's evaluation: which kind its label asks for."""

from wardround.evaluation.binary import AnomalyLayout, BinaryLayout
from wardround.evaluation.channels import ChannelsLayout
from wardround.evaluation.histograms import CountsLayout, CountsMode
from wardround.evaluation.layout import Layout
from wardround.evaluation.regression import RegressionLayout, Scale
from wardround.evaluation.survival import SurvivalLayout
from wardround.study.contract import LabelKind
from wardround.study.manifest import StudyPlan


def layout_of(study: StudyPlan) -> Layout:
    """How the study's held-out patients are counted: the same at every hospital and verifier.

    Raises BadInput for a plan whose counts do not fit into a log, or into the noise.
    """
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
