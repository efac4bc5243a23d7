"""Each hazard asks the evidence, and each has a run in which it speaks up."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial

import pytest
from tests.support.engine_audits import noise_measurement
from tests.support.federation_evidence import RUN, Federation, federation, study_of
from tests.support.forgeries import respecified, rewritten, set_to, without

from wardround.audit.bundle import evidence_of
from wardround.audit.derive import report_of
from wardround.audit.hazards import QUESTIONS
from wardround.audit.report_model import Hazard, Origin, Status
from wardround.canonical import Json
from wardround.study.files import sign_study

EARLIER = "ef" * 16
NO_NOISE = {"privacy": {"mechanism": "none", "epsilon": None, "delta": None}}
DISTRIBUTED = {"privacy": {"mechanism": "distributed"}, "training": {"local_steps": 1}}
STATISTICS = {"epsilon": 1.0, "standardise": True}
NOISED = {"evaluation": {"counts": "noised", "epsilon": 2.0, "bins": 16}}

Build = Callable[[], Federation]


@lru_cache(maxsize=8)
def run(kind: str = "", *, audited: bool = False) -> Federation:
    changes: dict[str, Json] = {
        "": {},
        "none": NO_NOISE,
        "distributed": DISTRIBUTED,
        "noised": NOISED,
        "scaled": {"statistics": STATISTICS},
    }
    return federation(rounds=2, changes=changes[kind], audited=audited)


def changed(entry: str, kind: str = "", *, nth: int = 0, **fields: object) -> Build:
    """A run in which bergen's entry says something else."""

    def build() -> Federation:
        fed = run(kind, audited=entry in {"engine-audited", "noise-measured"}).fork()
        rewritten(fed.hospitals["bergen"], entry, set_to(**fields), nth)
        return fed

    return build


def engine(kind: str = "", *, nth: int = 0, **fields: object) -> Build:
    """A run in which bergen's engine logs something else."""

    def build() -> Federation:
        fed = run(kind).fork()
        rewritten(
            fed.hospitals["bergen"], "release-sent", lambda b: b["engine"].update(fields), nth
        )
        return fed

    return build


def of_study(**changes: Json) -> Build:
    return lambda: federation(rounds=1, changes=changes)


def less_noise() -> Federation:
    fed = run(audited=True).fork()
    _, body = noise_measurement(RUN, steps=2, noise=0.5)
    rewritten(fed.hospitals["bergen"], "noise-measured", set_to(**body))
    return fed


def answered_twice() -> Federation:
    """The coordinator voids an attempt without noise that all had answered, and asks again."""
    fed = run("none").fork()
    spec = fed.coordinator.entries
    opened = next(entry for entry in spec if entry.type == "round-opened")
    again = [e for e in spec if e.body.get("transcript") == opened.body["transcript"]]
    respecified(fed, 0, attempt=2)
    ended = {"transcript": opened.body["transcript"], "reason": "again"}
    for entry in again[:-1]:
        fed.coordinator.append(entry.type, entry.body, at=fed.tick())
    fed.coordinator.append("attempt-void", ended, at=fed.tick())
    return fed


def sum_of_three() -> Federation:
    """The study demands four hospitals, and a sum of three was opened."""
    fed = federation(rounds=1, lost={"leiden": (0, "deadline")})
    changes: Json = {"masking": {"minimum_hospitals": 4}, "rounds": {"quorum": 4}}
    fed.study = study_of(rounds=1, changes=changes)
    return fed


def scaled_without_statistics() -> Federation:
    fed = run("scaled").fork()
    without(fed.coordinator, "statistics-closed")
    return fed


def one_round_more() -> Federation:
    fed = run().fork()
    fed.study = study_of(rounds=1)
    return fed


def earlier_run(*, dataset: float | None) -> Build:
    """Bergen's log begins with a run of the same study; its ledger counts `dataset`."""

    def build() -> Federation:
        fed = run().fork()
        party = fed.hospitals["bergen"]
        copied = [e for e in party.entries if e.type in {"run-joined", "run-ended"}]
        first = [replace(e, body={**e.body, "run": EARLIER}) for e in copied]
        party.rewrite([*first, *party.entries])
        if dataset is not None:
            rewritten(party, "run-ended", set_to(epsilon_dataset=dataset), nth=1)
        return fed

    return build


def not_ready() -> Federation:
    """In an earlier session a hospital stayed out because of what its data are like."""
    fed = run().fork()
    body = {"hospital": "bergen", "code": "data-not-ready"}
    fed.coordinator.append("hospital-refused", body, at=fed.tick())
    return fed


def exact_counts() -> Federation:
    """One hospital's evaluation counts left without the noise that the study promises."""
    fed = run("noised").fork()
    party = fed.hospitals["bergen"]
    last = [e for e in party.entries if e.type == "release-sent"][-1]
    exact = replace(last, body={**last.body, "engine": {"mechanism": "exact"}})
    party.rewrite([exact if e.seq == last.seq else e for e in party.entries])
    return fed


def older_ones_ranked_by_coin() -> Federation:
    """The counts show a group for which the model does no better than chance."""
    bands = {"subgroups": [{"column": "age", "edges": [45, 65]}]}
    return federation(rounds=1, changes={"evaluation": bands})


SPEAKS_UP: dict[str, tuple[Status, Build]] = {
    "no-noise": (Status.FAIL, engine(mechanism="none", noise_multiplier=0.0)),
    "unit": (Status.FAIL, of_study(privacy={"unit": "record"})),
    "contribution": (Status.FAIL, engine(clip_norm_l2=2.0)),
    "delta": (Status.FAIL, of_study(privacy={"delta": 0.009})),
    "sampler": (Status.FAIL, engine(sampling_rate=0.2)),
    "relation": (Status.FAIL, changed("engine-audited", verdict="VIOLATION")),
    "charged": (Status.FAIL, changed("run-ended", epsilon=0.1)),
    "noise-share": (Status.FAIL, engine("distributed", honest=9)),
    "second-look": (Status.FAIL, answered_twice),
    "small-sum": (Status.FAIL, sum_of_three),
    "metrics": (Status.FAIL, exact_counts),
    "batch-norm": (Status.FAIL, changed("network-built", layers=["BatchNorm1d", "Linear"])),
    "preprocessing": (Status.FAIL, scaled_without_statistics),
    "stopping": (Status.FAIL, one_round_more),
    "budget": (Status.FAIL, changed("run-ended", epsilon_dataset=0.01)),
    "tuning": (Status.FAIL, earlier_run(dataset=None)),
    "two-hospitals": (Status.REMARK, run),
    "timing": (Status.FAIL, not_ready),
    "randomness": (Status.FAIL, less_noise),
    "raw-checkpoints": (Status.FAIL, partial(run, "none")),
    "small-groups": (Status.FAIL, older_ones_ranked_by_coin),
}
# What no evidence of a run could show: the reader is told, and nothing is claimed.
REMARK_BY_NATURE = {"two-hospitals"}


def asked(fed: Federation, name: str) -> Hazard:
    parts = replace(fed.parts(), signed_study=sign_study(fed.study, fed.coordinator.identity))
    found = report_of(evidence_of(parts)).hazards
    return next(hazard for hazard in found if hazard.id == name)


def test_each_hazard_has_a_run_and_none_is_forgotten():
    names = [name for name, _, _ in QUESTIONS]
    assert list(SPEAKS_UP) == names
    assert {
        n for n, (status, _) in SPEAKS_UP.items() if status is Status.REMARK
    } == REMARK_BY_NATURE


@pytest.mark.parametrize("name", SPEAKS_UP)
def test_a_hazard_speaks_up_where_the_evidence_shows_it(name: str):
    status, build = SPEAKS_UP[name]
    found = asked(build(), name)
    assert found.status is status, found.finding
    assert (status is Status.FAIL) <= bool(found.evidence or found.origin is not Origin.DECLARED)


@pytest.mark.parametrize("name", [n for n in SPEAKS_UP if n not in REMARK_BY_NATURE])
def test_the_same_hazard_does_not_fail_in_an_honest_run(name: str):
    kinds = {"second-look": "none", "noise-share": "distributed", "metrics": "noised"}
    kinds["preprocessing"] = "scaled"
    fed = run(kinds.get(name, ""), audited=name == "randomness")
    if name == "relation":  # a run of two rounds has little power
        fed = changed("engine-audited", verdict="PASS")()
    found = asked(fed, name)
    remarks = {"randomness", "tuning", "timing", "raw-checkpoints", "small-groups"}
    assert found.status is (Status.REMARK if name in remarks else Status.PASS), found.finding


def test_delta_is_compared_with_the_patients_that_were_counted():
    few = {"training": {"expected_batch": 0.5}, "privacy": {"delta": 5e-3}}
    found = asked(federation(rounds=1, changes=few), "delta")
    assert found.status is Status.FAIL
    assert found.origin is Origin.RECOMPUTED


def test_an_earlier_run_that_the_ledger_counts_is_a_remark():
    found = asked(earlier_run(dataset=4.0)(), "tuning")
    assert found.status is Status.REMARK
    assert found.finding.startswith("1 earlier runs of this study")
    assert found.evidence[0].log == "hospitals/bergen"


def test_without_a_dry_run_of_enough_power_nobody_claims_that_the_neighbours_were_tested():
    without_any, weak = asked(run(), "relation"), asked(run(audited=True), "relation")
    assert (without_any.status, weak.status) == (Status.REMARK, Status.REMARK)
    assert without_any.origin is Origin.DECLARED
    assert weak.evidence
