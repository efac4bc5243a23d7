"""Groups and shuffled columns over the real path: coordinator, hospitals in memory, audit."""

from math import sqrt

import numpy as np
import pandas as pd
import pytest
from tests.support.hospitals import LANES, NAMES, RUN, Ward
from tests.support.memory_runs import Federation

from wardround.audit.bundle import write_bundle
from wardround.audit.report_model import Report
from wardround.audit.verify import verify_bundle
from wardround.evaluation.histograms import EvaluationCounts
from wardround.evaluation.layouts import layout_of
from wardround.privacy.accounting import gaussian_count_noise
from wardround.privacy.mechanism import Exact, SampledGaussian
from wardround.protocol.halves import model_digest
from wardround_client.cli.review import in_words
from wardround_client.held_out import held_out_outcomes
from wardround_client.ledger import Purpose as Charged
from wardround_server.rounds.closing import RunCloser
from wardround_server.rounds.post import Post
from wardround_server.rounds.record import RunRecord

MANY = 400
ASKED = {
    "evaluation__subgroups": [{"column": "male"}, {"column": "age", "edges": [40, 65]}],
    "evaluation__importance": ["age"],
}
NOISED = {"evaluation__counts": "noised", "evaluation__epsilon": 2.0}


def write_many(path, seed):
    """Nobody under 40 at the second hospital but three."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "id": [f"p{number}" for number in range(MANY)],
            "age": np.clip(random.normal(60, 12, MANY), 0 if seed != 1 else 41, 100).round(1),
            "male": random.integers(0, 2, MANY),
            "fever": random.integers(0, 2, MANY),
        }
    )
    if seed == 1:
        table.loc[:11, "age"] = 30
    table.to_csv(path, index=False)


@pytest.fixture
def ward(tmp_path):
    with Ward.holding(tmp_path, write_many) as ward:
        yield ward


def finished(federation):
    """The opened counts, the model, and what a verifier says of the bundle."""
    model, session = federation.run().train_and_evaluate()
    record = RunRecord(federation.study, RUN, federation.log, federation.status)
    identity = federation.ward.coordinator.identity()
    record.closed(federation.study.rounds.count, model_digest(model))
    closer = RunCloser(
        Post(federation.grid, lanes=LANES),
        record,
        federation.ward.signed(federation.study),
        identity.public_key,
        federation.ward.identity_keys,
    )
    path = federation.ward.folder / "bundle.zip"
    evidence = closer.close(session, model, deadline_s=5.0)
    report = write_bundle(path, evidence, identity=identity)
    (opened,) = federation.entries("evaluation-closed")
    return np.array(opened["counts"]), model, Report.model_validate(report), verify_bundle(path)


def outcomes_of(ward, study, model, name):
    session = ward[name].hospital.sessions[RUN]
    held_out = session.records.held_out
    outcomes = held_out_outcomes(session.network(model), held_out, study)
    return outcomes.truth, outcomes.outputs[:, 0], session.records.groups


def parts_of(counts, layout):
    return [
        EvaluationCounts.from_lanes(part, layout.cut)
        for part in counts.reshape(-1, layout.cut.lanes)
    ]


def test_exact_counts_of_groups_are_the_hospitals_and_small_ones_stayed_at_home(ward):
    federation = Federation(ward, **ASKED)
    study, layout = federation.study, layout_of(federation.study)
    counts, model, report, verdicts = finished(federation)
    assert verdicts.ok, list(verdicts.lines())
    found = [outcomes_of(ward, study, model, name) for name in NAMES]
    whole, *cells, shuffled = parts_of(counts, layout)
    for cell in (0, 1):  # of each sex everybody is counted
        assert cells[cell].histogram.sum() == sum((g[:, 0] == cell).sum() for _, _, g in found)
    young = [(g[:, 1] == 0).sum() for _, _, g in found]
    assert 0 < young[1] < 10
    assert cells[4].histogram.sum() in {0, young[0], young[2], young[0] + young[2]}
    assert cells[-1].histogram.sum() >= young[1]
    assert sum(cell.histogram for cell in cells[4:]).tolist() == whole.histogram.tolist()
    assert shuffled.histogram.sum(axis=1).tolist() == whole.histogram.sum(axis=1).tolist()
    for name in NAMES:
        releases = ward[name].hospital.sessions[RUN].ledger.releases()
        (release,) = [each for each in releases if each.purpose is Charged.EVALUATE]
        assert isinstance(release.charged, Exact)
    assert [each.column for each in report.evaluation.subgroups] == ["male", "age"]
    assert report.evaluation.importance[0].column == "age"


def test_noised_counts_carry_the_noise_of_all_their_parts_and_are_charged_as_one_release(ward):
    federation = Federation(ward, **ASKED, **NOISED)
    study, layout = federation.study, layout_of(federation.study)
    counts, model, report, verdicts = finished(federation)
    assert verdicts.ok, list(verdicts.lines())
    assert layout.squared_sensitivity == 1 + 2 + 5
    multiplier = gaussian_count_noise(2.0, study.privacy.delta)
    for name in NAMES:
        releases = ward[name].hospital.sessions[RUN].ledger.releases()
        (release,) = [each for each in releases if each.purpose is Charged.EVALUATE]
        assert release.charged == SampledGaussian(multiplier, 1.0, 1)
    truth, scores, groups = (
        np.concatenate(part)
        for part in zip(*(outcomes_of(ward, study, model, n) for n in NAMES), strict=True)
    )
    bins = np.minimum((scores * 10).astype(int), 9)
    noise = []
    for at, sizes in ((0, 3), (1, 4)):
        for cell in range(sizes):
            due = np.zeros((2, 10))
            inside = groups[:, at] == cell
            np.add.at(due, (truth[inside].astype(int), bins[inside]), 1)
            place = 1 + cell + (0, 3)[at]
            noise.append(parts_of(counts, layout)[place].histogram - due)
    z = np.array(noise) / (multiplier * sqrt(8 * len(NAMES)))
    assert 0.75 < z.std() < 1.25  # 140 draws: four standard errors
    assert abs(z.mean()) < 0.4
    hidden = [g for each in report.evaluation.subgroups for g in each.groups if g.auroc is None]
    assert {group.standing for group in hidden} == {"too few"}


def test_an_officer_reads_what_is_counted_apart(ward):
    text = in_words(Federation(ward, **ASKED).study)
    assert "apart by male, age, in groups of 5 or more of each outcome" in text
    assert "with each of age shuffled among a hospital's patients" in text
    assert "apart" not in in_words(Federation(ward).study)
