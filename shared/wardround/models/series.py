"""Family series: measurements over time -> a risk, or a risk for each class."""

from itertools import pairwise

from torch import Tensor, nn

from wardround.study.manifest import StudyPlan
from wardround.study.task import Model


class Recurrent(nn.Module):
    """Recurrent layers over all steps, then one linear layer on the last step's state.

    [records, steps, features] -> [records, outputs]. Every record has as many steps: what was not
    measured is one of the features.
    """

    def __init__(self, cell: type[nn.GRU | nn.LSTM], sizes: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            cell(before, after, batch_first=True) for before, after in pairwise(sizes)
        )
        self.head = nn.Linear(sizes[-1], outputs)

    def forward(self, series: Tensor) -> Tensor:
        """Logits of each record."""
        for layer in self.layers:
            series = layer(series)[0]
        logits: Tensor = self.head(series[:, -1])
        return logits


def network(study: StudyPlan) -> nn.Module:
    """The study's network: [records, steps, features] -> logits [records, channels]."""
    cell = nn.GRU if study.task.model is Model.GRU else nn.LSTM
    _, features = study.contract.input_shape()
    outputs = len(study.contract.label.channels)
    return Recurrent(cell, (features, *study.task.hidden), outputs)
