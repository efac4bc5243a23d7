"""A network that sees a treatment, and what it has to do with everything else."""

import torch
from torch import Tensor, nn


class Interacting(nn.Module):
    """Adds the products of one feature with all others: [records, n] -> [records, 2 n - 1].

    The feature is -1 or +1, so that in a linear model half of a product's weight is what the other
    feature adds to the treatment's effect. (Tian et al. 2014, JASA 109, 1517: modified covariates)
    """

    def __init__(self, layers: nn.Module, treatment: int) -> None:
        super().__init__()
        self.layers = layers
        self.treatment = treatment

    def forward(self, features: Tensor) -> Tensor:
        """What the layers say of the features and the products."""
        before, own, after = torch.split(
            features, [self.treatment, 1, features.shape[1] - self.treatment - 1], dim=1
        )
        logits: Tensor = self.layers(torch.cat([features, own * before, own * after], dim=1))
        return logits
