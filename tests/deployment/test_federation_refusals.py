"""One standing federation, study after study: what hospitals refuse, and what liars achieve."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.hostile_hospital import hostile_hospitals
from tests.support.small_federation import (
    Federation,
    bundle_log,
    read_json,
    standing_federation,
    wardround,
    write_description,
)

from wardround.audit.verify import verify_bundle
from wardround.canonical import Json
from wardround.study.files import sign_study
from wardround.study.manifest import Study
from wardround_client.ledger import Ledger

pytestmark = pytest.mark.federation

HONEST = ("alpha", "beta", "gamma")
LIARS = ("not-a-number", "replayed", "wrong-digest", "wrong-key", "wrong-log", "wrong-shape")
SHORT = "rounds.deadline_s=3.0"


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with standing_federation(tmp_path_factory.mktemp("ward"), HONEST, others=LIARS) as federation:
        yield federation


def play(ward: Federation, study: Study, descriptions: dict[str, Path] | None = None) -> Json:
    """Approve, submit, wait for the end."""
    ward.approve(study, descriptions)
    ward.submit(study)
    return ward.result(study)


def own_data(ward: Federation, prefix: str, *, missing: bool = False) -> dict[str, Path]:
    """Data sets with tables and budgets of their own; `missing`: there is no such file."""
    for name in HONEST:
        table = ward.folder / "data" / f"{name}.csv"
        shutil.copyfile(table, table.with_name(f"{prefix}-{name}.csv"))
    return {
        name: write_description(
            ward.folder,
            name,
            dataset=f"{prefix}-{name}",
            path=f"no-{name}.csv" if missing else f"{prefix}-{name}.csv",
            name=f"{prefix}-{name}-{missing}",
        )
        for name in HONEST
    }


def test_a_study_that_differs_from_the_approved_one_by_one_character_is_refused(
    ward: Federation,
) -> None:
    approved = ward.sign("typo", SHORT)
    ward.approve(approved)
    changed = ward.sign("typo", SHORT, 'purpose="Shown by the deployment test."')
    assert approved.digest != changed.digest
    ward.submit(changed)
    result = ward.result(changed)
    assert result["exit_code"] == 6
    for name in HONEST:
        assert f"{name} refused: study-not-approved" in result["message"]
    assert not (ward.run_folder(changed) / "bundle.zip").exists()


@pytest.fixture(scope="module")
def refused_by_budget(ward: Federation) -> Json:
    """A run over budget on data that does not even exist."""
    for name in HONEST:
        ward.set_policy(name, epsilon_budget=1.0)
    data = own_data(ward, "tight", missing=True)
    return play(ward, ward.sign("over-budget"), data)


def test_a_budget_that_is_too_small_refuses_before_a_record_is_read(
    ward: Federation, refused_by_budget: Json
) -> None:
    # No file is there: whoever tries to read a record says data-not-ready.
    assert refused_by_budget["exit_code"] == 6
    assert refused_by_budget["error"] == "RefusedByBudget"
    for name in HONEST:
        assert f"{name} refused: budget (epsilon " in refused_by_budget["message"]
    assert 0.5 < refused_by_budget["epsilon_that_fits"] <= 1.0

    within = ward.sign("no-data", "privacy.epsilon=0.9", SHORT)
    control = play(ward, within, own_data(ward, "tight", missing=True))
    assert "refused: data-not-ready" in control["message"]
    assert "no-alpha.csv" not in json.dumps(control)  # the text stays in the hospital


def test_the_epsilon_that_was_named_does_fit(ward: Federation, refused_by_budget: Json) -> None:
    fits = refused_by_budget["epsilon_that_fits"]
    study = ward.sign("within-budget", f"privacy.epsilon={fits!r}")
    result = play(ward, study, own_data(ward, "tight"))
    assert result["exit_code"] == 0, result
    report = read_json(ward.run_folder(study) / "report.json")
    assert report["guarantee"]["epsilon"]["value"] <= fits
    for name in HONEST:
        ward.set_policy(name, epsilon_budget=10.0)


def test_a_study_without_noise_needs_a_policy_that_allows_it(ward: Federation) -> None:
    study = ward.sign("clear", "privacy.mechanism=none")
    signed = ward.folder / "clear.json"
    signed.write_bytes(sign_study(study, ward.home.identity()))
    data = own_data(ward, "clear")
    arguments = (
        *("review", "approve", signed, "--dir", ward.hospital("alpha").directory),
        *("--dataset", data["alpha"], "--data", ward.folder / "data"),
    )
    found = wardround(*arguments)
    assert found.code == 6
    assert "privacy.mechanism none: the policy allows local" in found.err

    for name in HONEST:
        ward.set_policy(name, mechanisms=["local", "none"])
    result = play(ward, study, data)
    for name in HONEST:
        ward.set_policy(name, mechanisms=["local"])
    assert result["exit_code"] == 0, result
    page = (ward.run_folder(study) / "report.html").read_text()
    report = read_json(ward.run_folder(study) / "report.json")
    assert "NO FORMAL GUARANTEE" in page
    assert report["guarantee"]["kind"] == "NO FORMAL GUARANTEE"
    assert report["guarantee"]["epsilon"]["value"] is None
    assert verify_bundle(ward.run_folder(study) / "bundle.zip").ok


def test_a_step_size_that_overflows_ends_the_run_with_every_hospital_named_and_no_model(
    ward: Federation,
) -> None:
    study = ward.sign(
        "overflow",
        "training.learning_rate=1e9",
        "training.weight_decay=0.9",
        "training.local_steps=10",
    )
    result = play(ward, study, own_data(ward, "overflow"))
    assert (result["exit_code"], result["error"]) == (1, "QuorumMissed")
    for name in HONEST:
        assert f"{name} (failed)" in result["message"]
        ledgers = ward.hospital(name).directory / "ledgers"
        with Ledger.read(ledgers / f"overflow-{name}.sqlite", f"overflow-{name}") as ledger:
            (release,) = ledger.releases()
            assert release.done is None  # charged, never sent
    assert not (ward.run_folder(study) / "model.safetensors").exists()
    assert not (ward.run_folder(study) / "bundle.zip").exists()


@pytest.fixture(scope="module")
def with_liars(ward: Federation) -> Iterator[tuple[Json, Path]]:
    """A run of three honest hospitals and six that break the protocol, one fault each."""
    study = ward.sign("liars", names=(*HONEST, *LIARS))
    faults = {ward.hospital(name).directory: name for name in LIARS}
    with hostile_hospitals(faults, ward.folder / "logs" / "liars.log"):
        yield play(ward, study), ward.run_folder(study)


def test_the_honest_hospitals_finish_without_the_liars(with_liars: tuple[Json, Path]) -> None:
    result, folder = with_liars
    assert result["exit_code"] == 8
    # `wrong-log` was honest until the end: its updates count, its log does not.
    assert result["hospitals_completed"] == [*HONEST, "wrong-log"]
    assert verify_bundle(folder / "bundle.zip").ok


@pytest.mark.parametrize(
    ("liar", "reason"),
    [
        ("not-a-number", "uint8 of shape (20,) was due, float32 of shape (5,) came"),
        ("wrong-shape", "uint8 of shape (20,) was due, uint8 of shape (21,) came"),
        ("wrong-digest", "its header says update_digest"),
        ("replayed", "its header says transcript"),
        ("wrong-key", "its run key is for somebody else"),
    ],
)
def test_a_wrong_answer_is_rejected_named_and_never_added(
    with_liars: tuple[Json, Path], liar: str, reason: str
) -> None:
    _, folder = with_liars
    log = bundle_log(folder / "bundle.zip")
    told = [entry for entry in log if entry["body"].get("hospital") == liar]
    assert any(reason in entry["body"].get("reason", "") for entry in told), told
    closed = {e["body"]["transcript"] for e in log if e["type"] == "round-closed"}
    assert not any(
        entry["type"] == "update-received" and entry["body"]["transcript"] in closed
        for entry in told
    )
    report = read_json(folder / "report.json")
    absent = {entry["hospital"]: entry["reason"] for entry in report["participation"]["absent"]}
    assert reason in absent[liar]
    page = (folder / "report.html").read_text()
    assert liar in page


def test_a_log_that_is_none_is_left_out_by_name(with_liars: tuple[Json, Path]) -> None:
    _, folder = with_liars
    last = bundle_log(folder / "bundle.zip")[-1]
    assert last["type"] == "hospital-missed"
    assert last["body"]["hospital"] == "wrong-log"
    assert "handed over no valid log" in last["body"]["reason"]


def test_the_text_of_a_liars_error_reaches_no_other_hospital(
    with_liars: tuple[Json, Path], ward: Federation
) -> None:
    for name in HONEST:
        log = ward.processes.parties[f"hospital-{name}"].log.read_text()
        assert "not-a-number" not in log
