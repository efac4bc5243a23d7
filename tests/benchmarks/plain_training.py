"""The reference CNN in PyTorch's own words: no engine, no round, no sampling of ours.

What a reader of the tutorial would write: batches of a shuffled set, autograd, Adam. A federation
that learns less on the same rows has lost something on its way.
"""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from wardround.study.manifest import StudyPlan
from wardround_client.comparison.sites import Sites, together

BATCH = 64
EPOCHS = 10
PARAMETERS = 122_570


def reference_network() -> nn.Module:
    """clinical.md: Conv 32, pool, Conv 64, pool, Conv 64, FC 64, FC 10, ReLU between them."""
    return nn.Sequential(
        nn.Conv2d(3, 32, kernel_size=3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, kernel_size=3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, kernel_size=3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1024, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def accuracy_in_plain_pytorch(
    plan: StudyPlan, sites: Sites, seed: int, epochs: int = EPOCHS
) -> float:
    """Accuracy on everybody's held-out rows, after `epochs` over everybody's training rows."""
    train = together([sites[name].train for name in sorted(sites)])
    held_out = together([sites[name].held_out for name in sorted(sites)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = reference_network()
        rows = TensorDataset(train.features, train.labels.long())
        batches = DataLoader(rows, batch_size=BATCH, shuffle=True)
        optimiser = torch.optim.Adam(network.parameters(), lr=plan.training.learning_rate)
        for _ in range(epochs):
            for features, labels in batches:
                optimiser.zero_grad()
                nn.functional.cross_entropy(network(features), labels).backward()
                optimiser.step()
        network.eval()
        with torch.inference_mode():
            parts = [network(part).argmax(dim=1) for part in held_out.features.split(500)]
    right = torch.cat(parts).numpy() == held_out.labels.numpy()
    return float(np.mean(right))
