"""What the coordinator makes of a GAN's discriminator behind each round: generator and risk model.

Both follow from the released discriminator and from draws whose seed is public (study, run and
round), never from a record: post-processing, without a cost in privacy. Whoever has the bundle can
run these steps again; floating point differs between machines, so a verifier steps the
discriminator alone, and the digest of what was made of it is bound in the log.
"""

import hashlib

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wardround.models.gan import Adversaries, adversaries, conditioned, generator_loss, made
from wardround.models.losses import loss_of
from wardround.models.networks import build, load_parameters, parameters_of
from wardround.optimisers import OptimiserState
from wardround.study.manifest import Study, StudyPlan
from wardround.study.synthesis import Synthesis, conditions

Vector = npt.NDArray[np.float32]

# Adam (Kingma and Ba 2015) with little memory of its direction (Radford et al. 2016, section 3).
_BETA_1, _BETA_2, _TAU = 0.5, 0.9, 1e-8
_RISK_DECAY = 1e-3
# Of tables and of images, whose network is slow: steps, records a step, learning rate.
_RISK, _RISK_OF_IMAGES = (500, 128, 0.02), (150, 64, 0.001)
_CONTEXT = b"wardround/1 generator\x00"


def after_round(
    study: Study, model: Vector, state: OptimiserState, *, run: str, round_number: int
) -> Vector:
    """The model [parameters] behind a round, its discriminator stepped already.

    The generator takes the study's steps; behind the last round it becomes the running mean of all
    of them, and the risk model is fitted to what it makes. `state` is updated in place. A study of
    another family keeps its model as it is.
    """
    plan = study.task.synthesis
    if plan is None:
        return model
    network = adversaries(build(study))
    load_parameters(network, torch.from_numpy(np.array(model)))
    draws = draws_of(study, run=run, round_number=round_number)
    improved = _Improved(network, plan, state)
    for number in range(plan.steps):
        improved.step(study, draws, number=round_number * plan.steps + number)
    if round_number == study.rounds.count - 1:
        improved.load_average()
        labels, noise = drawn(study, plan.risk_records, draws)
        with torch.no_grad():
            records = made(network, labels, noise, study.contract)
        fit_risk(network, study, records, labels, draws)
    return np.concatenate([model[: _start(network)], _numbers(network)[_start(network) :]])


def draws_of(study: Study, *, run: str, round_number: int) -> torch.Generator:
    """The draws of one round at the coordinator: a function of public names alone."""
    named = bytes.fromhex(study.digest) + run.encode() + b"\x00" + round_number.to_bytes(8, "big")
    seed = hashlib.sha256(_CONTEXT + named).digest()
    return torch.Generator().manual_seed(int.from_bytes(seed[:8], "big") >> 1)


def drawn(study: StudyPlan, records: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Class numbers [records], each as likely, and noise [records, latent].

    How common a class is among patients is not learned: nobody trains on it, nothing is charged.
    """
    latent = 0 if study.task.synthesis is None else study.task.synthesis.latent
    labels = torch.randint(conditions(study.contract), (records,), generator=draws)
    return labels, torch.randn(records, latent, generator=draws)


def fit_risk(
    network: Adversaries,
    study: StudyPlan,
    records: Tensor,
    labels: Tensor,
    draws: torch.Generator,
) -> None:
    """Fit the risk model to labelled records, by Adam on random batches."""
    loss, risk = loss_of(study), network.risk
    steps, batch, rate = _RISK if study.contract.image is None else _RISK_OF_IMAGES
    optimiser = torch.optim.Adam(risk.parameters(), lr=rate, weight_decay=_RISK_DECAY)
    labels = labels.to(torch.float32)
    risk.train()
    for _ in range(steps):
        chosen = torch.randint(len(records), (batch,), generator=draws)
        optimiser.zero_grad()
        torch.autograd.backward(loss(risk(records[chosen]), labels[chosen]).mean())
        optimiser.step()


class _Improved:
    """The generator of a network under Adam, whose state lies where the round's other state is."""

    def __init__(self, network: Adversaries, plan: Synthesis, state: OptimiserState) -> None:
        self._network, self._plan = network, plan
        self._own = list(network.generator.parameters())
        start = _start(network)
        self._place = slice(start, start + sum(p.numel() for p in self._own))
        like = _numbers(network)
        first, second = (state.moment(f"generator_{name}", like) for name in ("first", "second"))
        self._first, self._second = first[self._place], second[self._place]
        is_new = "generator_average" not in state.moments
        average = state.moment("generator_average", like)
        if is_new:
            average[:] = like
        self._average = average[self._place]

    def step(self, study: Study, draws: torch.Generator, *, number: int) -> None:
        """One step of Adam against the discriminator, which stays as it is."""
        contract = study.contract
        labels, noise = drawn(study, self._plan.batch, draws)
        records = made(self._network, labels, noise, contract)
        logits = self._network.discriminator(conditioned(records, labels, contract))
        loss = generator_loss(logits).mean()
        parts = torch.autograd.grad(loss, self._own)
        gradient = torch.cat([part.reshape(-1) for part in parts]).numpy()
        self._first += np.float32(1 - _BETA_1) * (gradient - self._first)
        self._second += np.float32(1 - _BETA_2) * (gradient * gradient - self._second)
        first = self._first / np.float32(1 - _BETA_1 ** (number + 1))
        second = self._second / np.float32(1 - _BETA_2 ** (number + 1))
        move = np.float32(self._plan.learning_rate) * first / (np.sqrt(second) + np.float32(_TAU))
        self._load(self._numbers() - move)
        self._average += np.float32(1 - self._plan.average) * (self._numbers() - self._average)

    def load_average(self) -> None:
        """The generator becomes the running mean of all it has been."""
        self._load(self._average)

    def _numbers(self) -> Vector:
        return _numbers(self._network.generator)

    def _load(self, values: Vector) -> None:
        load_parameters(self._network.generator, torch.from_numpy(values.astype(np.float32)))


def _start(network: Adversaries) -> int:
    """Where in the vector the discriminator ends."""
    return sum(parameter.numel() for parameter in network.discriminator.parameters())


def _numbers(network: torch.nn.Module) -> Vector:
    numbers: Vector = parameters_of(network).numpy()
    return numbers
