"""One run from the first round to the last: the path that every number takes.

Open a session, ask for statistics when the study has any, then for each round: ask the cohort, add
what comes, step, write a checkpoint. Then evaluate on held-out patients and let the hospitals
countersign. A hospital that goes away is left out by name and may return; a stopped run goes on
from its last checkpoint under a fresh session.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from wardround.canonical import Json
from wardround.errors import QuorumMissed, Refused, Unreachable
from wardround.masking.round_spec import Purpose, RoundSpec, name_of
from wardround.models.generating import after_round
from wardround.models.networks import build, parameters_of
from wardround.optimisers import OptimiserState, step
from wardround.protocol.envelope import Vector
from wardround.protocol.halves import (
    digest_of_model,
    made_digest,
    trained_parameters,
    whole_update,
)
from wardround.protocol.specs import (
    attempt_spec,
    evaluation_layout,
    group_sizes,
    group_specs,
    standardised_spec,
    standardises,
    statistics_layout,
    statistics_spec,
)
from wardround.protocol.weighting import head_lanes
from wardround.statistics.released import ReleasedStatistics
from wardround.study.manifest import Study
from wardround_server.grid import HospitalGrid
from wardround_server.rounds.attempt import Absence, Attempt, Progress, cohort_for, whole
from wardround_server.rounds.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from wardround_server.rounds.collect import Collected, Collector
from wardround_server.rounds.mean import mean_of
from wardround_server.rounds.post import Post
from wardround_server.rounds.record import RunRecord
from wardround_server.rounds.session import (
    JOIN_GRACE_S,
    SHORT_DEADLINE_S,
    Session,
    SessionOpener,
)
from wardround_server.rounds.uploads import UploadStore

Lost = dict[str, Absence]

_EVALUATION_ATTEMPTS = 3


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
    join_grace_s: float = JOIN_GRACE_S
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
        trained = trained_parameters(self.study, state.model.size) + head_lanes(self.study)
        lanes = max(trained, longest_sum(self.study))
        post = Post(self.grid, lanes=lanes, meanwhile=self.record.refresh)
        self.record.opened()
        if self.uploads is not None and state.progress.round == 0 < self.study.rounds.count:
            self.uploads.start(state.model)
        everybody = frozenset(self.study.names())
        session = self._opener(post).open(everybody, deadline_s=self.study.rounds.deadline_s)
        session, lost = self._count(post, session, state.model)
        while state.progress.round < self.study.rounds.count:
            started_s = time.perf_counter()
            session, lost = self._with_returned(post, session, self._with_gone(session, lost))
            state, gone = self._round(post, session, state, lost)
            lost |= gone
            write_checkpoint(self.checkpoint_file, state)
            self.record.round_closed(state.closing)
            self.record.took(time.perf_counter() - started_s)
        if self.study.rounds.count and not self.record.evaluated():
            session = self._evaluate(post, session, state, lost)
        return state.model, session

    def _count(self, post: Post, session: Session, model: Vector) -> tuple[Session, Lost]:
        """Open the study's statistics, in as many attempts as their epsilon covers.

        Returns the session then, and whom that lost. Without them a study that needs them cannot
        go on: QuorumMissed.
        """
        plan, lost = self.study.statistics, Lost()
        if plan is None:
            return session, lost
        self._released = self.record.released()
        for attempt in range(self.record.opened_for(Purpose.STATISTICS, 0) + 1, plan.attempts + 1):
            if self._released is not None:
                break
            session, lost = self._with_returned(post, session, self._with_gone(session, lost))
            spec = statistics_spec(
                self.study,
                run=self.record.run,
                session=session.name,
                attempt=attempt,
                cohort=self._cohort(session, lost, name_of(Purpose.STATISTICS, 0)),
                directory_digest=session.directory.digest,
                model=model,
            )
            (collected,) = self._collector(post, session).collect(
                (spec,), model, deadline_s=self.study.rounds.deadline_s
            )
            lost |= collected.attempt.lost()
            if collected.total is not None:
                sums = [int(total) for total in collected.total]
                self.record.statistics_closed(spec, collected.sum_digest, sums)
                self._released = self.record.released()
        if self._released is None and (plan.standardise or not self.study.rounds.count):
            raise QuorumMissed(
                f"statistics: {plan.attempts} attempts are spent and none was complete; the study"
                " cannot go on without"
            )
        return session, lost

    def _round(
        self, post: Post, session: Session, state: Checkpoint, lost: Lost
    ) -> tuple[Checkpoint, Lost]:
        """One attempt: either the model steps, or whoever is missing is named and left out."""
        progress = state.progress
        cohort = self._cohort(session, lost, name_of(Purpose.TRAIN, progress.round))
        some = cohort[: group_sizes(self.study, len(cohort)).start]
        spec = self._spec(session, progress.round, progress.attempt, some, state.model)
        specs = group_specs(spec, self.study, cohort)
        collected = self._collector(post, session).collect(
            specs, state.model, deadline_s=self.study.rounds.deadline_s, scale=self.scale
        )
        attempt = whole([group.attempt for group in collected])
        mean = mean_of(self.study, specs, collected, self.record)
        if mean is None:
            return self._after_void(state, attempt), attempt.lost()
        if mean.loss is not None:
            self.record.show(training_loss=mean.loss)
        if mean.groups is not None:
            self.record.grouped(mean.groups)
        model = self._stepped(state, mean.values)
        made = made_digest(self.study, model)
        closing = self.record.round_closing(
            mean.kind,
            mean.body if made is None else {**mean.body, "made": made},
            before=spec.model_digest,
            after=digest_of_model(self.study, model, self.scale),
        )
        after = Checkpoint(model, state.optimiser, progress.after_complete(), closing)
        return after, attempt.lost()

    def _stepped(self, state: Checkpoint, mean: Vector) -> Vector:
        """What hospitals trained moves by their mean; then what is made of it follows."""
        study, before = self.study, state.model
        update = whole_update(study, mean, parameters=before.size)
        model = step(before, update, study.training.server, state.optimiser)
        run, number = self.record.run, state.progress.round
        return after_round(study, model, state.optimiser, run=run, round_number=number)

    def _after_void(self, state: Checkpoint, attempt: Attempt) -> Checkpoint:
        noised = self.study.noises(Purpose.TRAIN)
        after = state.progress.after_void(attempt, noised=noised)
        return Checkpoint(state.model, state.optimiser, after)

    def _evaluate(self, post: Post, session: Session, state: Checkpoint, lost: Lost) -> Session:
        """Sum the held-out patients' counts under the final model.

        Exact counts may be asked for again while nobody was asked to sign, since nothing was opened
        then (PROTOCOL 9.6). Counts with noise are charged when they leave, for one attempt. When
        none opens, the model is there all the same, and the report says that nobody evaluated it.
        """
        number = self.study.rounds.count
        if self.record.asked.covers(Purpose.EVALUATE, number):
            self.record.show(note="no evaluation: the coordinator was stopped while it was opened")
            return session
        attempts = 1 if self.study.noises(Purpose.EVALUATE) else _EVALUATION_ATTEMPTS
        for attempt in range(self.record.opened_for(Purpose.EVALUATE, number) + 1, attempts + 1):
            try:
                session, lost = self._with_returned(post, session, self._with_gone(session, lost))
                collected = self._counts(post, session, state, lost, attempt)
            except (QuorumMissed, Refused) as error:
                self.record.show(note=f"no evaluation: {error}")
                break
            lost |= collected.attempt.lost()
            if collected.total is not None or collected.attempt.asked_to_sign:
                break
        return session

    def _counts(
        self, post: Post, session: Session, state: Checkpoint, lost: Lost, attempt: int
    ) -> Collected:
        number = self.study.rounds.count
        cohort = self._cohort(session, lost, name_of(Purpose.EVALUATE, number))
        spec = self._spec(session, number, attempt, cohort, state.model)
        (collected,) = self._collector(post, session).collect(
            (spec,), state.model, deadline_s=self.study.rounds.deadline_s, scale=self.scale
        )
        if collected.total is not None:
            counts = [int(count) for count in collected.total]
            self.record.evaluation_closed(spec, collected.sum_digest, counts)
        return collected

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

    def _cohort(self, session: Session, lost: Lost, where: str) -> tuple[str, ...]:
        present = self._members(session) - lost.keys()
        absent = {
            name: self._why_absent(name, session, lost)
            for name in self.study.names()
            if name not in present
        }
        self.record.missing(absent)
        return cohort_for(present, quorum=self.study.rounds.quorum, where=where, absent=absent)

    def _why_absent(self, name: str, session: Session, lost: Lost) -> str:
        if name in session.refusals:
            return f"{Absence.REFUSED}: {session.refusals[name].code}"
        return lost.get(name, session.silent.get(name, Absence.DISCONNECTED)).value

    def _members(self, session: Session) -> frozenset[str]:
        """Hospitals that are there and, by their node, still the process that joined."""
        there = self._nodes()
        joined = session.nodes
        return frozenset(
            n for n in session.directory.names if n in there and there[n] == joined.get(n)
        )

    def _nodes(self) -> dict[str, int]:
        """The process that each hospital of the roster is now; one may go at any moment."""
        there = self.grid.connected() & frozenset(self.study.names())
        found = {}
        for name in there:
            with suppress(Unreachable):
                found[name] = self.grid.node_of(name)
        return found

    def _with_gone(self, session: Session, lost: Lost) -> Lost:
        """Name whoever went away between two attempts: nobody was waiting for it then."""
        gone = frozenset(session.directory.names) - self._members(session) - lost.keys()
        for name in sorted(gone):
            self.record.left_out(name, Absence.DISCONNECTED.value)
        return {**lost, **dict.fromkeys(gone, Absence.DISCONNECTED)}

    def _with_returned(self, post: Post, session: Session, lost: Lost) -> tuple[Session, Lost]:
        """Open a new session when a hospital of the roster has come back."""
        nodes = self._nodes()
        out = {n for n in self.study.names() if _stays_out(n, session, lost, nodes.get(n))}
        there = frozenset(nodes) - out
        if not there - (self._members(session) - lost.keys()):
            return session, lost
        short_s = min(self.study.rounds.deadline_s, SHORT_DEADLINE_S)
        reopened = self._opener(post).open(there, deadline_s=short_s).after(session)
        return reopened, {name: why for name, why in lost.items() if name in out}

    def _resume_or_start(self) -> Checkpoint:
        """From the checkpoint, or the study's first model; attempts in the log are spent."""
        start = parameters_of(build(self.study)).numpy()
        progress = Progress(round=0, attempt=1, spare_attempts=self.study.rounds.spare_attempts)
        state = Checkpoint(start, OptimiserState(), progress)
        if self.checkpoint_file.exists():
            state = read_checkpoint(self.checkpoint_file, parameters=start.size)
            self.record.catch_up(state.closing)
        if self.record.asked.covers(Purpose.TRAIN, state.progress.round):
            raise QuorumMissed(
                f"round {state.progress.round + 1}: the coordinator was stopped when hospitals had "
                "been asked to sign, and without noise a second sum of one round could open one "
                "hospital's update: the run ends here"
            )
        opened = self.record.opened_for(Purpose.TRAIN, state.progress.round)
        return replace(state, progress=state.progress.after_stop(opened))

    def _opener(self, post: Post) -> SessionOpener:
        return SessionOpener(
            post, self.record, self.signed_study, self.identity_keys, self.join_grace_s
        )

    def _collector(self, post: Post, session: Session) -> Collector:
        return Collector(post, self.record, session, self.identity_keys, self.uploads)


def _stays_out(name: str, session: Session, lost: Lost, node: int | None) -> bool:
    """A process that went away may come back, and one that was late as another process.

    Who said no, failed or answered wrongly would do so again.
    """
    if name in session.refusals:
        return True
    why = lost.get(name, session.silent.get(name, Absence.DISCONNECTED))
    if why is Absence.DEADLINE:
        return node is None or node == session.nodes.get(name)
    return why is not Absence.DISCONNECTED


def longest_sum(study: Study) -> int:
    """Lanes of the longest vector, but for updates, that a hospital of `study` sends."""
    counted = 0 if study.statistics is None else statistics_layout(study).lanes
    return max(evaluation_layout(study).lanes, counted)
