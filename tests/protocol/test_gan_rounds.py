"""Whole runs of family gan: what leaves, what the coordinator makes, what a verifier finds."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.hospitals import LANES, RUN, Ward
from tests.support.memory_runs import Federation, PlainLanes

from wardround.audit.bundle import RunEvidence, bundle_bytes, evidence_of
from wardround.audit.derive import report_of
from wardround.audit.verdicts import Verdicts
from wardround.audit.verify import verify_bytes
from wardround.canonical import canonical_bytes
from wardround.models.generating import after_round
from wardround.models.networks import build, parameters_of
from wardround.optimisers import OptimiserState
from wardround.protocol.halves import digest_of_model, made_digest, model_digest
from wardround_server.rounds import run as coordinator_run
from wardround_server.rounds.attempt import Progress
from wardround_server.rounds.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from wardround_server.rounds.uploads import UploadStore

GAN: dict[str, Any] = {
    "task__family": "gan",
    "task__model": "dense-gan",
    "task__hidden": [5],
    "task__synthesis": {"hidden": [6], "latent": 3, "steps": 2, "batch": 16, "risk_records": 64},
    "training__server": {"name": "fedadam", "learning_rate": 0.05},
    "rounds__count": 3,
}
DISCRIMINATOR = (6 + 1) * 5 + 6  # two features and a one, for each of two classes
SHARED_NOISE = {"privacy__mechanism": "distributed", "rounds__quorum": 3}
MECHANISMS: dict[str, dict[str, Any]] = {
    "local": {},
    "distributed": SHARED_NOISE | {"masking__minimum_hospitals": 3},
    "none": {"privacy__mechanism": "none", "privacy__epsilon": None, "privacy__delta": None},
}


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = Ward.make(tmp_path)
    yield ward
    ward.close()


def run(ward: Ward, **changes: Any) -> tuple[Federation, np.ndarray, RunEvidence]:
    federation = Federation(ward, **GAN | changes)
    loop = federation.run()
    loop.uploads = UploadStore(ward.folder / "uploads", 1 << 20)
    model, session = loop.train_and_evaluate()
    parts = replace(federation.close(model, session), uploads=loop.uploads.read())
    return federation, model, parts


def verified(ward: Ward, parts: RunEvidence) -> Verdicts:
    report = canonical_bytes(report_of(evidence_of(parts)).to_json())
    return verify_bytes(bundle_bytes(parts, report, identity=ward.coordinator.identity()))


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_run_holds_together_and_its_discriminator_is_replayed(ward: Ward, mechanism: str):
    federation, model, parts = run(ward, **MECHANISMS[mechanism])
    verdicts = verified(ward, parts)
    assert verdicts.ok, list(verdicts.lines())
    assert any("the model's steps of 3 of 3" in remark for remark in verdicts.remarks)
    study = federation.study
    start = parameters_of(build(study)).numpy()
    assert study.made_from == DISCRIMINATOR < model.size == start.size
    moved = model != start
    assert moved[:DISCRIMINATOR].mean() > 0.9
    assert moved[DISCRIMINATOR:].mean() > 0.9
    assert federation.entries("evaluation-closed")[0]["counts"]


def test_only_the_discriminator_is_under_the_masks(ward: Ward, monkeypatch: pytest.MonkeyPatch):
    plain = PlainLanes(monkeypatch)
    federation, _, _ = run(ward)
    opened = [body["spec"] for body in federation.entries("round-opened")]
    assert [spec["lanes"] for spec in opened[:3]] == [DISCRIMINATOR] * 3
    sent = {name: lanes.size for name, lanes in plain.lanes[_transcript(federation, 0)].items()}
    assert sent == dict.fromkeys(ward.hospitals, DISCRIMINATOR)
    assert plain.check(federation) == 4
    assert LANES > DISCRIMINATOR


def _transcript(federation: Federation, number: int) -> str:
    return str(federation.entries("round-closed")[number]["transcript"])


def test_the_log_binds_what_the_coordinator_made(ward: Ward):
    federation, model, _ = run(ward)
    closed, study = federation.entries("round-closed"), federation.study
    assert closed[-1]["made"] == made_digest(study, model)
    assert closed[-1]["model_after"] == digest_of_model(study, model)
    trained = model[:DISCRIMINATOR]
    assert closed[-1]["model_after"] == model_digest(trained, made=closed[-1]["made"])
    other = model.copy()
    other[-1] += 1.0
    assert digest_of_model(study, other) != closed[-1]["model_after"]
    assert len({body["made"] for body in closed}) == 3


def test_a_discriminator_that_is_not_the_sums_is_found(ward: Ward, monkeypatch: pytest.MonkeyPatch):
    honest = coordinator_run.step
    monkeypatch.setattr(coordinator_run, "step", lambda *given: honest(*given) + np.float32(1e-3))
    _, _, parts = run(ward)
    assert _codes(verified(ward, parts)) == {"step-differs"}


@pytest.mark.parametrize("made", ["0" * 64, None])
def test_a_log_that_names_another_second_half_or_none_is_found(
    ward: Ward, made: str | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(coordinator_run, "made_digest", lambda *_: made)
    _, _, parts = run(ward)
    due = {"step-differs"} if made else {"step-differs", "model-differs"}
    assert _codes(verified(ward, parts)) == due


def test_a_second_half_in_a_study_without_one_is_found(ward: Ward, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(coordinator_run, "made_digest", lambda *_: "1" * 64)
    federation = Federation(ward)
    parts = federation.close(*federation.run().train_and_evaluate())
    assert _codes(verified(ward, parts)) == {"model-differs"}


def _codes(verdicts: Verdicts) -> set[str]:
    names = ("authentic", "intact", "complete", "recomputed")
    return {f.code for name in names for f in getattr(verdicts, name).failures}


def test_a_stopped_coordinator_makes_the_same_generator(ward: Ward, tmp_path: Path):
    """Its state is in the checkpoint, its draws follow from public names."""
    study = ward.study(**GAN)
    start = parameters_of(build(study)).numpy()

    def after(rounds: int, state: OptimiserState, model: np.ndarray, first: int = 0) -> np.ndarray:
        for number in range(first, rounds):
            model = after_round(study, model, state, run=RUN, round_number=number)
        return model

    whole = after(3, OptimiserState(), start)
    state = OptimiserState()
    half = after(2, state, start)
    progress = Progress(round=2, attempt=1, spare_attempts=0)
    write_checkpoint(tmp_path / "checkpoint", Checkpoint(half, state, progress))
    resumed = read_checkpoint(tmp_path / "checkpoint", parameters=start.size)
    again = after(3, resumed.optimiser, resumed.model, first=2)
    np.testing.assert_array_equal(again, whole)
    other = after_round(study, half, OptimiserState(), run=RUN, round_number=2)
    assert (other != whole).any()


def test_the_report_says_what_is_protected_and_what_is_not(ward: Ward):
    _, _, parts = run(ward)
    report = report_of(evidence_of(parts))
    assert any("Only the discriminator saw patients" in line for line in report.guarantee.scope)
    assert any("a verifier does not make them again" in line for line in report.guarantee.scope)
    assert any(line.startswith("Synthetic records: that nobody") for line in report.not_protected)


def test_without_noise_no_report_calls_a_generator_harmless(ward: Ward):
    _, _, parts = run(ward, **MECHANISMS["none"])
    report = report_of(evidence_of(parts))
    assert not any("same epsilon" in line for line in report.guarantee.scope)
    assert any("Handle them as patients' data" in line for line in report.not_protected)
