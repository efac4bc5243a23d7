"""Which `Apart` belongs to a layout."""

from wardround.errors import BadInput
from wardround.evaluation.apart import Apart
from wardround.evaluation.apart_channels import ApartChannels
from wardround.evaluation.apart_numbers import ApartNumbers
from wardround.evaluation.apart_scores import ApartScores
from wardround.evaluation.apart_survival import ApartSurvival
from wardround.evaluation.binary import BinaryLayout
from wardround.evaluation.channels import ChannelsLayout
from wardround.evaluation.layout import Layout
from wardround.evaluation.regression import RegressionLayout
from wardround.evaluation.survival import SurvivalLayout


def apart_of(layout: Layout) -> Apart:
    """How patients of this layout are counted apart. Raises BadInput for one that cannot be."""
    match layout:
        case BinaryLayout():
            return ApartScores(layout)
        case ChannelsLayout():
            return ApartChannels(layout)
        case RegressionLayout():
            return ApartNumbers(layout)
        case SurvivalLayout():
            return ApartSurvival(layout)
        case _:
            raise BadInput("evaluation: counts of this kind are not told apart by group")
