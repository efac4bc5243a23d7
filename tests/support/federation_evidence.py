"""A complete, honest run in memory: real keys, real signatures, real chained logs; no torch.

Sums are those of the survivors' lanes; of the masked vectors there are only the digests. The same
options give the same bytes. `Party` keeps its signing key, so that a test can also play
a dishonest party that rewrites its own log and signs it again.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from tests.support.comparisons import comparison, held_out
from tests.support.datasheets import datasheet
from tests.support.engine_audits import engine_audit, noise_measurement
from tests.support.evidence_party import Party
from tests.support.federation_study import (
    NAMES,
    new_identity,
    study_of,
)
from tests.support.honest_rounds import UNSIGNED, Absences, digest_of, logged_attempt, witness
from tests.support.masked_hospitals import seeded

from wardround.audit.bundle import RunEvidence
from wardround.audit.countersign import Countersignature, countersign
from wardround.canonical import Json
from wardround.evidence.entry import head_of
from wardround.masking.directory import Directory
from wardround.masking.quantise import largest_limit
from wardround.masking.round_spec import Purpose, RoundSpec
from wardround.masking.run_key import RunKey, sign_run_key
from wardround.privacy.accounting import epsilon_spent
from wardround.privacy.engine import StatisticsEngine, Trained, parse_engine
from wardround.privacy.mechanism import SampledGaussian
from wardround.protocol.specs import (
    bits_of,
    evaluation_layout,
    statistics_layout,
    threshold_in,
    training_scale,
)
from wardround.study.files import sign_study
from wardround.study.manifest import Study
from wardround.study.own_model import with_own_model

__all__ = ["NAMES", "Federation", "Party", "federation", "new_identity", "study_of"]

RUN, SESSION = "ab" * 16, "cd" * 16
START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
PARAMETERS = 31
STATISTICS = -1
BUDGET = 10.0


@dataclass
class Absent:
    """Who is gone, from or in which round, and in which way; rounds whose first attempt is void."""

    lost: dict[str, tuple[int, str]]
    vanished: dict[str, tuple[int, str]]
    suspected: dict[str, tuple[int, str]]
    void: set[int]
    returned: frozenset[str] = frozenset()


@dataclass
class Federation:
    """A finished run and everything that its parties hand over."""

    study: Study
    coordinator: Party
    hospitals: dict[str, Party]
    run_keys: dict[str, RunKey] = field(default_factory=dict)
    directory: Directory | None = None
    countersignatures: dict[str, Countersignature] = field(default_factory=dict)
    absent: "Absent" = field(default_factory=lambda: Absent({}, {}, {}, set()))
    clock: datetime = START
    releases: dict[str, list[SampledGaussian]] = field(default_factory=dict)
    audited: bool = False
    described: bool = False
    compared: bool = False
    witnessed: bool = False
    software: str = "0.1.0"
    code: dict[str, str] = field(default_factory=dict)

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

    def charge(self, name: str, engine: Json) -> None:
        done = parse_engine(engine)
        charged = isinstance(done, Trained | StatisticsEngine)
        if charged and isinstance(done.released, SampledGaussian):
            self.releases.setdefault(name, []).append(done.released)

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
    vanished: Mapping[str, tuple[int, str]] | None = None,
    suspected: Mapping[str, tuple[int, str]] | None = None,
    void: Collection[int] = (),
    returned: Collection[str] = (),
    changes: Mapping[str, Mapping[str, object]] | None = None,
    study: Study | None = None,
    keys: str = "",
    audited: bool = False,
    described: bool = False,
    compared: bool = False,
    witnessed: bool = False,
    software: str = "0.1.0",
    code: dict[str, str] | None = None,
) -> Federation:
    """Run it all. `lost` = {hospital: (round from which it does not answer, reason)}.

    Round STATISTICS is before the first, the evaluation's after the last.
    `vanished` = {hospital: (round, stage)}: its update is in the sum, and it is gone from that
    stage on, for this round only. `suspected` = {hospital: (round, what did not fit)}. Of the
    rounds in `void` the first attempt has one signature too few. Who is `returned` as well as
    lost is asked again in the next round. `audited`: the hospitals audited
    their engines before, and measured their noise. `described`: they say what their data are
    like. `compared`: it is a rehearsal, and its coordinator states how other models do.
    `witnessed`: the coordinator logs the heads of the hospitals' logs, as the real one does.
    `code` are the digests that everybody logs.
    """
    study = study or study_of(names, rounds=rounds, changes=changes, keys=keys)
    fed = Federation(
        study=study,
        coordinator=Party("coordinator", new_identity(f"{keys}coordinator")),
        hospitals={name: Party(name, new_identity(keys + name)) for name in study.names()},
        absent=Absent(
            dict(lost or {}),
            dict(vanished or {}),
            dict(suspected or {}),
            set(void),
            frozenset(returned),
        ),
        audited=audited,
        described=described,
        compared=compared,
        witnessed=witnessed,
        software=software,
        code=code or {},
    )
    _open(fed)
    cohort, model = study.names(), digest_of("model")
    if study.statistics is not None:
        cohort = _count(fed, cohort, model)
    for number in range(study.rounds.count):
        cohort, model = _round(fed, number, cohort, model)
    if study.rounds.count:
        cohort = _evaluate(fed, cohort, model)
    _close(fed, cohort, model)
    return fed


def _open(fed: Federation) -> None:
    study = fed.study
    for name, party in fed.hospitals.items():
        approved = {
            "study_digest": study.digest,
            "officer": f"privacy office of {name}",
            "policy_digest": digest_of("policy", len(name)),
        }
        party.append("study-approved", approved, at=fed.tick())
        if fed.audited:
            for kind, body in engine_audit(study, name, run=RUN, session=SESSION):
                party.append(kind, body, at=fed.tick())
        fed.run_keys[name] = RunKey.generate(seeded(f"run-key/{name}"))
    opened = {"study_digest": study.digest, "run": RUN, "software": fed.software}
    opened |= _code(fed, "wardround_server")
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
            **_code(fed, "wardround_client"),
        }
        fed.hospitals[key.hospital].append("run-joined", joined, at=fed.tick())
        if study.rounds.count:
            built = {"run": RUN, "session": SESSION, "layers": ["Linear", "Sequential"]}
            fed.hospitals[key.hospital].append("network-built", built, at=fed.tick())
        witness(fed, key.hospital)
    fed.directory = Directory.checked(
        keys,
        run=RUN,
        session=SESSION,
        identity_keys={n: p.identity.public_key for n, p in fed.hospitals.items()},
    )
    for key in fed.directory.entries:
        body = {"hospital": key.hospital, "session": SESSION, "run_key": key.to_json()}
        fed.coordinator.append("hospital-joined", body, at=fed.tick())


def _code(fed: Federation, package: str) -> Json:
    """What a party logs of its code: the shared package, its own, and that of an own model."""
    names = with_own_model(("wardround", package), fed.study.task)
    own = {name: digest for name, digest in fed.code.items() if name in names}
    return {"code_digest": own} if own else {}


def _round(
    fed: Federation, number: int, cohort: tuple[str, ...], model: str
) -> tuple[tuple[str, ...], str]:
    tried = _absences(fed, number)
    gone, attempt, found = tried.gone.keys() - fed.absent.returned, 1, None
    if number in fed.absent.void:
        spec = spec_of(fed, Purpose.TRAIN, number, 1, cohort, model)
        silent = dict.fromkeys(cohort[spec.threshold - 1 :], UNSIGNED)
        assert logged_attempt(fed, spec, Absences(vanished=silent)) is None
        attempt = 2
    while found is None:
        spec = spec_of(fed, Purpose.TRAIN, number, attempt, cohort, model)
        found = logged_attempt(fed, spec, tried)
        cohort = tuple(name for name in cohort if name not in gone)
        attempt, tried = attempt + 1, Absences()
    after = digest_of("model", number + 1)
    body = {
        "transcript": spec.transcript().hex(),
        "sum_digest": found[0],
        "model_before": model,
        "model_after": after,
    }
    fed.coordinator.append("round-closed", body, at=fed.tick())
    return cohort, after


def _absences(fed: Federation, number: int) -> Absences:
    def at(named: Mapping[str, tuple[int, str]]) -> dict[str, str]:
        return {name: what for name, (when, what) in named.items() if when == number}

    absent = fed.absent
    return Absences(at(absent.lost), at(absent.vanished), at(absent.suspected))


def spec_of(
    fed: Federation,
    purpose: Purpose,
    number: int,
    attempt: int,
    cohort: tuple[str, ...],
    model: str,
) -> RoundSpec:
    """The study's own spec of an attempt."""
    study, trains = fed.study, purpose is Purpose.TRAIN
    assert fed.directory is not None
    bits = bits_of(study, purpose)
    return RoundSpec(
        purpose=purpose,
        profile=study.profile_of(purpose),
        run=RUN,
        session=SESSION,
        study_digest=study.digest,
        round=number,
        attempt=attempt,
        cohort=cohort,
        partition=(cohort,),
        threshold=threshold_in(study, purpose, len(cohort)),
        directory_digest=fed.directory.digest,
        model_digest=model,
        lanes=_lanes_of(study, purpose),
        bits=bits,
        scale=training_scale(study, len(cohort), PARAMETERS) if trains else 1.0,
        limit=largest_limit(len(cohort), bits),
        minimum=study.masking.minimum_hospitals,
    )


def _lanes_of(study: Study, purpose: Purpose) -> int:
    if purpose is Purpose.STATISTICS:
        return statistics_layout(study).lanes
    return PARAMETERS if purpose is Purpose.TRAIN else evaluation_layout(study).lanes


def _count(fed: Federation, cohort: tuple[str, ...], model: str) -> tuple[str, ...]:
    spec = spec_of(fed, Purpose.STATISTICS, 0, 1, cohort, model)
    return _open_counts(fed, spec, "sums", _absences(fed, STATISTICS))


def _evaluate(fed: Federation, cohort: tuple[str, ...], model: str) -> tuple[str, ...]:
    number = fed.study.rounds.count
    spec = spec_of(fed, Purpose.EVALUATE, number, 1, cohort, model)
    return _open_counts(fed, spec, "counts", _absences(fed, number))


def _open_counts(
    fed: Federation, spec: RoundSpec, name: str, absences: Absences
) -> tuple[str, ...]:
    found = logged_attempt(fed, spec, absences)
    assert found is not None
    body = {
        "transcript": spec.transcript().hex(),
        "sum_digest": found[0],
        name: found[1].tolist(),
    }
    kind = "statistics-closed" if spec.purpose is Purpose.STATISTICS else "evaluation-closed"
    fed.coordinator.append(kind, body, at=fed.tick())
    return tuple(name for name in spec.cohort if name not in absences.gone)


def _close(fed: Federation, cohort: tuple[str, ...], model: str) -> None:
    closed = {
        "rounds": fed.study.rounds.count,
        "hospitals_completed": [name for name in cohort if name not in fed.absent.returned],
        "model": model,
    }
    if fed.compared:
        entry = fed.coordinator.entries[-1]
        patients = held_out(fed.study, entry.body["counts"])
        told = comparison(fed.study, run=RUN, patients=patients)
        fed.coordinator.append(*told, at=fed.tick())
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
        witness(fed, name)
        ended = {
            "run": RUN,
            "coordinator_head": head,
            "epsilon": epsilon,
            "delta": delta,
            "epsilon_dataset": epsilon,
            "epsilon_budget": BUDGET,
        }
        if fed.described:
            party.append(*datasheet(fed.study, run=RUN), at=fed.tick())
        if fed.audited:
            party.append(*noise_measurement(RUN, steps=len(releases)), at=fed.tick())
        party.append("run-ended", ended, at=fed.tick())
        fed.countersignatures[name] = countersign(
            party.identity, study_digest=fed.study.digest, run=RUN, checkpoint=note
        )
