"""Small releases of both mechanisms, for tests of the plan's options and of the share."""

import numpy as np
import torch
from torch import nn

from wardround.masking.quantise import largest_limit
from wardround.models.networks import binary_loss
from wardround_client.training.distributed import one_step
from wardround_client.training.local import train
from wardround_client.training.plan import PatientRecords, StepSizes, TrainingPlan

PLAN = {
    "mechanism": "local",
    "noise_multiplier": 1.2,
    "clip_norm_l2": 0.5,
    "sampling_rate": 0.4,
    "records_per_patient": 2,
    "local_steps": 3,
}
ONE_STEP = {"mechanism": "distributed", "local_steps": 1, "honest": 3}
ADAPTIVE = {"clipping": "adaptive", "adaptive_quantile": 0.5, "adaptive_count_noise": 5.0}
SIZES = StepSizes(learning_rate=0.1, expected_batch=5.0)
SCALE, LIMIT = 2.0**24, largest_limit(4)


def plan(**changes):
    return TrainingPlan(**(PLAN | changes))


def seeded(seed):
    return np.random.default_rng(seed).bytes


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1))


def records(patients=30, size=1.0):
    torch.manual_seed(4)
    x = size * torch.randn(patients, 6)
    return PatientRecords(features=x, labels=(x[:, 0] > 0).float(), offsets=np.arange(patients + 1))


def trained(data=None, randomness=None, model=None, **changes):
    return train(
        model or mlp(),
        data or records(),
        binary_loss,
        plan(**changes),
        SIZES,
        randomness=randomness or seeded(1),
    )


def stepped(data=None, randomness=None, model=None, scale=SCALE, sizes=SIZES, **changes):
    return one_step(
        model or mlp(),
        data or records(),
        binary_loss,
        plan(**(ONE_STEP | changes)),
        sizes,
        scale=scale,
        limit=LIMIT,
        randomness=randomness or seeded(1),
    )
