"""The ledger: reserve before anything leaves, commit what was done, never forget."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from pydantic import ValidationError

from wardround.canonical import Json
from wardround.errors import BadInput, ProtocolViolation, RefusedByPolicy, WardroundError
from wardround.privacy.engine import Engine
from wardround.privacy.mechanism import Exact, Mechanism, SampledGaussian, Unit
from wardround_client.ledger.budget import RunSpent, check_fits, epsilon_of, runs
from wardround_client.ledger.releases import (
    Purpose,
    Release,
    ReservationId,
    ReservedBody,
    SentBody,
    encode_mechanism,
    read_releases,
    worst_of,
)
from wardround_client.ledger.store import Entry, EntryStore

PurposeName = Literal["train", "evaluate", "statistics", "attack-test", "datasheet"]
Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


class Ledger:
    """Privacy spent on one dataset, over all studies and for ever.

    A release is spent from its reservation on: failed, aborted, repeated and crashed ones count.
    Releases without noise have no epsilon: `exact_releases` lists them, and whoever prints
    `spent` prints them beside it.

    Held-out and training patients compose in parallel: epsilon is the larger of the two groups'.
    That is sound because the split is a fixed function of the patient key, the same for ever and
    in every study on the dataset. Each release names its `split`; when two studies name
    different ones, the ledger stops believing in it and adds everything up.
    """

    def __init__(self, store: EntryStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._read_entries()

    @classmethod
    def open(cls, path: Path, dataset: str, *, clock: Clock = _now) -> Self:
        """Open or create the ledger of `dataset`, alone: a second process is told so.

        `clock` says the times that are shown; what counts is the order of the entries. Raises
        VerificationFailed for a ledger that is missing, rolled back or changed, and BadInput for
        one of another dataset.
        """
        store = EntryStore.open(path)
        try:
            if not store.entries:
                opened = {"kind": "opened", "version": 1, "dataset": dataset}
                store.append("opened", opened, time=clock())
            return cls._checked(store, path, dataset, clock)
        except BaseException:
            store.close()
            raise

    @classmethod
    def read(cls, path: Path, dataset: str) -> Self:
        """Read a ledger as it is now, also while a daemon writes it. Nothing can be reserved."""
        return cls._checked(EntryStore.read(path), path, dataset, _now)

    @classmethod
    def _checked(cls, store: EntryStore, path: Path, dataset: str, clock: Clock) -> Self:
        opened = store.entries[0].body if store.entries else {}
        if opened != {"kind": "opened", "version": 1, "dataset": dataset}:
            raise BadInput(
                f"ledger {path.name}: it belongs to dataset {opened.get('dataset')!r}, "
                f"{dataset!r} was due"
            )
        return cls(store, clock)

    def reserve(
        self,
        *,
        study_digest: str,
        run: str,
        purpose: PurposeName,
        transcript: str,
        mechanism: Mechanism,
        units: int,
        split: str,
        unit: Unit = "patient",
    ) -> ReservationId:
        """Charge a release durably, before anything leaves. `units` patients are its input.

        Raises ProtocolViolation for a transcript that was reserved before, RefusedByPolicy when
        the dataset is accounted in another unit: epsilons per record and per patient do not add.
        """
        if transcript in self._transcripts:
            raise ProtocolViolation(
                f"ledger: transcript {transcript[:16]} was charged before; a release happens once"
            )
        accounted = next((release.unit for release in self._releases.values()), unit)
        if accounted != unit:
            raise RefusedByPolicy(
                f"ledger: this dataset is accounted per {accounted}, a release per {unit} came"
            )
        body = _reserved_body(
            release=os.urandom(16).hex(),
            study_digest=study_digest,
            run=run,
            purpose=purpose,
            transcript=transcript,
            mechanism=encode_mechanism(mechanism),
            unit=unit,
            units=units,
            split=split,
        )
        entry = self._append(f"reserved {transcript}", body.model_dump(mode="json"))
        (release,) = read_releases([entry])
        self._releases[release.id] = release
        self._transcripts.add(transcript)
        return release.id

    def commit(self, reservation: ReservationId, engine: Engine) -> None:
        """Record what the engine did. Call it before the answer goes out, or after.

        What was done may not be less private than what was reserved: the worse of the two is
        charged durably, then WardroundError is raised, and the release must not leave. Raises
        BadInput for a reservation that is unknown or committed already.
        """
        release = self._releases.get(reservation)
        if release is None or release.done is not None:
            state = "unknown" if release is None else "committed already"
            raise BadInput(f"ledger: reservation {reservation} is {state}")
        body = SentBody(release=reservation, engine=engine.body())
        entry = self._append(f"sent {reservation}", body.model_dump(mode="json"))
        self._releases[reservation] = replace(release, done=engine.released, sent_at=entry.time)
        if worst_of(release.reserved, engine.released) != release.reserved:
            raise WardroundError(
                f"ledger: release {reservation} did {engine.released}, less private than the "
                f"{release.reserved} reserved; what it did is charged, and it must not leave"
            )

    def _append(self, key: str, body: Json) -> Entry:
        try:
            return self._store.append(key, body, time=self._clock())
        except WardroundError:
            # The entry may be on disk, with only its mark missing: then it counts.
            self._read_entries()
            raise

    def _read_entries(self) -> None:
        self._releases = {release.id: release for release in read_releases(self._store.entries)}
        self._transcripts = {release.transcript for release in self._releases.values()}

    def releases(self) -> tuple[Release, ...]:
        """Every release that was ever reserved, oldest first."""
        return tuple(self._releases.values())

    def exact_releases(self) -> tuple[Release, ...]:
        """Releases without noise: no epsilon covers them, so they are listed wherever one is."""
        return tuple(r for r in self.releases() if isinstance(r.charged, Exact))

    def training_was_exact(self) -> bool:
        """Whether an update once left without noise: then no epsilon bounds what is known."""
        counted = (Purpose.EVALUATE, Purpose.ATTACK_TEST, Purpose.DATASHEET)
        return any(r.purpose not in counted for r in self.exact_releases())

    def spent(self, delta: float) -> float:
        """Epsilon of all noised releases, sent or only reserved, for the worst-off patient."""
        return epsilon_of(self.releases(), delta=delta)

    def check_fits(
        self,
        plan: Sequence[SampledGaussian],
        *,
        evaluation: Sequence[SampledGaussian] = (),
        statistics: Sequence[SampledGaussian] = (),
        split: str,
        budget_epsilon: float,
        delta: float,
    ) -> float:
        """Check a whole run against the budget before a record is read.

        `plan` are the training releases, `evaluation` those on held-out patients, `statistics`
        those on both, `split` as in `reserve`. Returns the dataset's epsilon at the end of the
        run. Raises RefusedByBudget with the epsilon that would fit.
        """
        return check_fits(
            self.releases(),
            plan,
            evaluation,
            statistics=statistics,
            split=split,
            budget_epsilon=budget_epsilon,
            delta=delta,
        )

    def history(self, *, delta: float) -> tuple[RunSpent, ...]:
        """One line a run, oldest first: what it took, and where the dataset stood after it."""
        return runs(self.releases(), delta=delta)

    def close(self) -> None:
        """Let another process have the ledger."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _reserved_body(**fields: object) -> ReservedBody:
    try:
        return ReservedBody.model_validate(fields)
    except ValidationError as error:
        wrong = ", ".join(str(part["loc"][0]) for part in error.errors())
        raise BadInput(f"ledger: reservation with a wrong {wrong}") from error
