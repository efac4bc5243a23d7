"""One attempt as honest parties log it: updates, survivors, signatures; real keys and lanes."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np
from tests.support.evidence_party import Party
from tests.support.federation_study import counts_of_hospital, statistics_of_hospital
from tests.support.honest_controls import control_of
from tests.support.honest_engines import engine_of

from wardround.canonical import Json
from wardround.evidence.entry import head_of
from wardround.identity import Identity
from wardround.masking.packing import packed_size
from wardround.masking.quantise import Lanes
from wardround.masking.round_spec import Profile, Purpose, RoundSpec
from wardround.masking.survivors import SurvivorSet
from wardround.masking.update import UPDATE_PURPOSE, UpdateHeader, update_digest
from wardround.study.manifest import Study

UNSIGNED, UNREVEALED = "signed", "revealed"


@dataclass(frozen=True)
class Absences:
    """Who does not answer in one attempt, and why: at the upload, or at a later stage."""

    gone: dict[str, str] = field(default_factory=dict)
    vanished: dict[str, str] = field(default_factory=dict)
    suspected: dict[str, str] = field(default_factory=dict)


class Running(Protocol):
    """What an attempt needs of the federation."""

    study: Study
    coordinator: Party
    hospitals: dict[str, Party]
    witnessed: bool

    def tick(self) -> datetime: ...
    def charge(self, name: str, engine: Json) -> None: ...


def digest_of(what: str, number: int = 0) -> str:
    return hashlib.sha256(f"{what}/{number}".encode()).hexdigest()


def logged_attempt(fed: Running, spec: RoundSpec, absences: Absences) -> tuple[str, Lanes] | None:
    """Log one attempt up to its end; the sum and its digest, or None when it is void."""
    transcript = spec.transcript().hex()
    body = {"transcript": transcript, "spec": spec.to_json()}
    fed.coordinator.append("round-opened", body, at=fed.tick())
    inside = [name for name in spec.cohort if name not in absences.gone]
    total = np.zeros(spec.lanes, dtype=np.int32)
    for entry in [_update_of(fed, name, spec, total) for name in inside]:
        fed.coordinator.append("update-received", entry, at=fed.tick())
        _seen_by_coordinator(fed, entry["hospital"])
    for name, reason in absences.gone.items():
        missed = {"transcript": transcript, "hospital": name, "reason": reason}
        fed.coordinator.append("hospital-missed", missed, at=fed.tick())
    if len(inside) < spec.threshold or not _agreed(fed, spec, inside, absences):
        lost = ", ".join([*absences.gone, *absences.vanished])
        void = {"transcript": transcript, "reason": f"missing {lost}"}
        fed.coordinator.append("attempt-void", void, at=fed.tick())
        return None
    return update_digest(total), total


def _agreed(fed: Running, spec: RoundSpec, inside: list[str], absences: Absences) -> bool:
    """The later stages: whether enough signed and revealed."""
    if spec.profile is Profile.ONE_TRIP:
        return True
    transcript = spec.transcript().hex()
    survivors = SurvivorSet(transcript, tuple(inside))
    signatures = {}
    for name in inside:
        if absences.vanished.get(name) != UNSIGNED:
            signatures[name] = _sign(fed, name, survivors)
            _seen_by_coordinator(fed, name)
    for name, stage in absences.vanished.items():
        body = {"transcript": transcript, "hospital": name, "stage": stage}
        fed.coordinator.append("hospital-vanished", body, at=fed.tick())
    if len(inside) - len(absences.vanished) < spec.threshold:
        return False
    for name, reason in absences.suspected.items():
        body = {"transcript": transcript, "hospital": name, "reason": reason}
        fed.coordinator.append("share-rejected", body, at=fed.tick())
    agreed = {"transcript": transcript, "survivors": inside, "signatures": signatures}
    fed.coordinator.append("survivors-agreed", agreed, at=fed.tick())
    return True


def _sign(fed: Running, name: str, survivors: SurvivorSet) -> str:
    party = fed.hospitals[name]
    body = {"transcript": survivors.transcript, "survivors": list(survivors.survivors)}
    party.append("survivors-signed", body, at=fed.tick())
    return survivors.sign(party.identity, name).hex()


def _seen_by_coordinator(fed: Running, name: str) -> None:
    if fed.witnessed:
        own = fed.hospitals[name]
        seen = {"actor": name, "size": len(own.entries), "head": head_of(own.entries)}
        fed.coordinator.append("checkpoint-witnessed", seen, at=fed.tick())


def witness(fed: Running, name: str) -> None:
    """The hospital notes the head of the coordinator's log."""
    entries = fed.coordinator.entries
    body = {"actor": "coordinator", "size": len(entries), "head": head_of(entries)}
    fed.hospitals[name].append("checkpoint-witnessed", body, at=fed.tick())


def _update_of(fed: Running, name: str, spec: RoundSpec, total: Lanes) -> Json:
    """A hospital answers: its two entries, its lanes in the sum, and what is logged of it."""
    party, transcript = fed.hospitals[name], spec.transcript().hex()
    release = digest_of(f"{name}/{transcript}")[:32]
    witness(fed, name)
    engine = engine_of(fed.study, spec, name)
    reserved = {
        "release": release,
        "transcript": transcript,
        "purpose": spec.purpose.value,
        "mechanism": engine["mechanism"],
        **control_of(fed, name, spec),
    }
    party.append("release-reserved", reserved, at=fed.tick())
    total += _lanes(fed.study, spec, name)
    header, signature = _header(party.identity, name, spec)
    sent = {
        "release": release,
        "transcript": transcript,
        "update_digest": header.update_digest,
        "engine": engine,
    }
    party.append("release-sent", sent, at=fed.tick())
    fed.charge(name, engine)
    return {
        "transcript": transcript,
        "hospital": name,
        "header": header.to_json(),
        "signature": signature.hex(),
        "bytes": packed_size(spec.lanes, spec.bits),
    }


def _header(identity: Identity, name: str, spec: RoundSpec) -> tuple[UpdateHeader, bytes]:
    """A signed header over digests of what nobody looks at here: vector, mask keys, shares."""
    transcript, double = spec.transcript().hex(), spec.profile is Profile.DOUBLE_MASK
    about = f"{name}/{transcript}"
    header = UpdateHeader(
        hospital=name,
        transcript=transcript,
        update_digest=digest_of(f"packed/{about}"),
        self_commitment=digest_of(f"self/{about}") if double else None,
        pairs_root=digest_of(f"pairs/{about}") if double else None,
    )
    return header, identity.sign(UPDATE_PURPOSE, header.signed_bytes())


def _lanes(study: Study, spec: RoundSpec, name: str) -> Lanes:
    if spec.purpose is Purpose.STATISTICS:
        return statistics_of_hospital(study, name)
    if spec.purpose is Purpose.EVALUATE:
        return counts_of_hospital(study, name)
    random = np.random.default_rng(spec.round * 1000 + len(name))
    return random.integers(-1000, 1000, spec.lanes).astype(np.int32)
