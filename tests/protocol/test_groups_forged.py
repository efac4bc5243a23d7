"""What a coordinator cannot hide or bend of a round in groups: the verifier names it."""

from dataclasses import replace

import pytest
from tests.support.grouped_runs import EXACT, GARBAGE, GROUPS, run

from wardround.audit.attempts import attempts_of
from wardround.audit.bodies import AttemptVoid, RoundOpened, StudyOpened
from wardround.audit.body_groups import GroupClosed, RoundCombined
from wardround.audit.bundle import evidence_of
from wardround.audit.check_groups import check_groups
from wardround.audit.check_rounds import check_rounds
from wardround.audit.evidence import EntryFault
from wardround.masking.round_spec import RoundSpec
from wardround.robust.combined import combined_round
from wardround.study.robust import Rule
from wardround_server.rounds import mean as mean_module


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    """Two honest rounds of four groups."""
    study = {**EXACT, **GROUPS, "robust__rule": "median", "rounds__count": 2}
    found = run(tmp_path_factory.mktemp("grouped"), **study)
    yield found
    found.federation.ward.close()


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
def test_a_log_that_hides_or_bends_a_group_is_named(name, grouped):
    evidence = evidence_of(grouped.evidence)
    assert faults(evidence) == set()
    make, code = FORGERIES[name]
    assert code in faults(forged(evidence, make(evidence)))


def test_another_draw_in_the_log_is_named(grouped):
    """Two hospitals change places, everything else fits."""
    evidence = evidence_of(grouped.evidence)
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


def test_groups_combined_twice_or_never_closed_contradict(grouped):
    evidence = evidence_of(grouped.evidence)
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


def flags_nobody(study, plan, groups):
    return replace(combined_round(study, plan, groups), flagged=())


def flags_another(study, plan, groups):
    honest = combined_round(study, plan, groups)
    others = {group.spec.transcript().hex() for group in groups} - {*honest.flagged}
    return replace(honest, flagged=(min(others),))


def takes_the_mean(study, plan, groups):
    other = plan.model_copy(update={"rule": Rule.MEAN})
    honest = combined_round(study, plan, groups)
    return replace(combined_round(study, other, groups), flagged=honest.flagged)


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        (flags_nobody, "flags-differ"),
        (flags_another, "flags-differ"),
        (takes_the_mean, "step-differs"),
    ],
)
def test_a_coordinator_that_bends_the_rule_or_the_flags_is_exposed_by_the_kept_updates(
    lie, code, tmp_path, monkeypatch
):
    """Everything that it signs agrees: only adding up the masked updates again shows it."""
    monkeypatch.setattr(mean_module, "combined_round", lie)
    study = {**EXACT, **GROUPS, "robust__rule": "median", "rounds__count": 1}
    found = run(tmp_path, spoil=GARBAGE["large"], uploads=True, **study)
    verdicts = found.verdicts()
    found.federation.ward.close()
    assert [failure.code for failure in verdicts.recomputed.failures] == [code]
    assert verdicts.authentic.ok
    assert verdicts.intact.ok
    assert verdicts.complete.ok
