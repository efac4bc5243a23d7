"""A coordinator's real loop over hospitals in memory, and answers that are bent on the way."""

from collections.abc import Callable
from typing import Any

from flwr.app import RecordDict
from tests.support.hospitals import LANES, NAMES, RUN, Ward
from tests.support.memory_grid import MemoryGrid

from wardround.audit.bundle import RunEvidence
from wardround.canonical import Json, parse_canonical
from wardround.protocol.envelope import Vector, seal, unseal
from wardround.protocol.messages import Update, Work
from wardround.protocol.specs import model_digest
from wardround_server.rounds.closing import RunCloser
from wardround_server.rounds.post import Post
from wardround_server.rounds.record import RunRecord
from wardround_server.rounds.run import Run
from wardround_server.rounds.session import Session


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

    def run(self) -> Run:
        signed = parse_canonical(self.ward.signed(self.study), what="study", limit_bytes=1 << 20)
        record = RunRecord(self.study, RUN, self.log, self.status)
        checkpoint = self.ward.folder / "checkpoint"
        keys = self.ward.identity_keys
        return Run(self.study, record, self.grid, signed, keys, checkpoint)

    def close(self, model: Vector, session: Session) -> RunEvidence:
        record = RunRecord(self.study, RUN, self.log, self.status)
        closer = RunCloser(
            Post(self.grid, lanes=LANES),
            record,
            self.ward.signed(self.study),
            self.ward.coordinator.identity().public_key,
            self.ward.identity_keys,
        )
        record.closed(self.study.rounds.count, model_digest(model))
        return closer.close(session, model, deadline_s=5.0)

    def entries(self, kind: str) -> list[Json]:
        return [entry.body for entry in self.log.entries() if entry.type == kind]


def when(matches, then, *, name=NAMES[2]):
    """A reply that is bent for one hospital, when `matches(question)` holds; else as it is."""

    def reply(hospital, question, answer):
        body, _ = unseal(question, lanes=LANES)
        return then(answer) if hospital == name and matches(body) else answer

    return reply


def in_round(number, attempt=1):
    return lambda body: (
        isinstance(body, Work) and (body.spec["round"], body.spec["attempt"]) == (number, attempt)
    )


def unsigned(content: RecordDict) -> RecordDict:
    """An update with another signature than the hospital's: it counts for nothing."""
    body, vector = unseal(content, lanes=LANES)
    assert isinstance(body, Update)
    return seal(body.model_copy(update={"signature": "0" * 128}), vector)
