"""A coordinator's real loop over hospitals in memory, and answers that are bent on the way."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from flwr.app import RecordDict
from tests.support.hospitals import LANES, NAMES, RUN, Ward
from tests.support.memory_grid import MemoryGrid

from wardround.audit.bundle import RunEvidence
from wardround.canonical import Json, parse_canonical
from wardround.masking.hospital_round import HospitalRound, Upload
from wardround.masking.quantise import quantise
from wardround.masking.update import update_digest
from wardround.protocol.envelope import Vector, seal, unseal
from wardround.protocol.halves import digest_of_model
from wardround.protocol.messages import Body, Update, Work
from wardround_server.rounds.closing import RunCloser
from wardround_server.rounds.post import Post
from wardround_server.rounds.record import RunRecord
from wardround_server.rounds.run import Run
from wardround_server.rounds.session import Session
from wardround_server.rounds.uploads import UploadStore


class Federation:
    """A study that everybody approved, its coordinator's loop, and its log."""

    def __init__(
        self, ward: Ward, reply: Callable[..., RecordDict | None] | None = None, **changes: Any
    ) -> None:
        self.ward, self.study = ward, ward.study(**changes)
        ward.approve_everywhere(self.study)
        self.log = ward.new_log()
        self.grid = MemoryGrid(ward, reply)
        self.status = ward.folder / "status.json"
        self.uploads: UploadStore | None = None

    def run(self) -> Run:
        signed = parse_canonical(self.ward.signed(self.study), what="study", limit_bytes=1 << 20)
        record = RunRecord(self.study, RUN, self.log, self.status)
        checkpoint = self.ward.folder / "checkpoint"
        keys = self.ward.identity_keys
        return Run(
            self.study, record, self.grid, signed, keys, checkpoint, self.uploads, join_grace_s=0.1
        )

    def close(self, model: Vector, session: Session) -> RunEvidence:
        record = RunRecord(self.study, RUN, self.log, self.status)
        closer = RunCloser(
            Post(self.grid, lanes=LANES),
            record,
            self.ward.signed(self.study),
            self.ward.coordinator.identity().public_key,
            self.ward.identity_keys,
        )
        record.closed(self.study.rounds.count, digest_of_model(self.study, model))
        return closer.close(session, model, deadline_s=5.0)

    def entries(self, kind: str) -> list[Json]:
        return [entry.body for entry in self.log.entries() if entry.type == kind]

    def cohorts(self) -> list[list[str]]:
        """Who was asked, attempt by attempt."""
        return [body["spec"]["cohort"] for body in self.entries("round-opened")]

    def survivors(self) -> list[list[str]]:
        """Whose updates are in each opened sum with double masks."""
        return [body["survivors"] for body in self.entries("survivors-agreed")]


class PlainLanes:
    """What every hospital puts under its masks, seen where it does: by transcript and hospital."""

    def __init__(self, monkeypatch: Any) -> None:
        self.lanes: dict[str, dict[str, Vector]] = {}
        real = HospitalRound.upload

        def seen(masking: HospitalRound, values: Vector, **more: int) -> Upload:
            spec, lanes = masking.spec, values
            if values.dtype.kind == "f":
                lanes = quantise(values, scale=spec.scale, limit=spec.limit)
            of_attempt = self.lanes.setdefault(masking.transcript, {})
            of_attempt[masking.hospital] = np.array(lanes, dtype=np.int64)
            return real(masking, values, **more)

        monkeypatch.setattr(HospitalRound, "upload", seen)

    def sum_over(self, transcript: str, hospitals: Iterable[str]) -> Vector:
        """The plain sum as int32 lanes."""
        vectors = self.lanes[transcript]
        return np.sum([vectors[name] for name in hospitals], axis=0).astype(np.int32)

    def check(self, federation: Federation) -> int:
        """Every opened sum is the plain sum of whom the log says; how many sums there are."""
        in_sum = {b["transcript"]: b["spec"]["cohort"] for b in federation.entries("round-opened")}
        for body in federation.entries("survivors-agreed"):
            in_sum[body["transcript"]] = body["survivors"]
        kinds = ("statistics-closed", "round-closed", "evaluation-closed")
        closed = [body for kind in kinds for body in federation.entries(kind)]
        for body in closed:
            total = self.sum_over(body["transcript"], in_sum[body["transcript"]])
            assert update_digest(total) == body["sum_digest"]
        return len(closed)


def when(matches, then, *, name=NAMES[2]):
    """A reply that is bent for one hospital, when `matches(question)` holds; else as it is."""

    def reply(hospital, question, answer):
        body, _ = unseal(question, lanes=LANES)
        return then(answer) if hospital == name and matches(body) else answer

    return reply


def bending(*replies):
    """Several of `when`, one after the other."""

    def reply(hospital, question, answer):
        for bend in replies:
            if isinstance(answer, RecordDict):
                answer = bend(hospital, question, answer)
        return answer

    return reply


def asks(kind: type[Body], *, attempt: int = 1):
    """Whether this is the so-manieth transcript that is asked for `kind`."""
    seen: list[str] = []

    def matches(body: Body) -> bool:
        if not isinstance(body, kind):
            return False
        if body.transcript not in seen:
            seen.append(body.transcript)
        return seen.index(body.transcript) == attempt - 1

    return matches


def in_round(number, attempt=1):
    return lambda body: (
        isinstance(body, Work) and (body.spec["round"], body.spec["attempt"]) == (number, attempt)
    )


def unsigned(content: RecordDict) -> RecordDict:
    """An update with another signature than the hospital's: it counts for nothing."""
    body, vector = unseal(content, lanes=LANES)
    assert isinstance(body, Update)
    return seal(body.model_copy(update={"signature": "0" * 128}), vector)
