"""A complete, honest run in memory: real keys, real chained logs, real masked updates; no torch.

The same options give the same bytes. `Party` keeps its signing key, so that a test can also play
a dishonest party that rewrites its own log and signs it again.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from tests.support.engine_audits import engine_audit, noise_measurement
from tests.support.evidence_party import Party
from tests.support.federation_study import (
    NAMES,
    counts_of_hospital,
    new_identity,
    statistics_of_hospital,
    study_of,
)
from tests.support.honest_engines import engine_of
from tests.support.masked_hospitals import seeded

from wardround.audit.bundle import RunEvidence
from wardround.audit.countersign import Countersignature, countersign
from wardround.canonical import Json
from wardround.evidence.entry import head_of
from wardround.masking.directory import Directory
from wardround.masking.pairs import PairSecrets
from wardround.masking.quantise import Lanes, largest_limit
from wardround.masking.round_spec import Purpose, RoundSpec
from wardround.masking.run_key import RunKey, sign_run_key
from wardround.masking.update import mask, update_digest
from wardround.privacy.accounting import epsilon_spent
from wardround.privacy.engine import StatisticsEngine, Trained, parse_engine
from wardround.privacy.mechanism import SampledGaussian
from wardround.protocol.specs import (
    evaluation_layout,
    statistics_layout,
    training_scale,
)
from wardround.study.files import sign_study
from wardround.study.manifest import Study

__all__ = ["NAMES", "Federation", "Party", "federation", "new_identity", "study_of"]

RUN, SESSION = "ab" * 16, "cd" * 16
START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
PARAMETERS = 31
BUDGET = 10.0


@dataclass
class Federation:
    """A finished run and everything that its parties hand over."""

    study: Study
    coordinator: Party
    hospitals: dict[str, Party]
    run_keys: dict[str, RunKey] = field(default_factory=dict)
    directory: Directory | None = None
    countersignatures: dict[str, Countersignature] = field(default_factory=dict)
    lost: dict[str, tuple[int, str]] = field(default_factory=dict)
    clock: datetime = START
    releases: dict[str, list[SampledGaussian]] = field(default_factory=dict)
    audited: bool = False
    witnessed: bool = False
    software: str = "0.1.0"

    def fork(self) -> "Federation":
        """A copy whose logs can be changed."""
        parties = {
            name: Party(name, party.identity, list(party.entries))
            for name, party in self.hospitals.items()
        }
        coordinator = Party(
            "coordinator", self.coordinator.identity, list(self.coordinator.entries)
        )
        return replace(
            self,
            coordinator=coordinator,
            hospitals=parties,
            countersignatures=dict(self.countersignatures),
        )

    def tick(self) -> datetime:
        self.clock += timedelta(seconds=7)
        return self.clock

    def parts(self, *, without: frozenset[str] = frozenset()) -> RunEvidence:
        kept = {name: party for name, party in self.hospitals.items() if name not in without}
        return RunEvidence(
            signed_study=sign_study(self.study, self.coordinator.identity),
            coordinator_key=self.coordinator.identity.public_key,
            hospital_keys={n: p.identity.public_key for n, p in self.hospitals.items()},
            coordinator=self.coordinator.export(),
            hospitals={name: party.export() for name, party in kept.items()},
            countersignatures={
                n: signed for n, signed in self.countersignatures.items() if n in kept
            },
        )


def federation(
    *,
    rounds: int = 3,
    names: tuple[str, ...] = NAMES,
    lost: Mapping[str, tuple[int, str]] | None = None,
    changes: Mapping[str, Mapping[str, object]] | None = None,
    study: Study | None = None,
    keys: str = "",
    audited: bool = False,
    witnessed: bool = False,
    software: str = "0.1.0",
) -> Federation:
    """Run it all. `lost` = {hospital: (round from which it does not answer, reason)}.

    `audited`: the hospitals audited their engines before, and measured their noise. `witnessed`:
    the coordinator logs the head of a hospital's log with each update, as the real one does.
    """
    study = study or study_of(names, rounds=rounds, changes=changes, keys=keys)
    fed = Federation(
        study=study,
        coordinator=Party("coordinator", new_identity(f"{keys}coordinator")),
        hospitals={name: Party(name, new_identity(keys + name)) for name in study.names()},
        lost=dict(lost or {}),
        audited=audited,
        witnessed=witnessed,
        software=software,
    )
    _open(fed)
    cohort, model = study.names(), _digest_of("model", 0)
    if study.statistics is not None:
        _count(fed, cohort, model)
    for number in range(study.rounds.count):
        cohort, model = _round(fed, number, cohort, model)
    if study.rounds.count:
        _evaluate(fed, cohort, model)
    _close(fed, cohort, model)
    return fed


def _open(fed: Federation) -> None:
    study = fed.study
    for name, party in fed.hospitals.items():
        approved = {
            "study_digest": study.digest,
            "officer": f"privacy office of {name}",
            "policy_digest": _digest_of("policy", len(name)),
        }
        party.append("study-approved", approved, at=fed.tick())
        if fed.audited:
            for kind, body in engine_audit(study, name, run=RUN, session=SESSION):
                party.append(kind, body, at=fed.tick())
        fed.run_keys[name] = RunKey.generate(seeded(f"run-key/{name}"))
    opened = {"study_digest": study.digest, "run": RUN, "software": fed.software}
    fed.coordinator.append("study-opened", opened, at=fed.tick())
    keys = [
        sign_run_key(
            fed.hospitals[name].identity,
            fed.run_keys[name],
            run=RUN,
            session=SESSION,
            hospital=name,
        )
        for name in study.names()
    ]
    for key in keys:
        joined = {
            "run": RUN,
            "session": SESSION,
            "study_digest": study.digest,
            "epsilon_planned": study.privacy.epsilon,
        }
        fed.hospitals[key.hospital].append("run-joined", joined, at=fed.tick())
        _witness(fed, key.hospital)
    fed.directory = Directory.checked(
        keys,
        run=RUN,
        session=SESSION,
        identity_keys={n: p.identity.public_key for n, p in fed.hospitals.items()},
    )
    for key in fed.directory.entries:
        body = {"hospital": key.hospital, "session": SESSION, "run_key": key.to_json()}
        fed.coordinator.append("hospital-joined", body, at=fed.tick())


def _witness(fed: Federation, name: str) -> None:
    entries = fed.coordinator.entries
    body = {"actor": "coordinator", "size": len(entries), "head": head_of(entries)}
    fed.hospitals[name].append("checkpoint-witnessed", body, at=fed.tick())


def _round(
    fed: Federation, number: int, cohort: tuple[str, ...], model: str
) -> tuple[tuple[str, ...], str]:
    gone = {name: reason for name, (at, reason) in fed.lost.items() if at == number}
    if gone:
        spec = _spec(fed, Purpose.TRAIN, number, 1, cohort, model)
        _attempt(fed, spec, gone)
        cohort = tuple(name for name in cohort if name not in gone)
    spec = _spec(fed, Purpose.TRAIN, number, 2 if gone else 1, cohort, model)
    digest = _attempt(fed, spec, {})
    after = _digest_of("model", number + 1)
    body = {
        "transcript": spec.transcript().hex(),
        "sum_digest": digest,
        "model_before": model,
        "model_after": after,
    }
    fed.coordinator.append("round-closed", body, at=fed.tick())
    return cohort, after


def _spec(
    fed: Federation,
    purpose: Purpose,
    number: int,
    attempt: int,
    cohort: tuple[str, ...],
    model: str,
) -> RoundSpec:
    trains = purpose is Purpose.TRAIN
    assert fed.directory is not None
    return RoundSpec(
        purpose=purpose,
        run=RUN,
        session=SESSION,
        study_digest=fed.study.digest,
        round=number,
        attempt=attempt,
        cohort=cohort,
        directory_digest=fed.directory.digest,
        model_digest=model,
        lanes=_lanes_of(fed.study, purpose),
        scale=training_scale(fed.study, len(cohort), PARAMETERS) if trains else 1.0,
        limit=largest_limit(len(cohort)),
        minimum=fed.study.masking.minimum_hospitals,
    )


def _attempt(fed: Federation, spec: RoundSpec, gone: Mapping[str, str]) -> str:
    """One attempt with real masks; returns the digest of the opened sum."""
    transcript = spec.transcript().hex()
    body = {"transcript": transcript, "spec": spec.to_json()}
    fed.coordinator.append("round-opened", body, at=fed.tick())
    total = np.zeros(spec.lanes, dtype=np.uint32)
    received = []
    for name in spec.cohort:
        if name in gone:
            continue
        words, entry = _answer(fed, name, spec)
        total += words
        received.append(entry)
    for entry in received:
        fed.coordinator.append("update-received", entry, at=fed.tick())
        if fed.witnessed:
            own = fed.hospitals[entry["hospital"]]
            seen = {"actor": own.name, "size": len(own.entries), "head": head_of(own.entries)}
            fed.coordinator.append("checkpoint-witnessed", seen, at=fed.tick())
    for name, reason in gone.items():
        missed = {"transcript": transcript, "hospital": name, "reason": reason}
        fed.coordinator.append("hospital-missed", missed, at=fed.tick())
    if gone:
        void = {"transcript": transcript, "reason": f"missing {', '.join(gone)}"}
        fed.coordinator.append("attempt-void", void, at=fed.tick())
    return update_digest(total)


def _answer(fed: Federation, name: str, spec: RoundSpec) -> tuple[np.ndarray, Json]:
    party, transcript = fed.hospitals[name], spec.transcript().hex()
    release = hashlib.sha256(f"{name}/{transcript}".encode()).hexdigest()[:32]
    _witness(fed, name)
    engine = engine_of(fed.study, spec, name)
    reserved = {
        "release": release,
        "transcript": transcript,
        "purpose": spec.purpose.value,
        "mechanism": engine["mechanism"],
    }
    party.append("release-reserved", reserved, at=fed.tick())
    counted = {
        Purpose.STATISTICS: statistics_of_hospital,
        Purpose.EVALUATE: counts_of_hospital,
    }
    trains = spec.purpose is Purpose.TRAIN
    lanes = _update(name, spec) if trains else counted[spec.purpose](fed.study, name)
    assert fed.directory is not None
    secrets = PairSecrets.agree(fed.run_keys[name], fed.directory, name)
    masked, signature = mask(
        lanes, spec, secrets.round_masks(spec), identity=party.identity, hospital=name
    )
    sent = {
        "release": release,
        "transcript": transcript,
        "update_digest": masked.header.update_digest,
        "engine": engine,
    }
    party.append("release-sent", sent, at=fed.tick())
    _charge(fed, name, engine)
    return masked.values, {
        "transcript": transcript,
        "hospital": name,
        "header": masked.header.to_json(),
        "signature": signature.hex(),
        "bytes": 4 * spec.lanes,
    }


def _charge(fed: Federation, name: str, engine: Json) -> None:
    done = parse_engine(engine)
    charged = isinstance(done, Trained | StatisticsEngine)
    if charged and isinstance(done.released, SampledGaussian):
        fed.releases.setdefault(name, []).append(done.released)


def _update(name: str, spec: RoundSpec) -> Lanes:
    random = np.random.default_rng(spec.round * 1000 + len(name))
    return random.integers(-1000, 1000, spec.lanes).astype(np.int32)


def _lanes_of(study: Study, purpose: Purpose) -> int:
    if purpose is Purpose.STATISTICS:
        return statistics_layout(study).lanes
    return PARAMETERS if purpose is Purpose.TRAIN else evaluation_layout(study).lanes


def _count(fed: Federation, cohort: tuple[str, ...], model: str) -> None:
    spec = _spec(fed, Purpose.STATISTICS, 0, 1, cohort, model)
    digest = _attempt(fed, spec, {})
    sums = np.sum([statistics_of_hospital(fed.study, name) for name in cohort], axis=0)
    body = {
        "transcript": spec.transcript().hex(),
        "sum_digest": digest,
        "sums": [int(total) for total in sums],
    }
    fed.coordinator.append("statistics-closed", body, at=fed.tick())


def _evaluate(fed: Federation, cohort: tuple[str, ...], model: str) -> None:
    number = fed.study.rounds.count
    spec = _spec(fed, Purpose.EVALUATE, number, 1, cohort, model)
    digest = _attempt(fed, spec, {})
    counts = np.sum([counts_of_hospital(fed.study, name) for name in cohort], axis=0)
    body = {
        "transcript": spec.transcript().hex(),
        "sum_digest": digest,
        "counts": [int(count) for count in counts],
    }
    fed.coordinator.append("evaluation-closed", body, at=fed.tick())


def _close(fed: Federation, cohort: tuple[str, ...], model: str) -> None:
    closed = {
        "rounds": fed.study.rounds.count,
        "hospitals_completed": list(cohort),
        "model": model,
    }
    fed.coordinator.append("run-closed", closed, at=fed.tick())
    end_and_countersign(fed, cohort)


def end_and_countersign(fed: Federation, cohort: tuple[str, ...]) -> None:
    """What hospitals do when the coordinator shows its whole log."""
    note, head = fed.coordinator.checkpoint(), head_of(fed.coordinator.entries)
    delta = fed.study.privacy.delta
    for name in cohort:
        party = fed.hospitals[name]
        releases = fed.releases.get(name, [])
        epsilon = epsilon_spent(releases, delta=delta) if delta and releases else None
        _witness(fed, name)
        ended = {
            "run": RUN,
            "coordinator_head": head,
            "epsilon": epsilon,
            "delta": delta,
            "epsilon_dataset": epsilon,
            "epsilon_budget": BUDGET,
        }
        if fed.audited:
            party.append(*noise_measurement(RUN, steps=len(releases)), at=fed.tick())
        party.append("run-ended", ended, at=fed.tick())
        fed.countersignatures[name] = countersign(
            party.identity, study_digest=fed.study.digest, run=RUN, checkpoint=note
        )


def _digest_of(what: str, number: int) -> str:
    return hashlib.sha256(f"{what}/{number}".encode()).hexdigest()
