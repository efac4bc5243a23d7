"""One training run of the utility benchmark, in one process, by the product's own code.

Hospitals train, round and noise as they do in a study; the coordinator adds their integers up and
steps. What is left out is what changes no number: masks, TLS, ledgers, logs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from tests.benchmarks.bench_utility_studies import Hospitals, Sides, pooled
from tests.support.masked_hospitals import seeded

from wardround.evaluation.discrimination import ranking
from wardround.evaluation.histograms import count_patients
from wardround.masking.quantise import dequantise, largest_limit
from wardround.models.networks import binary_loss, build, load_parameters, parameters_of
from wardround.optimisers import OptimiserState, step
from wardround.protocol.specs import evaluation_layout, training_scale
from wardround.randomness import Randomness
from wardround.study.manifest import Study
from wardround_client.held_out import held_out_scores
from wardround_client.plans import step_sizes, training_plan
from wardround_client.training.distributed import one_step
from wardround_client.training.local import train
from wardround_client.training.stages import lanes_of

Way = Literal["local-only", "local", "distributed", "none", "pooled"]
WAYS: tuple[Way, ...] = ("local-only", "local", "distributed", "none", "pooled")
PRIVATE: tuple[Way, ...] = ("local-only", "local", "distributed")
MECHANISM = {"local-only": "local", "pooled": "none"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a way trains. The rule for the learning rate is public: it knows epsilon alone."""

    rounds: int
    clip_norm_l2: float
    sampling_rate: float
    rate_per_epsilon: float
    rate_at_most: float

    def learning_rate(self, epsilon: float | None) -> float:
        """In proportion to epsilon, as far as `rate_at_most`; None: no noise."""
        if epsilon is None:
            return self.rate_at_most
        return min(self.rate_per_epsilon * epsilon, self.rate_at_most)

    def overrides(self, way: Way, epsilon: float | None) -> list[str]:
        """What `--set` would say to the study."""
        return [
            f"privacy.mechanism={MECHANISM.get(way, way)}",
            f"privacy.epsilon={1.0 if epsilon is None else epsilon}",
            f"privacy.clip_norm_l2={self.clip_norm_l2}",
            f"privacy.sampling_rate={self.sampling_rate}",
            f"training.learning_rate={self.learning_rate(epsilon)}",
            f"rounds.count={self.rounds}",
        ]


def auroc(
    hospitals: Hospitals, way: Way, epsilon: float | None, settings: Settings, *, seed: int
) -> float:
    """Train on the seed's training patients, rank all hospitals' held-out ones.

    Alone, each hospital's model ranks all held-out patients as well; the mean over hospitals.
    """
    sides = hospitals.sides(seed)
    study = hospitals.study(*settings.overrides(way, epsilon))
    randomness = seeded(f"utility {hospitals.name} {way} {epsilon} {seed}")
    if way == "local-only":
        alone = [_trained(study, {n: own}, randomness) for n, own in sorted(sides.items())]
        return float(np.mean([_ranked(study, model, sides) for model in alone]))
    if way == "pooled":
        whole = study.training.expected_batch * len(sides)
        one = hospitals.study(*settings.overrides(way, epsilon), f"training.expected_batch={whole}")
        return _ranked(study, _trained(one, pooled(sides), randomness), sides)
    return _ranked(study, _trained(study, sides, randomness), sides)


Model = np.ndarray[tuple[int], np.dtype[np.float32]]


def _trained(study: Study, sides: Mapping[str, Sides], randomness: Randomness) -> Model:
    network = build(study)
    model = parameters_of(network).numpy().copy()
    state = OptimiserState()
    scale = training_scale(study, len(sides), model.size)
    limit = largest_limit(len(sides))
    for _ in range(study.rounds.count):
        total = np.zeros(model.size, dtype=np.int32)
        for _, own in sorted(sides.items()):
            load_parameters(network, torch.from_numpy(model.copy()))
            total += _answer(study, network, own, len(sides), scale, limit, randomness)
        mean = (dequantise(total, scale=scale) / len(sides)).astype(np.float32)
        model = step(model, mean, study.training.server, state)
    return model


def _answer(
    study: Study,
    network: torch.nn.Module,
    own: Sides,
    hospitals: int,
    scale: float,
    limit: int,
    randomness: Randomness,
) -> np.ndarray:
    """One hospital's lanes in one round: what it would mask."""
    plan, sizes = training_plan(study, hospitals=hospitals), step_sizes(study)
    if plan.mechanism == "distributed":
        update, _ = one_step(
            network,
            own.train,
            binary_loss,
            plan,
            sizes,
            scale=scale,
            limit=limit,
            randomness=randomness,
        )
    else:
        update, _ = train(network, own.train, binary_loss, plan, sizes, randomness=randomness)
    return lanes_of(update, scale=scale, limit=limit)


def _ranked(study: Study, model: Model, sides: Mapping[str, Sides]) -> float:
    """AUROC of the pooled counts, as the report has it."""
    network = build(study)
    load_parameters(network, torch.from_numpy(model.copy()))
    layout = evaluation_layout(study).cut
    counts = [
        count_patients(*held_out_scores(network, own.held_out, study), layout).exact().histogram
        for own in sides.values()
    ]
    found = ranking(np.sum(counts, axis=0))
    assert found is not None, "held-out patients of both classes were due"
    return found.auroc
