"""What a hospital trains in a round: the whole network, or of a GAN the discriminator alone.

A round, a rehearsal's comparison and the attacks on both ask here, so that they train alike.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from wardround.models import gan
from wardround.models.family import family_of
from wardround.models.losses import PerRecordLoss
from wardround.randomness import Randomness
from wardround.study.contract import Contract
from wardround.study.manifest import StudyPlan
from wardround_client.records import learned
from wardround_client.training.noise import gaussian
from wardround_client.training.plan import PatientRecords


@dataclass(frozen=True, slots=True)
class Learning:
    """A module of the network, the records that its step is taken on, and the loss of each one.

    The update is that of `module`: the first parameters of the network, or all of them.
    """

    module: nn.Module = field(repr=False)
    patients: PatientRecords = field(repr=False)
    loss: PerRecordLoss = field(repr=False)


def learning(
    network: nn.Module, patients: PatientRecords, study: StudyPlan, randomness: Randomness
) -> Learning:
    """What the study's family trains of `network` on these patients.

    A GAN's discriminator learns each record beside a synthetic one, made by the generator that came
    with the model, of the same label and of noise that the hospital draws.
    """
    plan = study.task.synthesis
    if plan is None:
        return Learning(network, learned(patients, study), family_of(study).loss(study))
    adversaries = gan.adversaries(network)
    beside = Beside(adversaries, study.contract, plan.latent, randomness)
    return Learning(
        adversaries.discriminator, replace(patients, beside=beside), gan.discriminator_loss
    )


def trained_part(network: nn.Module, study: StudyPlan) -> nn.Module:
    """What hospitals train of the network: all that ever saw a patient."""
    return network if study.task.synthesis is None else gan.adversaries(network).discriminator


def looked_at(patients: PatientRecords, study: StudyPlan) -> tuple[PatientRecords, PerRecordLoss]:
    """Records and loss by which `trained_part` is asked whether somebody was trained on.

    A GAN's discriminator has learnt to take its patients for real. (Hayes et al. 2019, "LOGAN",
    the attack with the discriminator at hand)
    """
    if study.task.synthesis is None:
        return learned(patients, study), family_of(study).loss(study)
    seen = gan.conditioned(patients.features, patients.labels, study.contract)
    records = replace(patients, features=seen, labels=torch.ones(len(seen)))
    return records, gan.discriminator_loss


@dataclass(frozen=True, slots=True)
class Beside:
    """Pairs of a record and a synthetic one, for the discriminator's step.

    A patient's gradient is the mean over its records and their synthetic twins, and is clipped as
    one: a patient moves a sum by the clip norm at most, whatever generator the coordinator sent.
    (Xie et al. 2018, Algorithm 1)
    """

    adversaries: gan.Adversaries = field(repr=False)
    contract: Contract
    latent: int
    randomness: Randomness = field(repr=False)

    def __call__(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Records [n, ...] and labels [n] -> what the discriminator sees [2 n, ...] and 1 or 0.

        The twin comes right behind its record.
        """
        drawn = gaussian(len(labels) * self.latent, scale=1.0, randomness=self.randomness)
        noise = torch.from_numpy(drawn).to(torch.float32).reshape(len(labels), self.latent)
        with torch.no_grad():
            twins = gan.made(self.adversaries, labels, noise, self.contract)
        # Twins that are not finite make a gradient that counts as zero: a refusal would tell that
        # somebody of their class was sampled.
        both = torch.stack([features, twins], dim=1).flatten(0, 1)
        classes = labels.repeat_interleave(2)
        real = torch.tensor([1.0, 0.0]).repeat(len(labels))
        return gan.conditioned(both, classes, self.contract), real
