"""What is explained: one channel of a study's network as a function of records, and where from."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from wardround.errors import BadInput
from wardround.models.family import family_of
from wardround.study.contract import Column, ColumnKind, Contract, LabelKind
from wardround.study.manifest import StudyPlan
from wardround_client.data.places import places
from wardround_client.explanation.draws import normal
from wardround_client.prediction.calibration import channel_names


@dataclass(frozen=True, slots=True)
class Subject:
    """One channel, by number, of a network: its score in [0, 1] is what is explained.

    It computes in float64, so that a score near 0 or 1 still has a gradient.
    """

    study: StudyPlan
    network: nn.Module = field(repr=False)
    channel: int

    @classmethod
    def of(cls, study: StudyPlan, network: nn.Module, channel: int) -> "Subject":
        """The channel of a released network, which stays as it is."""
        return cls(study, copy.deepcopy(network).double().eval(), channel)

    @property
    def name(self) -> str:
        """The channel's name."""
        return channel_names(self.study.contract.label)[self.channel]

    def score(self) -> Callable[[Tensor], Tensor]:
        """Records [records, ...] of float64 -> the channel [records]."""
        read, network, channel = (
            family_of(self.study).reading(self.study),
            self.network,
            self.channel,
        )

        def score(records: Tensor) -> Tensor:
            return read(network(records), records)[:, channel]

        return score

    def evidence(self) -> Callable[[Tensor], Tensor]:
        """The same before it is squeezed into [0, 1], where that is: the logit of yes, or a class'.

        A score of nearly 1 hardly moves, whatever is covered; its logit does.
        """
        if self.study.contract.label.kind not in {LabelKind.BINARY, LabelKind.CLASSES}:
            return self.score()
        network, channel = self.network, self.channel

        def evidence(records: Tensor) -> Tensor:
            outputs: Tensor = network(records)
            return outputs[:, channel]

        return evidence

    def with_random_weights(self, seed: bytes) -> "Subject":
        """The same network, every parameter drawn anew and as large as it was (root mean square).

        What an explanation still shows of such a network it did not learn. (Adebayo et al. 2018)
        """
        network = copy.deepcopy(self.network)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                size = float(parameter.square().mean().sqrt())
                drawn = normal(parameter.numel(), seed + b"/" + name.encode())
                parameter.copy_(torch.from_numpy(size * drawn).view_as(parameter))
        return Subject(self.study, network, self.channel)


def channel_of(study: StudyPlan, name: str | None, scores: Tensor) -> int:
    """The channel of this name; without one the only one, a prognosis' last, or the highest.

    `scores` is [channels] of the patient. Raises BadInput for a name that the study has not.
    """
    label = study.contract.label
    names = channel_names(label)
    if name is not None:
        if name not in names:
            raise BadInput(f"--channel: one of {', '.join(names)} is due")
        return names.index(name)
    return len(names) - 1 if label.time is not None else int(scores.argmax())


def baseline(contract: Contract) -> Tensor:
    """One record [1, *contract.input_shape()] of the contract alone: where explanations start.

    The middle of every range; what may be missing is missing; no category, no part of a molecule.
    """
    record = torch.zeros(1, *contract.input_shape())
    if contract.image is not None:
        return record
    for column, place in places(contract):
        if says_missing(column):
            record[..., place.stop - 1] = 1.0
    return record


def says_missing(column: Column) -> bool:
    """Whether the last feature of the column is 1 where it is missing."""
    return column.may_be_missing or column.kind is ColumnKind.SERIES
