"""Models beside the study's: the same patients counted once for each, exactly or not at all."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tests.support.federation_evidence import federation, study_of
from tests.support.forgeries import only, sealed
from tests.support.labelled_groups import KINDS, detailed, patients, some, whole_of

from wardround.audit.beside_page import Value, gained
from wardround.audit.bundle import evidence_of
from wardround.audit.derive import report_of
from wardround.audit.html import render_html
from wardround.audit.pdf import render_pdf
from wardround.audit.verify import verify_bytes
from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.evaluation.beside import BesideLayout, few
from wardround.evaluation.histograms import CountsMode
from wardround.evaluation.layout import Layout, read_lanes
from wardround.evaluation.layouts import layout_of
from wardround.masking.update import update_digest
from wardround.study.files import read_study_plan

STUDIES = Path(__file__).parents[2] / "deploy/studies"
WAYS = ("local-only", "personalised")
NO_NOISE: Json = {"mechanism": "none", "epsilon": None, "delta": None}
ASKED: Json = {"privacy": NO_NOISE, "evaluation": {"beside": list(WAYS), "bins": 20}}


def beside(kind: str, **cut: int) -> BesideLayout:
    whole = whole_of(kind, **cut)
    return BesideLayout(study=detailed(kind, **cut), plain=whole, ways=WAYS)


def scored(kind: str, seed: int, count: int = 300):
    """Outcomes of patients, with what two other models say of them."""
    own, worse = patients(kind, seed, count), patients(kind, seed + 1000, count)
    said = np.stack([worse.outputs, own.outputs])
    return dataclasses.replace(own, beside=said)


def of_one(outcomes, kind: str, said):
    return whole_of(kind).metrics(
        whole_of(kind).count(dataclasses.replace(outcomes, outputs=said)).lanes, cell_noise_sd=0.0
    )


@pytest.mark.parametrize("kind", KINDS)
def test_summed_over_hospitals_each_way_has_the_metrics_of_all_patients(kind: str):
    layout, pooled = beside(kind), scored(kind, 3)
    halves = [np.arange(300) < 120, np.arange(300) >= 120]
    parts = [
        dataclasses.replace(some(pooled, kept), beside=pooled.beside[:, kept]) for kept in halves
    ]
    # Small groups are not counted apart at a hospital: the study's part is checked without them.
    lanes = sum(layout.count(part).exact().astype(np.int64) for part in parts)
    plain = BesideLayout(study=whole_of(kind), plain=whole_of(kind), ways=WAYS)
    whole = sum(plain.count(part).exact().astype(np.int64) for part in parts)
    assert len(lanes) == layout.lanes
    assert len(whole) == plain.lanes == 3 * whole_of(kind).lanes
    found = plain.metrics(read_lanes(whole, plain), cell_noise_sd=0.0)
    said = found.pop("beside")
    assert found == of_one(pooled, kind, pooled.outputs)
    assert [each["way"] for each in said] == list(WAYS)
    assert said[0]["metrics"] == few(of_one(pooled, kind, pooled.beside[0]))
    assert said[1]["metrics"] == few(found)
    in_detail = layout.metrics(read_lanes(lanes, layout), cell_noise_sd=0.0)
    assert in_detail["beside"] == said
    assert in_detail["subgroups"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_was_scored_on_other_patients_is_refused(kind: str):
    layout = BesideLayout(study=whole_of(kind), plain=whole_of(kind), ways=WAYS)
    outcomes = scored(kind, 5)
    honest = layout.count(outcomes).lanes
    layout.check(honest)
    fewer = some(outcomes, np.arange(300) > 0)
    other = layout.plain.count(fewer).lanes
    for at in (1, 2):
        forged = honest.copy()
        forged[at * len(other) : (at + 1) * len(other)] = other
        with pytest.raises(BadInput, match="scored on other patients"):
            layout.check(forged)


def test_outputs_of_every_way_are_due_and_of_every_patient():
    layout, outcomes = beside("classes"), scored("classes", 7)
    for wrong in (None, outcomes.beside[:1], outcomes.beside[:, 1:]):
        with pytest.raises(BadInput, match="outputs of 2 models beside were due"):
            layout.count(dataclasses.replace(outcomes, beside=wrong))


def test_noise_would_not_cover_them_so_there_is_no_such_layout():
    noised = whole_of("classes", CountsMode.NOISED, bins=20)
    with pytest.raises(BadInput, match="counted exactly or not"):
        BesideLayout(study=noised, plain=noised, ways=WAYS)
    whole = whole_of("classes", bins=10_000)
    with pytest.raises(BadInput, match="at most 100000 are held"):
        BesideLayout(study=whole, plain=whole, ways=WAYS)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        (
            {
                "evaluation": {"counts": "noised", "epsilon": 1.0},
                "privacy": NO_NOISE | {"delta": 1e-5},
            },
            "counts noised",
        ),
        ({"privacy": {}}, "mechanism local"),
        ({"privacy": {"mechanism": "distributed"}, "training": {"local_steps": 1}}, "distributed"),
        ({"statistics": {"epsilon": 1.0}, "privacy": NO_NOISE | {"delta": 1e-5}}, "statistics"),
        ({"evaluation": {"beside": ["personalised", "local-only"]}}, "each way once"),
        ({"evaluation": {"beside": ["local-only", "local-only"]}}, "each way once"),
    ],
)
def test_a_study_that_claims_an_epsilon_has_none_beside(changes: Json, names: str):
    evaluation = ASKED["evaluation"] | changes.get("evaluation", {})
    with pytest.raises(BadInput, match=names) as refused:
        study_of(rounds=2, changes={**ASKED, **changes, "evaluation": evaluation})
    if "each way" not in names:
        assert "no epsilon that the study claims would cover them" in str(refused.value)


@pytest.mark.parametrize(("bins", "fitting"), [(300, 100), (301, 43), (220, 110)])
def test_too_many_bins_are_refused_with_a_number_that_fits(bins: int, fitting: int):
    """The largest part of them: so the threshold stays on an edge, wherever it was."""
    study = read_study_plan(STUDIES / "brca_survival/study.toml")

    def of(many: int) -> Layout:
        plan = study.evaluation.model_copy(update={"beside": WAYS, "bins": many})
        return layout_of(study.model_copy(update={"evaluation": plan}))

    with pytest.raises(BadInput, match=f"at most 100000 are held; bins = {fitting} would fit"):
        of(bins)
    assert of(fitting).lanes <= 100_000


def test_a_study_without_has_the_bytes_that_it_had():
    study = study_of(rounds=2)
    assert b"beside" not in study.canonical()
    assert not isinstance(layout_of(study), BesideLayout)
    report = report_of(evidence_of(federation(study=study).parts())).to_bytes()
    assert b"beside" not in report
    assert b"models by its own" not in report


def test_the_report_says_what_joining_gave_and_that_nothing_covers_it():
    fed = federation(rounds=1, changes=ASKED)
    assert verify_bytes(sealed(fed.parts())).ok
    report = report_of(evidence_of(fed.parts()))
    assert [each.way for each in report.evaluation.beside] == list(WAYS)
    headline = {each.way: each.metrics[0] for each in report.evaluation.beside}
    assert {each.name for each in headline.values()} == {"AUROC"}
    assert report.evaluation.metrics is not None
    measured = report.evaluation.metrics["auroc"]["value"]
    assert headline["personalised"].estimate.value == measured
    assert 0.4 < headline["local-only"].estimate.value < 0.6 < measured
    layout = layout_of(fed.study)
    counted, own = layout.lanes, 2 * layout.plain.lanes
    told = f"an evaluation: {counted} counts, {own} of them by models of its own"
    assert report.outflow[0].form.endswith(told)
    assert sum("models of each hospital's own" in line for line in report.not_protected) == 1
    assert sum("training patients" in line for line in report.guarantee.scope) == 1
    page = render_html(report.to_json())
    gain = measured - headline["local-only"].estimate.value
    assert f"Joining gave {gain:+.3f} of AUROC over training alone" in page
    assert "more than chance would give" in page
    assert "NO FORMAL GUARANTEE" in page
    assert render_pdf(report.to_json(), lang="de").startswith(b"%PDF")


def test_counts_of_other_patients_beside_do_not_recompute():
    fed = federation(rounds=1, changes=ASKED).fork()
    entries = list(fed.coordinator.entries)
    at = next(n for n, entry in enumerate(entries) if entry.type == "evaluation-closed")
    counts = list(entries[at].body["counts"])
    counts[layout_of(fed.study).study.lanes] += 1
    body = {
        **entries[at].body,
        "counts": counts,
        "sum_digest": update_digest(np.array(counts, dtype=np.int32)),
    }
    entries[at] = dataclasses.replace(entries[at], body=body)
    fed.coordinator.rewrite(entries)
    verdicts = verify_bytes(sealed(fed.parts()))
    assert not verdicts.recomputed.ok
    assert only(verdicts, "complete", "history-differs")


def test_a_difference_has_the_interval_of_its_two_values_or_none():
    ours, alone = Value(0.9, 0.86, 0.93), Value(0.8, 0.77, 0.83)
    difference, low, high = gained(ours, alone)
    assert difference == pytest.approx(0.1)
    # Both distances count, and each on the side where it can shrink or widen the difference.
    assert difference - low == pytest.approx(np.hypot(0.04, 0.03))
    assert high - difference == pytest.approx(np.hypot(0.03, 0.03))
    assert gained(ours, Value(0.8, None, None)) is None
    assert gained(Value(None, None, None), alone) is None
