"""A coordinator that lies: to its hospitals while it runs, or in the bundle that it hands out."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from flwr.app import RecordDict
from tests.support.federation_evidence import Party
from tests.support.hospitals import LANES, MemoryHospital, Ward, proofs_of
from tests.support.memory_runs import Federation

from wardround.audit.bundle import RunEvidence, bundle_bytes, evidence_of
from wardround.audit.derive import derive_report
from wardround.audit.verdicts import Verdicts
from wardround.audit.verify import verify_bytes
from wardround.canonical import Json, canonical_bytes
from wardround.evidence.entry import Entry
from wardround.evidence.export import read_export
from wardround.evidence.log import EvidenceLog
from wardround.protocol.envelope import Vector, seal, unseal
from wardround.protocol.messages import Body, Close, Closed, Open, Refusal, Work

Said = tuple[Body, Vector | None]
Bend = Callable[[str, Body, Vector | None], Said]


@dataclass
class Liar:
    """Stands between the coordinator's honest loop and its hospitals."""

    ward: Ward
    bend: Bend
    refusals: list[tuple[str, str]] = field(default_factory=list)
    closed: dict[str, tuple[str, Closed]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> "Ear":
        return Ear(name, self.ward[name], self)


@dataclass
class Ear:
    """What one hospital hears instead, and answers with its real bytes."""

    name: str
    hospital: MemoryHospital
    liar: Liar

    def answer(self, content: RecordDict) -> RecordDict:
        body, vector = unseal(content, lanes=LANES)
        bent, vector = self.liar.bend(self.name, body, vector)
        answer = self.hospital.answer(seal(bent, vector))
        said, _ = unseal(answer, lanes=LANES)
        if isinstance(bent, Close) and isinstance(said, Closed):
            self.liar.closed[self.name] = (bent.checkpoint, said)
        if isinstance(said, Refusal):
            self.liar.refusals.append((self.name, said.code.value))
        return answer

    def restart(self) -> None:
        self.hospital.restart()


def lying(federation: Federation, bend: Bend) -> Liar:
    """From now on the federation's hospitals hear what `bend` makes of each message."""
    liar = Liar(federation.ward, bend)
    federation.grid.ward = liar
    return liar


def in_its_log(ward: Ward, entries: list[Entry]) -> EvidenceLog:
    """A second log under the coordinator's key that holds what these entries say."""
    log = ward.new_log()
    for entry in entries:
        log.append(entry.type, entry.body, time=entry.time)
    return log


def under(body: Body, log: EvidenceLog) -> Body:
    """The message with this log's head, proofs and entries."""
    if isinstance(body, Work):
        shown = {"checkpoint": log.checkpoint(), "consistency": proofs_of(log)}
        return body.model_copy(update=shown)
    if isinstance(body, Close):
        note = log.checkpoint(lasting=True)
        return body.model_copy(update={"checkpoint": note, "log": log.export().decode()})
    if isinstance(body, Open):
        return body.model_copy(update={"checkpoint": log.checkpoint()})
    return body  # between the ends of a round nothing shows the log


class TwoFaced:
    """One log, and beside it another that differs in its first entry."""

    def __init__(self, log: EvidenceLog, other: EvidenceLog) -> None:
        self._log, self.other = log, other

    def append_many(self, items: list[tuple[str, Json]], *, time: datetime) -> list[Entry]:
        told = [(k, {**b, "software": "9.9.9"} if k == "study-opened" else b) for k, b in items]
        self.other.append_many(told, time=time)
        return self._log.append_many(items, time=time)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


# --- what it hands out afterwards ---


def sealed(ward: Ward, parts: RunEvidence, report: bytes | None = None) -> bytes:
    """A bundle under the coordinator's key; the report follows from the parts unless given."""
    if report is None:
        report = canonical_bytes(derive_report(evidence_of(parts)))
    return bundle_bytes(parts, report, identity=ward.coordinator.identity())


def codes(bundle: bytes) -> dict[str, set[str]]:
    """What the verifier names, by the log or member where it shows."""
    return codes_of(verify_bytes(bundle))


def codes_of(verdicts: Verdicts) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for verdict in verdicts.four:
        for failure in verdict.failures:
            found.setdefault(failure.log, set()).add(failure.code)
    return found


def retold(
    ward: Ward, parts: RunEvidence, change: Callable[[list[Entry]], list[Entry]]
) -> RunEvidence:
    """The coordinator's log after `change`, chained and signed anew with its own key."""
    party = Party("coordinator", ward.coordinator.identity())
    party.rewrite(change(read_export(parts.coordinator.entries)))
    return replace(parts, coordinator=party.export())


def edited(kind: str, **fields: object) -> Callable[[list[Entry]], list[Entry]]:
    """The first entry of this type says something else."""

    def change(entries: list[Entry]) -> list[Entry]:
        at = next(entry.seq for entry in entries if entry.type == kind)
        body = {**json.loads(json.dumps(entries[at].body)), **fields}
        return [*entries[:at], replace(entries[at], body=body), *entries[at + 1 :]]

    return change
