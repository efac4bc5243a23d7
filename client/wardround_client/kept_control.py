"""SCAFFOLD at a hospital: what it remembers of its last attempt, for as long as a session lasts.

The corrections c - c_i of a sum have to cancel in it: then c stays the mean of all c_i, and the
model goes where everybody's gradients point. One hospital that begins anew alone would leave a rest
that never goes away, since every c follows from the one before it. So all begin anew together, by
what all of them know: the session, the cohort, and whose updates were in the last sum. A process
that dies loses its session, and no session goes on without it. So nothing of this is on disk: it
would serve nobody, and c_i is made of patients. (decision 0021)
"""

import logging
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from wardround.masking.quantise import dequantise
from wardround.masking.round_spec import Purpose, RoundSpec
from wardround.protocol.messages import RefusalCode
from wardround.protocol.weighting import head_lanes
from wardround.study.manifest import Study
from wardround_client.refusal import StudyRefused
from wardround_client.restored import LoggedAttempt
from wardround_client.training.drift import Control
from wardround_client.training.stages import ClearUpdate, NoisedLanes, NoisedUpdate, lanes_of

Model = npt.NDArray[np.float32]
Standing = Literal["begun", "kept"]

log = logging.getLogger("wardround.hospital")


@dataclass(frozen=True, slots=True)
class _Answered:
    """The last training attempt that was answered, and what is remembered of it."""

    spec: RoundSpec
    transcript: str
    control: Control = field(repr=False)


@dataclass(slots=True)
class SessionControl:
    """Of one session. `correction` is that of the attempt at hand, None where it begins anew."""

    correction: Model | None = field(default=None, repr=False)
    _last: _Answered | None = field(default=None, repr=False)

    def begin(
        self, spec: RoundSpec, model: Model, logged: LoggedAttempt, study: Study
    ) -> Standing | None:
        """Take up an attempt, before it is logged: `logged` is the one before it.

        Returns whether the control was kept from the round before or begins anew, None where the
        study has none. Raises StudyRefused, before anything is charged, for a model so far from the
        last one that their difference is no number.
        """
        self.correction = None
        if study.training.control == "none" or spec.purpose is not Purpose.TRAIN:
            return None
        why = self._why_anew(spec, logged)
        if why is not None or self._last is None:
            log.info("%s: control begins anew: %s", spec.where, why)
            return "begun"
        correction = self._last.control.correction(model, study.training)
        if not np.isfinite(correction).all():
            raise StudyRefused(
                RefusalCode.SPEC, "model: it lies too far from the last one for a control"
            )
        self.correction = correction
        return "kept"

    def answered(
        self,
        spec: RoundSpec,
        model: Model,
        update: NoisedUpdate | ClearUpdate | NoisedLanes,
        study: Study,
    ) -> None:
        """Remember this attempt in the place of the last one; `update` is what will be masked."""
        if study.training.control == "none":
            return
        head, lanes = head_lanes(study), lanes_of(update, scale=spec.scale, limit=spec.limit)
        left = dequantise(lanes, scale=spec.scale)
        # A weighted vector begins with its weight, whole.
        left = left[head:] / (lanes[0] if head else 1)
        control = Control.after(
            np.array(model), left.astype(np.float32), self.correction, study.training
        )
        self._last = _Answered(spec, spec.transcript().hex(), control)

    def forget(self) -> None:
        """The session is over."""
        self.correction = self._last = None

    def _why_anew(self, spec: RoundSpec, logged: LoggedAttempt) -> str | None:
        last = self._last
        if last is None:
            return "it is the first of this session"
        if spec.attempt != 1 or spec.round != last.spec.round + 1:
            return "it does not follow the last one that was answered"
        if logged.transcript != last.transcript or logged.survivors != last.spec.cohort:
            return "not everybody was in the last sum"
        if spec.cohort != last.spec.cohort:
            return "others are asked than in the last one"
        return None
