"""One message of one hospital as its stages: what the engine computed, noised, masked.

The patient whose record is looked for is the hospital's only one, and nobody else's gradient
hides it: worse than any run, and what the guarantee is a promise about.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from wardround.masking.masked_pass import mask_packed
from wardround.masking.packing import sign_extended, unpack
from wardround.masking.quantise import Lanes
from wardround.masking.round_spec import Profile, RoundSpec
from wardround.models.networks import build, parameters_of
from wardround.protocol.halves import trained_parameters
from wardround.protocol.specs import attempt_spec
from wardround.randomness import Randomness
from wardround.study.manifest import Study
from wardround_client.attacks.subjects import of_patients
from wardround_client.plans import step_sizes, training_plan
from wardround_client.training.distributed import one_step
from wardround_client.training.learning import Learning, learning
from wardround_client.training.local import train
from wardround_client.training.plan import PatientRecords
from wardround_client.training.stages import lanes_of

Stage = Literal["raw", "noised", "masked"]
Vector = npt.NDArray[np.float32]
_KEY_BYTES = 32


class Message(NamedTuple):
    """What somebody would see of the change of each parameter, at one stage."""

    stage: Stage
    change: Vector


@dataclass(frozen=True, slots=True)
class Sender:
    """Makes the messages that a round of `study` would make of some patients."""

    study: Study
    hospital: str
    randomness: Randomness = field(repr=False)

    def messages(self, patients: PatientRecords) -> Iterator[Message]:
        """The stages of one update. "noised" is there only when the study adds noise.

        Raw is without noise and with every patient in the sample. Where the noise is shared,
        noised is the sum that is opened, to which the other honest hospitals add only theirs.
        """
        yield Message("raw", self._raw(patients))
        spec = self._spec()
        lanes, opened = self._lanes(patients, spec)
        if self.study.privacy.mechanism != "none":
            yield Message("noised", _real(opened, spec))
        yield Message("masked", _real(self._masked(lanes, spec), spec))

    def _raw(self, patients: PatientRecords) -> Vector:
        plan = replace(
            training_plan(self.study, hospitals=len(self.study.roster)),
            mechanism="none",
            noise_multiplier=0.0,
            sampling_rate=1.0,
            clipping="flat",
            adaptive_quantile=None,
            adaptive_count_noise=None,
            patients_most=None,
            batch_most=None,
            honest=1,
        )
        own, sizes = self._learning(patients), step_sizes(self.study)
        update, _ = train(
            own.module, own.patients, own.loss, plan, sizes, randomness=self.randomness
        )
        return update.values

    def _learning(self, patients: PatientRecords) -> Learning:
        return learning(build(self.study), patients, self.study, self.randomness)

    def _lanes(
        self, patients: PatientRecords, spec: RoundSpec
    ) -> tuple[Lanes, npt.NDArray[np.int64]]:
        """Lanes of this hospital, and what a sum in which nobody else has a patient opens to."""
        plan = training_plan(self.study, hospitals=len(spec.cohort))
        if plan.mechanism != "distributed":
            own, sizes = self._learning(patients), step_sizes(self.study)
            update, _ = train(
                own.module, own.patients, own.loss, plan, sizes, randomness=self.randomness
            )
            lanes = lanes_of(update, scale=spec.scale, limit=spec.limit)
            return lanes, lanes.astype(np.int64)
        nobody = of_patients(patients, np.zeros(0, dtype=np.int64))
        shares = [self._share(group, spec) for group in (patients, *[nobody] * (plan.honest - 1))]
        return shares[0], np.sum(shares, axis=0, dtype=np.int64)

    def _share(self, patients: PatientRecords, spec: RoundSpec) -> Lanes:
        own = self._learning(patients)
        noised, _ = one_step(
            own.module,
            own.patients,
            own.loss,
            training_plan(self.study, hospitals=len(spec.cohort)),
            step_sizes(self.study),
            scale=spec.scale,
            limit=spec.limit,
            randomness=self.randomness,
        )
        return noised.values

    def _spec(self) -> RoundSpec:
        """The first attempt of a run that never was: every message has a run of its own.

        Its lanes are those of the parameters: a weight before them says nothing of a record.
        """
        fresh, model = self.randomness, parameters_of(build(self.study)).numpy()
        spec = attempt_spec(
            self.study,
            run=fresh(16).hex(),
            session=fresh(16).hex(),
            round_number=0,
            attempt=1,
            cohort=self.study.names(),
            directory_digest=fresh(_KEY_BYTES).hex(),
            model=model,
        )
        return replace(spec, lanes=trained_parameters(self.study, model.size))

    def _masked(self, lanes: Lanes, spec: RoundSpec) -> Lanes:
        """What the coordinator sees, under fresh keys as honest hospitals have them.

        Those before us in the alphabet subtract; with double masks one more is our own.
        """
        before = sum(name < self.hospital for name in spec.cohort)
        after = len(spec.cohort) - before - 1
        own = int(spec.profile is Profile.DOUBLE_MASK)
        packed, _ = mask_packed(
            lanes,
            scale=None,
            limit=spec.limit,
            add=[self.randomness(_KEY_BYTES) for _ in range(after + own)],
            subtract=[self.randomness(_KEY_BYTES) for _ in range(before)],
            bits=spec.bits,
        )
        return sign_extended(unpack(packed, spec.bits, spec.lanes), spec.bits)


def _real(lanes: npt.NDArray[np.integer], spec: RoundSpec) -> Vector:
    return np.asarray(lanes / spec.scale, dtype=np.float32)
