"""Releases as the ledger keeps them, and how their entries are read back."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Literal, NewType

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wardround.canonical import Json
from wardround.errors import VerificationFailed
from wardround.privacy.engine import Engine, parse_engine
from wardround.privacy.mechanism import Exact, Mechanism, SampledGaussian, Unit
from wardround_client.ledger.store import Entry

ReservationId = NewType("ReservationId", str)

_Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{8,128}$")]


class Purpose(Enum):
    """What a release is for, which says whose patients it touches."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    STATISTICS = "statistics"
    ATTACK_TEST = "attack-test"
    DATASHEET = "datasheet"


class GaussianBody(BaseModel):
    """A SampledGaussian in an entry."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    noise_multiplier: float
    sampling_rate: float
    steps: int
    truncation: float = 0.0


class ReservedBody(BaseModel):
    """Body of a reservation."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["reserved"] = "reserved"
    release: _Hex
    study_digest: _Hex
    run: _Hex
    purpose: Literal["train", "evaluate", "statistics", "attack-test", "datasheet"]
    transcript: _Hex
    mechanism: GaussianBody | Literal["exact"]
    unit: Unit
    units: Annotated[int, Field(ge=0)]
    split: Annotated[str, Field(min_length=1, max_length=100)]


class SentBody(BaseModel):
    """Body of a commit: what the engine did."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["sent"] = "sent"
    release: _Hex
    engine: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One release that was reserved, and sent if `done` is there. Either way it is spent."""

    id: ReservationId
    study_digest: str
    run: str
    purpose: Purpose
    transcript: str
    reserved: Mechanism
    done: Mechanism | None
    unit: Unit
    units: int
    split: str
    reserved_at: str
    sent_at: str | None

    @property
    def charged(self) -> Mechanism:
        """What the accountant charges: what was reserved, or worse where worse was done."""
        return self.reserved if self.done is None else worst_of(self.reserved, self.done)


def worst_of(first: Mechanism, second: Mechanism) -> Mechanism:
    """A mechanism that is no more private than either: least noise, highest rate, and so on."""
    if isinstance(first, Exact) or isinstance(second, Exact):
        return Exact()
    return SampledGaussian(
        min(first.noise_multiplier, second.noise_multiplier),
        max(first.sampling_rate, second.sampling_rate),
        max(first.steps, second.steps),
        max(first.truncation, second.truncation),
    )


def encode_mechanism(mechanism: Mechanism) -> GaussianBody | Literal["exact"]:
    """The form of a mechanism inside an entry."""
    if isinstance(mechanism, Exact):
        return "exact"
    return GaussianBody(
        noise_multiplier=mechanism.noise_multiplier,
        sampling_rate=mechanism.sampling_rate,
        steps=mechanism.steps,
        truncation=mechanism.truncation,
    )


def read_releases(entries: Iterable[Entry]) -> tuple[Release, ...]:
    """Fold the entries into releases, in the order of their reservation."""
    reserved: dict[str, tuple[ReservedBody, str]] = {}
    sent: dict[str, tuple[Engine, str]] = {}
    for entry in entries:
        try:
            if entry.body.get("kind") == "reserved":
                body = ReservedBody.model_validate(entry.body)
                reserved[body.release] = (body, entry.time)
            elif entry.body.get("kind") == "sent":
                done = SentBody.model_validate(entry.body)
                sent[done.release] = (parse_engine(done.engine), entry.time)
        except ValidationError as error:
            raise VerificationFailed(f"ledger: entry {entry.seq} has another form") from error
    return tuple(_release(body, time, sent.get(name)) for name, (body, time) in reserved.items())


def _release(body: ReservedBody, time: str, sent: tuple[Engine, str] | None) -> Release:
    return Release(
        id=ReservationId(body.release),
        study_digest=body.study_digest,
        run=body.run,
        purpose=Purpose(body.purpose),
        transcript=body.transcript,
        reserved=_mechanism(body.mechanism),
        done=None if sent is None else sent[0].released,
        unit=body.unit,
        units=body.units,
        split=body.split,
        reserved_at=time,
        sent_at=None if sent is None else sent[1],
    )


def _mechanism(body: GaussianBody | Literal["exact"]) -> Mechanism:
    if body == "exact":
        return Exact()
    return SampledGaussian(body.noise_multiplier, body.sampling_rate, body.steps, body.truncation)
