"""SCAFFOLD in a federation of processes, one of which is killed between two rounds."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.support.recomputed_sums import PLAIN
from tests.support.small_federation import (
    Federation,
    bundle_log,
    read_json,
    standing_federation,
    until,
    wardround,
)

from wardround.canonical import Json
from wardround.models.networks import build
from wardround.randomness import system_randomness
from wardround.study.manifest import Study
from wardround_client.approval import approved_study
from wardround_client.comparison.training import trained
from wardround_client.records import load_records

pytestmark = [pytest.mark.federation, pytest.mark.slow]

NAMES = ("alpha", "beta", "gamma", "delta")
SCAFFOLD = ("training.control=scaffold", "training.local_steps=5", "training.learning_rate=0.5")


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with standing_federation(tmp_path_factory.mktemp("control"), NAMES) as federation:
        yield federation


@dataclass(frozen=True, slots=True)
class Played:
    """A run that has ended."""

    ward: Federation
    study: Study
    result: Json

    def attempts(self) -> list[Json]:
        """Every training attempt in order, and in `said` what each hospital's log says of it."""
        bundle = self.ward.run_folder(self.study) / "bundle.zip"
        opened = [e["body"] for e in bundle_log(bundle) if e["type"] == "round-opened"]
        found = {one["transcript"]: one["spec"] | {"said": {}} for one in opened}
        for name in self.study.names():
            for entry in bundle_log(bundle, name):
                if entry["type"] == "release-reserved":
                    attempt = found[entry["body"]["transcript"]]
                    attempt["said"][name] = entry["body"].get("control")
        return [one for one in found.values() if one["purpose"] == "train"]


@pytest.fixture(scope="module")
def killed(ward: Federation) -> Played:
    """`beta` dies when some rounds are closed, and is started again while the run goes on."""
    study = ward.sign("killed", "rounds.count=14", "rounds.spare_attempts=4", *SCAFFOLD)
    ward.approve(study)
    ward.submit(study)
    ward.until_training(study, rounds=3)
    ward.kill("hospital-beta")
    status = ward.run_folder(study) / "status.json"
    until(
        "beta is lost",
        lambda: read_json(status)["hospitals"]["beta"] in {"disconnected", "left out"},
    )
    with ward.stopped("hospital-gamma"):  # the run waits here, so that it is not over too soon
        ward.start_hospital("beta")
        ward.until_connected("beta")
    return Played(ward, study, ward.result(study))


def test_the_run_goes_on_to_its_end_and_its_bundle_verifies(killed: Played) -> None:
    assert "error" not in killed.result, killed.result
    bundle = killed.ward.run_folder(killed.study) / "bundle.zip"
    found = wardround("audit", "verify", bundle)
    assert found.code == 0, found.out
    rounds = {attempt["round"] for attempt in killed.attempts()}
    assert rounds == set(range(14))


def test_the_control_is_kept_in_a_session_and_begins_anew_with_the_next_one(killed: Played) -> None:
    attempts = killed.attempts()
    assert len({attempt["session"] for attempt in attempts}) >= 2
    kept = 0
    for before, attempt in zip([None, *attempts[:-1]], attempts, strict=True):
        # Whoever answered says the same as all others.
        assert len(set(attempt["said"].values())) == 1, attempt
        same = before is not None and all(
            before[part] == attempt[part] for part in ("session", "cohort")
        )
        follows = same and before["round"] + 1 == attempt["round"] and attempt["attempt"] == 1
        if not follows:
            assert set(attempt["said"].values()) == {"begun"}
        kept += "kept" in attempt["said"].values()
    assert kept >= 8


def test_the_hospital_that_was_killed_says_that_it_begins_anew(killed: Played) -> None:
    text = "".join(path.read_text() for path in killed.ward.processes.logs.glob("hospital-beta*"))
    assert "control begins anew: it is the first of this session" in text


def test_processes_that_lose_nobody_end_with_the_model_of_the_algorithm(ward: Federation) -> None:
    """A run without noise is a function of its data; in one process it is Algorithm 1's."""
    for name in NAMES:
        ward.set_policy(name, mechanisms=["none", "local"])
    study = ward.sign("whole", "rounds.count=5", *PLAIN, *SCAFFOLD)
    ward.approve(study)
    ward.submit(study)
    assert "error" not in ward.result(study)
    ended = load_file(ward.run_folder(study) / "model.safetensors")
    found = np.concatenate([ended[name].ravel() for name, _ in build(study).named_parameters()])
    patients = {
        name: load_records(approved_study(ward.hospital(name), study)).train
        for name in study.names()
    }
    due = trained(study, patients, system_randomness)
    np.testing.assert_allclose(found, due, atol=1e-6)
    plain = study.model_copy(
        update={"training": study.training.model_copy(update={"control": "none"})}
    )
    assert np.abs(trained(plain, patients, system_randomness) - due).max() > 1e-3
