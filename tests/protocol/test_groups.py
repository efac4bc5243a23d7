"""Training in groups, real hospitals in memory: who spoils the model is found, and it holds."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from tests.support.hospitals import Ward
from tests.support.memory_runs import Federation, PlainLanes, in_round, when

from wardround.audit.attempts import attempts_of
from wardround.audit.bodies import AttemptVoid, RoundOpened, StudyOpened
from wardround.audit.body_groups import GroupClosed, RoundCombined
from wardround.audit.bundle import RunEvidence, bundle_bytes, evidence_of
from wardround.audit.check_groups import check_groups
from wardround.audit.check_rounds import check_rounds
from wardround.audit.derive import report_of
from wardround.audit.evidence import EntryFault
from wardround.audit.html import render_html
from wardround.audit.verify import verify_bytes
from wardround.canonical import canonical_bytes
from wardround.masking.hospital_round import HospitalRound
from wardround.masking.round_spec import RoundSpec
from wardround.masking.update import update_digest
from wardround_server.rounds import run as run_module
from wardround_server.rounds.uploads import UploadStore
from wardround_server.status import status_line

TWELVE = tuple(f"ward-{number:02d}" for number in range(12))
BAD = TWELVE[3]
ROUNDS = 7  # one group of four flagged in each: 12 x 4^-7 is below 1e-3
EXACT = {
    "privacy__mechanism": "none",
    "privacy__epsilon": None,
    "privacy__delta": None,
    "privacy__sampling_rate": 0.99,
    "training__expected_batch": 30.0,
    "rounds__count": ROUNDS,
}
GROUPS = {
    "robust__groups": 4,
    "rounds__quorum": 12,
    "masking__minimum_hospitals": 3,
}
RULES = {
    "mean": {},
    "median": {},
    "trimmed-mean": {"robust__trim": 1},
    "krum": {"robust__wrong": 0},
    "clustering": {},
}
GARBAGE = {
    "large": lambda values: 50.0 * values,
    "flipped": lambda values: -10.0 * values,
    "random": lambda values: 20.0 * np.random.default_rng(values.size).normal(size=values.size),
}


@dataclass
class Finished:
    """A run that has ended, all that is left of it."""

    federation: Federation
    model: np.ndarray
    evidence: RunEvidence
    plain: PlainLanes | None = None

    def verdicts(self, **changes):
        evidence = replace(self.evidence, **changes)
        report = canonical_bytes(report_of(evidence_of(evidence)).to_json())
        identity = self.federation.ward.coordinator.identity()
        return verify_bytes(bundle_bytes(evidence, report, identity=identity))


def run(folder, *, spoil=None, uploads=False, **changes):
    """A whole run; `spoil` bends what one hospital puts under its masks."""
    ward = Ward.make(folder, TWELVE)
    with pytest.MonkeyPatch.context() as patch:
        plain = PlainLanes(patch)
        real = HospitalRound.upload

        def upload(masking, values, **more):
            if spoil and masking.hospital == BAD and values.dtype.kind == "f":
                values = spoil(values).astype(np.float32)
            return real(masking, values, **more)

        patch.setattr(HospitalRound, "upload", upload)
        federation = Federation(ward, **changes)
        if uploads:
            federation.uploads = UploadStore(folder / "uploads", 1 << 20)
        model, session = federation.run().train_and_evaluate()
        evidence = federation.close(model, session)
    if federation.uploads is not None:
        evidence = replace(evidence, uploads=federation.uploads.read())
    return Finished(federation, model, evidence, plain)


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    """Four groups, their median, and one hospital that sends the opposite ten times over."""
    found = run(
        tmp_path_factory.mktemp("spoiled"),
        spoil=GARBAGE["flipped"],
        uploads=True,
        **{**EXACT, **GROUPS, "robust__rule": "median"},
    )
    yield found
    found.federation.ward.close()


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """The mean over twelve honest hospitals in one sum."""
    found = run(tmp_path_factory.mktemp("honest"), **EXACT, rounds__quorum=12)
    yield found
    found.federation.ward.close()


def test_every_group_is_summed_apart_and_what_opens_is_its_sum(spoiled):
    federation = spoiled.federation
    agreed = {b["transcript"]: b["survivors"] for b in federation.entries("survivors-agreed")}
    closed = federation.entries("group-closed")
    assert len(closed) == 4 * ROUNDS
    for body in closed:
        assert len(agreed[body["transcript"]]) == 3
        total = spoiled.plain.sum_over(body["transcript"], agreed[body["transcript"]])
        assert update_digest(total) == body["sum_digest"]
    specs = [body["spec"] for body in federation.entries("round-opened")]
    draws = [spec["partition"] for spec in specs if spec["purpose"] == "train"]
    assert len({str(draw) for draw in draws}) == ROUNDS
    assert specs[-1]["partition"] == [list(TWELVE)]  # the evaluation


def test_the_hospital_behind_it_is_named_where_people_look_and_stays_in_the_rounds(spoiled):
    federation = spoiled.federation
    report = report_of(evidence_of(spoiled.evidence))
    (suspicion,) = report.participation.suspected
    assert suspicion.hospital == BAD
    assert f"far off in {ROUNDS} of {ROUNDS} rounds, chance alone gives 1.8" in suspicion.reason
    assert report.participation.verdict == "everybody"
    assert BAD in report.participation.completed
    assert len(report.participation.attempts) == ROUNDS + 1
    assert all(len(each.in_sum) == 12 for each in report.participation.attempts)
    page = render_html(report.to_json())
    assert suspicion.reason in page
    german = render_html(report.to_json(), lang="de")
    assert f"lag in {ROUNDS} von {ROUNDS} Runden weit ab" in german
    state = {"study": "fever", "digest": "0" * 64, "state": "train", "round": 6}
    shown = json.loads(federation.status.read_text())
    assert set(shown["suspected"]) == {BAD}
    assert f"suspected: {BAD} (its group lay far off" in status_line(state | shown)


def test_the_bundle_verifies_and_its_sums_lead_to_the_same_flags_and_model(spoiled):
    found = spoiled.verdicts()
    assert found.ok, list(found.lines())
    assert f"the model's steps of {ROUNDS} of {ROUNDS} training rounds" in " ".join(found.remarks)


def test_the_model_is_that_of_honest_hospitals(spoiled, honest):
    far = np.linalg.norm(spoiled.model - honest.model)
    assert far < 0.25 * np.linalg.norm(honest.model)
    assert honest.federation.entries("round-combined") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "garbage"),
    [
        ("trimmed-mean", "large"),
        ("krum", "random"),
        ("clustering", "flipped"),
        ("clustering", "random"),
        ("median", "large"),
        ("median", "random"),
        ("mean", "flipped"),
    ],
)
def test_every_rule_but_the_mean_holds_and_every_one_names_who_it_is(
    rule, garbage, honest, tmp_path
):
    study = {**EXACT, **GROUPS, "robust__rule": rule, **RULES[rule]}
    found = run(tmp_path, spoil=GARBAGE[garbage], **study)
    found.federation.ward.close()
    report = report_of(evidence_of(found.evidence))
    assert [each.hospital for each in report.participation.suspected] == [BAD]
    far = np.linalg.norm(found.model - honest.model) / np.linalg.norm(honest.model)
    assert far > 1.0 if rule == "mean" else far < 0.35


def forged(evidence, change):
    """The evidence with other records in the coordinator's log; `change` returns None to drop."""
    records = []
    for record in evidence.coordinator.records:
        body = change(record.body)
        if body is not None:
            records.append(replace(record, body=body))
    log = replace(evidence.coordinator, records=tuple(records))
    return replace(evidence, coordinator=log)


def faults(evidence):
    attempts = attempts_of(evidence)
    found = [*check_rounds(evidence, attempts), *check_groups(evidence, attempts)]
    return {failure.code for failure in found}


def changing(kind, **fields):
    """Other values in the first entry of this type; a callable gets the old one."""
    done = []

    def change(body):
        if not isinstance(body, kind) or done:
            return body
        done.append(body)
        new = {k: v(getattr(body, k)) if callable(v) else v for k, v in fields.items()}
        return body.model_copy(update=new)

    return change


def void_instead(evidence):
    """One group that opened is written down as void."""
    first = next(r.body for r in evidence.coordinator.records if isinstance(r.body, GroupClosed))

    def change(body):
        if body is first:
            return AttemptVoid(transcript=first.transcript, reason="nobody came")
        if isinstance(body, RoundCombined) and first.transcript in body.transcripts:
            left = tuple(each for each in body.transcripts if each != first.transcript)
            return body.model_copy(update={"transcripts": left, "flagged": ()})
        return body

    return change


def one_group_less(evidence):
    """The first group of the first round was never written down."""
    first = next(r.body for r in evidence.coordinator.records if isinstance(r.body, RoundOpened))

    def change(body):
        if getattr(body, "transcript", None) == first.transcript:
            return None
        if isinstance(body, RoundCombined) and first.transcript in body.transcripts:
            left = tuple(each for each in body.transcripts if each != first.transcript)
            flagged = tuple(each for each in body.flagged if each in left)
            return body.model_copy(update={"transcripts": left, "flagged": flagged})
        return body

    return change


FORGERIES = {
    "another rule": (lambda _: changing(RoundCombined, rule="mean"), "groups-differ"),
    "a flag for nobody": (lambda _: changing(RoundCombined, flagged=("ab" * 32,)), "groups-differ"),
    "a group left out": (
        lambda _: changing(RoundCombined, transcripts=lambda old: old[1:], flagged=()),
        "groups-differ",
    ),
    "a void group that was none": (
        lambda _: changing(RoundCombined, void=("ab" * 32,)),
        "groups-differ",
    ),
    "a void group that is not named": (void_instead, "groups-differ"),
    "a group that nobody sees": (one_group_less, "group-hidden"),
    "no step": (
        lambda _: lambda body: None if isinstance(body, RoundCombined) else body,
        "attempt-open",
    ),
    "another model before": (
        lambda _: changing(RoundCombined, model_before="ab" * 32),
        "model-differs",
    ),
}


@pytest.mark.parametrize("name", sorted(FORGERIES))
def test_a_log_that_hides_or_bends_a_group_is_named(name, spoiled):
    evidence = evidence_of(spoiled.evidence)
    assert faults(evidence) == set()
    make, code = FORGERIES[name]
    assert code in faults(forged(evidence, make(evidence)))


def test_another_draw_in_the_log_is_named(spoiled):
    """Two hospitals change places, everything else fits."""
    evidence = evidence_of(spoiled.evidence)
    opened = [r.body for r in evidence.coordinator.records if isinstance(r.body, RoundOpened)]
    specs = [RoundSpec.from_json(body.spec) for body in opened[:4]]
    first, second = specs[0].cohort[0], specs[1].cohort[0]
    swap = {first: second, second: first}
    renamed = {}
    for body, spec in zip(opened[:4], specs, strict=True):
        groups = [sorted(swap.get(n, n) for n in group) for group in spec.partition]
        other = replace(
            spec,
            cohort=tuple(sorted(swap.get(n, n) for n in spec.cohort)),
            partition=tuple(sorted(map(tuple, groups))),
        )
        renamed[body.transcript] = RoundOpened(
            transcript=other.transcript().hex(), spec=other.to_json()
        )
    records = [
        replace(r, body=renamed[r.body.transcript])
        for r in evidence.coordinator.records
        if isinstance(r.body, RoundOpened) and r.body.transcript in renamed
    ]
    before = [r for r in evidence.coordinator.records if r.seq < records[0].seq]
    assert any(isinstance(r.body, StudyOpened) for r in before)
    log = replace(evidence.coordinator, records=(*before, *records))
    forged_evidence = replace(evidence, coordinator=log)
    found = list(check_rounds(forged_evidence, attempts_of(forged_evidence)))
    assert any("its partition is not the study's draw" in each.reason for each in found)


def test_groups_combined_twice_or_never_closed_contradict(spoiled):
    evidence = evidence_of(spoiled.evidence)
    combined = [r.body for r in evidence.coordinator.records if isinstance(r.body, RoundCombined)]
    twice = changing(RoundCombined, transcripts=combined[1].transcripts)
    with pytest.raises(EntryFault, match="no group with this transcript was closed"):
        attempts_of(forged(evidence, twice))
    last = [r for r in evidence.coordinator.records if isinstance(r.body, RoundCombined)][-1]
    log = replace(
        evidence.coordinator,
        records=(*evidence.coordinator.records, replace(last, seq=10**6)),
    )
    with pytest.raises(EntryFault, match="combined before"):
        attempts_of(replace(evidence, coordinator=log))


NOISED = {"rounds__quorum": 8, "masking__minimum_hospitals": 2, "robust__groups": 4}


def test_a_group_that_cannot_open_costs_the_others_nothing(tmp_path):
    ward = Ward.make(tmp_path, TWELVE)
    lost = when(in_round(0), lambda _: None, name=BAD)
    federation = Federation(ward, lost, **NOISED, robust__rule="median")
    model, session = federation.run().train_and_evaluate()
    first, second = federation.entries("round-combined")
    assert (len(first["transcripts"]), len(first["void"])) == (3, 1)
    (void,) = federation.entries("attempt-void")
    assert void["transcript"] == first["void"][0]
    assert "2 of 3 updates came, 3 were due" in void["reason"]
    assert len(second["transcripts"]) == 4
    evidence = federation.close(model, session)
    report = report_of(evidence_of(evidence))
    assert len(report.participation.attempts[0].in_sum) == 9
    assert BAD in {each.hospital for each in report.participation.absent}
    found = Finished(federation, model, evidence).verdicts()
    ward.close()
    assert found.ok, list(found.lines())


def test_too_few_groups_make_the_attempt_void_and_the_next_one_draws_anew(tmp_path):
    ward = Ward.make(tmp_path, TWELVE)
    away = TWELVE[:4]

    def reply(name, question, answer):
        for each in away:
            answer = when(in_round(0), lambda _: None, name=each)(name, question, answer)
            if answer is None:
                return None
        return answer

    federation = Federation(ward, reply, **NOISED, robust__rule="median", rounds__count=1)
    model, session = federation.run().train_and_evaluate()
    specs = [b["spec"] for b in federation.entries("round-opened")]
    trained = [spec for spec in specs if spec["purpose"] == "train"]
    assert [spec["attempt"] for spec in trained] == [1] * 4 + [2] * 4
    assert trained[0]["partition"] != trained[4]["partition"]
    (combined,) = federation.entries("round-combined")
    closed = {body["transcript"] for body in federation.entries("group-closed")}
    assert len(combined["transcripts"]) == 4
    assert set(combined["transcripts"]) <= closed
    found = Finished(federation, model, federation.close(model, session)).verdicts()
    ward.close()
    assert found.ok, list(found.lines())


def test_a_coordinator_that_dies_before_the_step_goes_on_with_another_attempt(
    tmp_path, monkeypatch
):
    ward = Ward.make(tmp_path, TWELVE)
    federation = Federation(ward, **NOISED, robust__rule="trimmed-mean", robust__trim=1)

    def dies(path, state):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "write_checkpoint", dies)
        with pytest.raises(KeyboardInterrupt):
            federation.run().train_and_evaluate()
    model, session = federation.run().train_and_evaluate()
    specs = [b["spec"] for b in federation.entries("round-opened")]
    numbers = [(s["round"], s["attempt"]) for s in specs if s["purpose"] == "train"]
    assert numbers == [(0, 1)] * 4 + [(0, 2)] * 4 + [(1, 1)] * 4
    assert len(federation.entries("round-combined")) == 2
    found = Finished(federation, model, federation.close(model, session)).verdicts()
    ward.close()
    assert found.ok, list(found.lines())
