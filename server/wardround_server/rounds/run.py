"""One run from the first round to the last: the path that every number takes.

Open a session, ask for statistics when the study has any, then for each round: ask the cohort, add
what comes, step, write a checkpoint. Then evaluate on held-out patients and let the hospitals
countersign. A stopped run goes on from its last checkpoint under a fresh session.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from wardround.canonical import Json
from wardround.errors import QuorumMissed
from wardround.masking.quantise import dequantise
from wardround.masking.round_spec import RoundSpec
from wardround.models.networks import build, parameters_of
from wardround.optimisers import OptimiserState, step
from wardround.protocol.envelope import Vector
from wardround.protocol.specs import (
    attempt_spec,
    evaluation_layout,
    model_digest,
    standardised_spec,
    standardises,
    statistics_layout,
    statistics_spec,
)
from wardround.statistics.released import ReleasedStatistics
from wardround.study.manifest import Mechanism, Study
from wardround_server.grid import HospitalGrid
from wardround_server.rounds.attempt import Absence, Attempt, Progress, cohort_for
from wardround_server.rounds.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from wardround_server.rounds.collect import Collector
from wardround_server.rounds.post import Post
from wardround_server.rounds.record import RunRecord
from wardround_server.rounds.session import Session, SessionOpener
from wardround_server.rounds.uploads import UploadStore

Lost = dict[str, Absence]

_REJOIN_DEADLINE_S = 10.0
# A process that went away may come back; who said no, or answered late or wrongly, stays out.
_MAY_RETURN = {Absence.DISCONNECTED}


@dataclass(slots=True)
class Run:
    """A study's run at the coordinator, between two rounds."""

    study: Study
    record: RunRecord
    grid: HospitalGrid
    signed_study: Json
    identity_keys: Mapping[str, bytes]
    checkpoint_file: Path
    uploads: UploadStore | None = None
    _released: ReleasedStatistics | None = field(default=None, repr=False)

    @property
    def scale(self) -> ReleasedStatistics | None:
        """The statistics that scale the features; None when the study does not standardise."""
        return self._released if standardises(self.study) else None

    def train_and_evaluate(self) -> tuple[Vector, Session]:
        """Run all that is left of the study; return the final model and the last session.

        Raises QuorumMissed when too few hospitals are left, Refused when they said no.
        """
        state = self._resume_or_start()
        post = Post(self.grid, lanes=max(state.model.size, longest_sum(self.study)))
        self.record.opened()
        if self.uploads is not None and state.progress.round == 0 < self.study.rounds.count:
            self.uploads.start(state.model)
        everybody = frozenset(self.study.names())
        session = self._opener(post).open(everybody, deadline_s=self.study.rounds.deadline_s)
        lost: Lost = self._count(post, session, state.model)
        while state.progress.round < self.study.rounds.count:
            started_s = time.perf_counter()
            session, lost = self._with_returned(post, session, self._with_gone(session, lost))
            state, gone = self._round(post, session, state, lost)
            lost |= gone
            write_checkpoint(self.checkpoint_file, state)
            self.record.took(time.perf_counter() - started_s)
        if self.study.rounds.count:
            self._evaluate(post, session, state, self._with_gone(session, lost))
        return state.model, session

    def _count(self, post: Post, session: Session, model: Vector) -> Lost:
        """Open the study's statistics, in as many attempts as their epsilon covers.

        Returns whom that lost. Without them a study that needs them cannot go on: QuorumMissed.
        """
        plan, lost = self.study.statistics, Lost()
        if plan is None:
            return lost
        self._released = self.record.released()
        for attempt in range(self.record.statistics_attempts() + 1, plan.attempts + 1):
            if self._released is not None:
                break
            lost = self._with_gone(session, lost)
            spec = statistics_spec(
                self.study,
                run=self.record.run,
                session=session.name,
                attempt=attempt,
                cohort=self._cohort(session, lost, 0),
                directory_digest=session.directory.digest,
                model=model,
            )
            collected = self._collector(post, session).collect(
                spec, model, deadline_s=self.study.rounds.deadline_s
            )
            lost |= collected.attempt.absent
            if collected.total is not None:
                sums = [int(total) for total in collected.total]
                self.record.statistics_closed(spec, collected.sum_digest, sums)
                self._released = self.record.released()
        if self._released is None and (plan.standardise or not self.study.rounds.count):
            raise QuorumMissed(
                f"statistics: {plan.attempts} attempts are spent and none was complete; the study"
                " cannot go on without"
            )
        return lost

    def _round(
        self, post: Post, session: Session, state: Checkpoint, lost: Lost
    ) -> tuple[Checkpoint, Lost]:
        """One attempt: either the model steps, or whoever is missing is named and left out."""
        progress = state.progress
        cohort = self._cohort(session, lost, progress.round)
        spec = self._spec(session, progress.round, progress.attempt, cohort, state.model)
        # Durable before it is asked: a resumed run never asks for this attempt again.
        write_checkpoint(self.checkpoint_file, self._if_stopped_now(state))
        collected = self._collector(post, session).collect(
            spec, state.model, deadline_s=self.study.rounds.deadline_s, scale=self.scale
        )
        if collected.total is None:
            after = self._after_void(progress, collected.attempt)
            return Checkpoint(state.model, state.optimiser, after), collected.attempt.absent
        mean = (dequantise(collected.total, scale=spec.scale) / len(cohort)).astype(np.float32)
        model = step(state.model, mean, self.study.training.server, state.optimiser)
        moved = model_digest(model, self.scale)
        self.record.round_closed(spec, collected.sum_digest, spec.model_digest, moved)
        return Checkpoint(model, state.optimiser, progress.after_complete()), {}

    def _evaluate(self, post: Post, session: Session, state: Checkpoint, lost: Lost) -> None:
        """Sum the held-out patients' counts under the final model, in one attempt.

        A second one over another cohort would open one hospital's counts (decision 0003): when a
        hospital is lost here, the report says that there is no evaluation.
        """
        if any(entry.type == "evaluation-closed" for entry in self.record.log.entries()):
            return  # A resumed run: the coordinator was stopped after it.
        try:
            cohort = self._cohort(session, lost, self.study.rounds.count)
        except QuorumMissed as error:
            self.record.show(note=f"no evaluation: {error}")
            return  # The model is trained; the report says that nobody evaluated it.
        spec = self._spec(session, self.study.rounds.count, 1, cohort, state.model)
        collected = self._collector(post, session).collect(
            spec, state.model, deadline_s=self.study.rounds.deadline_s, scale=self.scale
        )
        if collected.total is not None:
            counts = [int(count) for count in collected.total]
            self.record.evaluation_closed(spec, collected.sum_digest, counts)

    def _spec(
        self, session: Session, number: int, attempt: int, cohort: tuple[str, ...], model: Vector
    ) -> RoundSpec:
        spec = attempt_spec(
            self.study,
            run=self.record.run,
            session=session.name,
            round_number=number,
            attempt=attempt,
            cohort=cohort,
            directory_digest=session.directory.digest,
            model=model,
        )
        return standardised_spec(spec, self.study, model, self.scale)

    def _cohort(self, session: Session, lost: Lost, round_number: int) -> tuple[str, ...]:
        present = self._members(session) - lost.keys()
        absent = {name: self._why_absent(name, session, lost) for name in self.study.names()}
        return cohort_for(
            present,
            quorum=self.study.rounds.quorum,
            round_number=round_number,
            absent={name: why for name, why in absent.items() if name not in present},
        )

    def _why_absent(self, name: str, session: Session, lost: Lost) -> str:
        if name in session.refusals:
            return f"{Absence.REFUSED}: {session.refusals[name].code}"
        return lost.get(name, Absence.REJECTED if name in session.broken else Absence.DISCONNECTED)

    def _members(self, session: Session) -> frozenset[str]:
        """Hospitals that are there and, by their node, still the process that joined."""
        there = frozenset(session.directory.names) & self.grid.connected()
        return frozenset(n for n in there if self.grid.node_of(n) == session.nodes[n])

    def _with_gone(self, session: Session, lost: Lost) -> Lost:
        """Name whoever went away between two attempts: nobody was waiting for it then."""
        gone = frozenset(session.directory.names) - self._members(session) - lost.keys()
        for name in sorted(gone):
            self.record.left_out(name, Absence.DISCONNECTED.value)
        return {**lost, **dict.fromkeys(gone, Absence.DISCONNECTED)}

    def _with_returned(self, post: Post, session: Session, lost: Lost) -> tuple[Session, Lost]:
        """Open a new session when a hospital of the roster has come back."""
        out = {name for name, why in lost.items() if why not in _MAY_RETURN}
        out |= session.refusals.keys() | session.broken
        there = (self.grid.connected() & frozenset(self.study.names())) - out
        if not there - (self._members(session) - lost.keys()):
            return session, lost
        reopened = self._opener(post).open(there, deadline_s=_REJOIN_DEADLINE_S)
        reopened = replace(
            reopened,
            refusals={**session.refusals, **reopened.refusals},
            broken=session.broken | reopened.broken,
        )
        return reopened, {name: why for name, why in lost.items() if name in out}

    def _after_void(self, progress: Progress, attempt: Attempt) -> Progress:
        if self.study.privacy.mechanism is Mechanism.NONE:
            raise QuorumMissed(
                f"round {progress.round}: {', '.join(attempt.absent)} is missing, and without "
                "noise a second attempt would open one hospital's update: the run ends here"
            )
        return progress.after_void(attempt)

    def _if_stopped_now(self, state: Checkpoint) -> Checkpoint:
        """What to resume from should the coordinator die during this attempt."""
        progress = state.progress
        spent = Progress(
            round=progress.round,
            attempt=progress.attempt + 1,
            spare_attempts=max(0, progress.spare_attempts - 1),
        )
        return Checkpoint(state.model, state.optimiser, spent)

    def _resume_or_start(self) -> Checkpoint:
        start = parameters_of(build(self.study)).numpy()
        if self.checkpoint_file.exists():
            return read_checkpoint(self.checkpoint_file, parameters=start.size)
        spare = self.study.rounds.spare_attempts
        return Checkpoint(
            start, OptimiserState(), Progress(round=0, attempt=1, spare_attempts=spare)
        )

    def _opener(self, post: Post) -> SessionOpener:
        return SessionOpener(post, self.record, self.signed_study, self.identity_keys)

    def _collector(self, post: Post, session: Session) -> Collector:
        return Collector(post, self.record, session, self.identity_keys, self.uploads)


def longest_sum(study: Study) -> int:
    """Lanes of the longest vector, but for updates, that a hospital of `study` sends."""
    counted = 0 if study.statistics is None else statistics_layout(study).lanes
    return max(evaluation_layout(study).lanes, counted)
