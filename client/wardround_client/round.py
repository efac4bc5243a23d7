"""Answer to `work`: one round at the hospital, top to bottom.

Check, reserve in the ledger, train or evaluate, mask, log, commit, answer. What leaves is a
masked vector and a signed header; PROTOCOL 6.
"""

import time
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import nn

from wardround.canonical import Json
from wardround.evaluation.histograms import CountsMode
from wardround.identity import Identity
from wardround.masking.hospital_round import HospitalRound, Upload
from wardround.masking.keystream import threads_here
from wardround.masking.quantise import Lanes
from wardround.masking.round_spec import Purpose, RoundSpec
from wardround.privacy.engine import Engine, ExactEvaluation, GaussianEvaluation
from wardround.privacy.mechanism import Mechanism
from wardround.protocol.envelope import vector_due
from wardround.protocol.messages import RefusalCode, Update, Work
from wardround.protocol.specs import check_spec, evaluation_layout, statistics_layout
from wardround.protocol.weighting import weighs_patients
from wardround.randomness import Randomness
from wardround.statistics.released import ReleasedStatistics
from wardround.study.manifest import Study
from wardround.times import AttemptTimes
from wardround_client.admission import (
    budget_basis,
    check_budget,
)
from wardround_client.attempt_record import AttemptRecord
from wardround_client.consent import refuse_without_consent
from wardround_client.held_out import evaluated_outcomes
from wardround_client.home import HospitalHome
from wardround_client.kept_control import Standing
from wardround_client.ledger import ReservationId
from wardround_client.ledger.releases import encode_mechanism
from wardround_client.models_beside import outcomes_beside
from wardround_client.plans import (
    evaluation_noise,
    planned_release,
    step_sizes,
    training_plan,
)
from wardround_client.refusal import StudyRefused, refusing
from wardround_client.remaining import (
    attempts_used,
    evaluation_left,
    split_name,
    statistics_left,
)
from wardround_client.session import RunSession
from wardround_client.statistics import noised_statistics
from wardround_client.training.distributed import one_step
from wardround_client.training.learning import learning
from wardround_client.training.local import train
from wardround_client.training.stages import ClearUpdate, NoisedLanes, NoisedUpdate, to_mask
from wardround_client.training.weighting import training_loss, weigh

Model = npt.NDArray[np.float32]
Packed = npt.NDArray[np.uint8]


class Computed(NamedTuple):
    """What may be masked, what the engine did, and how long the training or scoring took.

    `values` are lanes, or floats that become lanes in the pass that masks them.
    """

    values: Lanes | Model
    engine: Engine
    seconds: float


@dataclass(slots=True)
class RoundWorker:
    """Does a round's work for one hospital."""

    home: HospitalHome
    identity: Identity
    hospital: str
    randomness: Randomness
    times: AttemptTimes

    def answer(
        self, session: RunSession, work: Work, vector: Model | None
    ) -> tuple[Update, Packed]:
        """One round. Raises StudyRefused before anything is spent."""
        started_s = time.perf_counter()
        refuse_without_consent(self.home, session.study)
        record = AttemptRecord(self.home, session.study)
        record.refuse_if_restored(session.evidence.attempt)
        pairs = session.secrets.agreed()
        spec, model = self._checked(session, work, vector)
        record.check(spec)
        with refusing(RefusalCode.HISTORY):
            seen = session.evidence.witness(work.checkpoint, work.consistency)
        self._refuse_beyond_plan(session, spec)
        with refusing(RefusalCode.SPEC):
            attempt = HospitalRound.begin(
                spec,
                pairs,
                identity=self.identity,
                hospital=self.hospital,
                randomness=self.randomness,
            )
        record.begin(spec, session.evidence.attempt)
        session.secrets.take_up(attempt)
        standing = session.control.begin(spec, model, session.evidence.attempt, session.study)
        reservation = self._reserve(session, spec, seen, standing)
        values, engine, compute_s = self._compute(session, spec, model)
        upload = attempt.upload(values, threads=threads_here())
        _note_release(session, reservation, upload, engine)
        update = Update(
            header=upload.header.to_json(),
            signature=upload.signature.hex(),
            engine=engine.body(),
            checkpoint=session.evidence.log.checkpoint(),
            shares=upload.shares,
        )
        self.times.note(spec, compute_s=compute_s, answer_s=time.perf_counter() - started_s)
        return update, upload.packed

    def _checked(
        self, session: RunSession, work: Work, vector: Model | None
    ) -> tuple[RoundSpec, Model]:
        with refusing(RefusalCode.SPEC):
            spec = RoundSpec.from_json(work.spec)
            model = vector_due(vector, dtype=np.float32, lanes=session.parameters, what="model")
            released = _released(session.study, work)
            check_spec(spec, session.study, model, released)
            if released is not None:
                session.standardise(released)
        if not np.isfinite(model).all():
            raise StudyRefused(RefusalCode.SPEC, "model: it has values that are not finite")
        return spec, model

    def _refuse_beyond_plan(self, session: RunSession, spec: RoundSpec) -> None:
        """The study's epsilon covers a number of attempts; beyond it nothing is computed.

        When another study has taken from the dataset since we joined, or the policy has changed,
        what is left of this study has to fit the budget anew.
        """
        study = session.study
        basis = budget_basis(self.home, session.ledger, study)
        if basis != session.budget_basis:
            check_budget(self.home, session.approved, session.ledger)
            session.budget_basis = basis
        if spec.purpose is Purpose.STATISTICS:
            if not statistics_left(study, session.ledger.releases()):
                raise StudyRefused(RefusalCode.BUDGET, "the epsilon of the statistics is spent")
        elif spec.purpose is Purpose.EVALUATE:
            noised = study.evaluation.counts == "noised"
            if noised and not evaluation_left(study, session.ledger.releases()):
                raise StudyRefused(RefusalCode.BUDGET, "the evaluation's epsilon is spent")
        elif attempts_used(study, session.ledger.releases()) >= study.attempts:
            raise StudyRefused(
                RefusalCode.BUDGET, f"all {study.attempts} attempts of the study are spent"
            )

    def _reserve(
        self,
        session: RunSession,
        spec: RoundSpec,
        seen: tuple[str, Json] | None,
        standing: Standing | None,
    ) -> ReservationId:
        """Charge the release, durably, before a record is touched."""
        study, purpose = session.study, spec.purpose
        mechanism = planned_release(study, spec)
        transcript = spec.transcript().hex()
        reservation = session.ledger.reserve(
            study_digest=study.digest,
            run=session.run,
            purpose=purpose.value,
            transcript=transcript,
            mechanism=mechanism,
            units=_units(session, purpose),
            split=split_name(session.approved.description, study.evaluation.held_out),
            unit=study.privacy.unit,
        )
        body = {
            "release": reservation,
            "transcript": transcript,
            "purpose": purpose.value,
            "mechanism": _entry_of(mechanism),
            **({} if standing is None else {"control": standing}),
        }
        session.evidence.append(seen, ("release-reserved", body))
        return reservation

    def _compute(self, session: RunSession, spec: RoundSpec, model: Model) -> Computed:
        started_s = time.perf_counter()
        if spec.purpose is Purpose.STATISTICS:
            lanes, engine = self._statistics(session, spec)
            return Computed(lanes, engine, time.perf_counter() - started_s)
        network = session.network(model)
        if spec.purpose is Purpose.EVALUATE:
            lanes, engine = self._evaluate(session, spec, network, model)
            return Computed(lanes, engine, time.perf_counter() - started_s)
        values, engine = self._train(session, spec, network, model)
        return Computed(values, engine, time.perf_counter() - started_s)

    def _statistics(self, session: RunSession, spec: RoundSpec) -> tuple[Lanes, Engine]:
        if session.records.rows is None:
            raise StudyRefused(RefusalCode.SPEC, "statistics: the study asks for none")
        noised, engine = noised_statistics(
            session.records.rows,
            session.study,
            hospitals=len(spec.cohort),
            randomness=self.randomness,
        )
        return noised.lanes, engine

    def _train(
        self, session: RunSession, spec: RoundSpec, network: nn.Module, model: Model
    ) -> tuple[Lanes | Model, Engine]:
        study = session.study
        own = learning(network, session.records.train, study, self.randomness)
        plan, sizes = training_plan(study, hospitals=len(spec.cohort)), step_sizes(study)
        update: NoisedUpdate | ClearUpdate | NoisedLanes
        loss = training_loss(network, own.patients, study) if weighs_patients(study) else None
        if plan.mechanism == "distributed":
            update, report = one_step(
                own.module,
                own.patients,
                own.loss,
                plan,
                sizes,
                scale=spec.scale,
                limit=spec.limit,
                randomness=self.randomness,
            )
        else:
            update, report = train(
                own.module,
                own.patients,
                own.loss,
                plan,
                sizes,
                correction=session.control.correction,
                randomness=self.randomness,
            )
        if loss is not None and isinstance(update, ClearUpdate):
            count = own.patients.patients
            update = weigh(update, patients=count, loss=loss, study=study, spec=spec)
        if report.noise_probe is not None:
            session.noise_probes.append(report.noise_probe)
        session.control.answered(spec, model, update, study)
        return to_mask(update), report.engine

    def _evaluate(
        self, session: RunSession, spec: RoundSpec, network: nn.Module, model: Model
    ) -> tuple[Lanes, Engine]:
        study, records = session.study, session.records
        layout = evaluation_layout(study)
        outcomes = evaluated_outcomes(network, records, study, self.randomness)
        if study.evaluation.beside:
            said = outcomes_beside(self.home, study, model, records, outcomes, self.randomness)
            outcomes = replace(outcomes, beside=said)
        counts = layout.count(outcomes)
        if layout.mode is CountsMode.EXACT:
            return counts.exact(), ExactEvaluation()
        multiplier = evaluation_noise(study)
        noised = counts.noised(multiplier, self.randomness)
        lanes = np.clip(noised, -spec.limit, spec.limit).astype(np.int32)
        return lanes, GaussianEvaluation(noise_multiplier=multiplier)


def _note_release(
    session: RunSession, reservation: ReservationId, upload: Upload, engine: Engine
) -> None:
    """Ledger and log know what leaves before it leaves."""
    sent = {
        "release": reservation,
        "transcript": upload.header.transcript,
        "update_digest": upload.header.update_digest,
        "engine": engine.body(),
    }
    session.ledger.commit(reservation, engine)
    session.evidence.append(("release-sent", sent))


def _released(study: Study, work: Work) -> ReleasedStatistics | None:
    if work.statistics is None:
        return None
    return ReleasedStatistics.from_json(work.statistics, statistics_layout(study))


def _units(session: RunSession, purpose: Purpose) -> int:
    """How many patients a release looks at; statistics count those of both groups."""
    train, held_out = session.records.train.patients, session.records.held_out.patients
    # Models of our own tell of the patients that they learnt from.
    evaluated = held_out + (train if session.study.evaluation.beside else 0)
    counts = {Purpose.TRAIN: train, Purpose.EVALUATE: evaluated}
    return counts.get(purpose, train + held_out)


def _entry_of(mechanism: Mechanism) -> Json | str:
    encoded = encode_mechanism(mechanism)
    return encoded if isinstance(encoded, str) else encoded.model_dump(mode="json")
