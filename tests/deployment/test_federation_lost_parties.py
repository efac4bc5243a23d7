"""Parties that die in the middle of a run, killed as a power cut kills: kill -9, no goodbye."""

import time
from collections.abc import Iterator, Sequence

import pytest
from tests.support.hostile_hospital import hostile_hospitals
from tests.support.small_federation import (
    Federation,
    bundle_log,
    read_json,
    standing_federation,
    until,
    wardround,
)

from wardround.audit.verify import verify_bundle
from wardround.canonical import Json
from wardround.study.manifest import Study
from wardround_client.ledger import Ledger, Purpose
from wardround_server.presence import GRACE_S

pytestmark = pytest.mark.federation

NAMES = ("alpha", "beta", "gamma", "delta", "epsilon")


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    folder = tmp_path_factory.mktemp("lost")
    with standing_federation(folder, NAMES, others=("slow-to-sign",)) as federation:
        yield federation


class Played:
    """A run that has ended: its result, its report and the logs in its bundle."""

    def __init__(self, ward: Federation, study: Study) -> None:
        self.study = study
        self.result = ward.result(study)
        folder = ward.run_folder(study)
        self.bundle = folder / "bundle.zip"
        assert "error" not in self.result, self.result
        self.report = read_json(folder / "report.json")
        self.page = (folder / "report.html").read_text()

    def entries(self, kind: str, party: str = "coordinator") -> list[Json]:
        """The bodies of one type in one party's log."""
        log = bundle_log(self.bundle, party)
        return [entry["body"] for entry in log if entry["type"] == kind]


def submitted(ward: Federation, name: str, *overrides: str, names: Sequence[str] = NAMES) -> Study:
    study = ward.sign(name, "rounds.spare_attempts=4", *overrides, names=names)
    ward.approve(study)
    ward.submit(study)
    return study


def until_lost(ward: Federation, study: Study, *names: str) -> None:
    """Wait until the coordinator has given these hospitals up."""
    path = ward.run_folder(study) / "status.json"

    def lost() -> bool:
        states = read_json(path).get("hospitals", {})
        return all(states.get(name) in {"disconnected", "left out"} for name in names)

    until(f"{names} are lost", lost)


@pytest.fixture(scope="module")
def coordinator_killed(ward: Federation) -> Played:
    """The coordinator dies while an attempt is open, and is started again."""
    study = submitted(ward, "coordinator-killed", "rounds.count=12")
    ward.until_training(study, rounds=2)
    with ward.stopped("hospital-epsilon"):
        ward.kill("coordinator")
    ward.start_coordinator()
    return Played(ward, study)


@pytest.fixture(scope="module")
def hospitals_killed(ward: Federation, coordinator_killed: Played) -> Played:
    """`alpha` dies after its answer, for good; `beta` before it, and is started again."""
    study = submitted(ward, "hospitals-killed", "rounds.count=25")
    ward.until_training(study, rounds=2)
    with ward.stopped("hospital-gamma"):  # the others have answered, the round stays open
        time.sleep(1)
        ward.kill("hospital-alpha")
        time.sleep(GRACE_S + 1)
    until_lost(ward, study, "alpha")
    ward.kill("hospital-beta")
    until_lost(ward, study, "beta")
    with ward.stopped("hospital-gamma"):  # the run waits here, so that it is not over too soon
        ward.start_hospital("beta")
        ward.until_connected("beta")
    return Played(ward, study)


def test_a_killed_hospital_leaves_a_run_that_ends_with_the_quorum_and_exit_code_8(
    hospitals_killed: Played,
) -> None:
    assert hospitals_killed.result["exit_code"] == 8
    assert hospitals_killed.result["hospitals_planned"] == 5
    assert "alpha" not in hospitals_killed.result["hospitals_completed"]
    assert {"gamma", "delta", "epsilon"} <= set(hospitals_killed.result["hospitals_completed"])


def test_the_report_names_who_was_missing_and_why(hospitals_killed: Played) -> None:
    absent = hospitals_killed.report["participation"]["absent"]
    reasons = {
        name: "; ".join(e["reason"] for e in absent if e["hospital"] == name)
        for name in ("alpha", "beta")
    }
    assert {entry["hospital"] for entry in absent} == set(reasons)
    # `alpha` had answered its round and did not sign any more; `beta` went wherever the next was.
    assert reasons["alpha"].startswith("vanished before it signed"), reasons
    assert "disconnected" in reasons["beta"] or "vanished" in reasons["beta"], reasons
    assert any(e["since"].endswith("to evaluation") for e in absent if e["hospital"] == "alpha")
    vanished = {e["hospital"]: e["stage"] for e in hospitals_killed.entries("hospital-vanished")}
    assert vanished["alpha"] == "signed"
    missed = {e["hospital"] for e in hospitals_killed.entries("hospital-missed") if e["transcript"]}
    assert missed | vanished.keys() >= {"alpha", "beta"}
    assert "alpha" in hospitals_killed.report["participation"]["headline"]
    assert "alpha" in hospitals_killed.page


def test_a_killed_hospital_that_is_started_again_comes_back_in_a_later_round_with_a_new_session(
    hospitals_killed: Played,
) -> None:
    joined = [e for e in hospitals_killed.entries("hospital-joined") if e["hospital"] == "beta"]
    assert len({entry["session"] for entry in joined}) == 2
    assert len({entry["run_key"]["public_key"] for entry in joined}) == 2
    closed = {entry["transcript"] for entry in hospitals_killed.entries("round-closed")}
    agreed = hospitals_killed.entries("survivors-agreed")
    with_beta = ["beta" in e["survivors"] for e in agreed if e["transcript"] in closed]
    assert with_beta[0]
    assert with_beta[-1]
    assert not all(with_beta)


def test_the_bundle_of_a_run_with_losses_verifies_from_the_command_line(
    hospitals_killed: Played,
) -> None:
    found = wardround("audit", "verify", hospitals_killed.bundle)
    assert found.code == 0, found.out


def test_a_killed_coordinator_goes_on_from_its_last_checkpoint_and_finishes(
    coordinator_killed: Played,
) -> None:
    assert coordinator_killed.result["exit_code"] == 0
    assert len(coordinator_killed.entries("study-opened")) == 2
    assert len({entry["run"] for entry in coordinator_killed.entries("study-opened")}) == 1
    opened = {e["transcript"]: e["spec"] for e in coordinator_killed.entries("round-opened")}
    closed = [
        opened[entry["transcript"]]["round"] for entry in coordinator_killed.entries("round-closed")
    ]
    assert closed == list(range(12))
    assert len(opened) in {13, 14}  # twelve rounds, the evaluation, the attempt that was cut off
    assert verify_bundle(coordinator_killed.bundle).ok


@pytest.mark.parametrize("name", NAMES)
def test_after_a_killed_coordinator_every_attempt_is_charged_once(
    coordinator_killed: Played, ward: Federation, name: str
) -> None:
    asked = {
        entry["transcript"]
        for entry in coordinator_killed.entries("round-opened")
        if entry["spec"]["purpose"] == "train"
    }
    closed = {entry["transcript"] for entry in coordinator_killed.entries("round-closed")}
    path = ward.hospital(name).directory / "ledgers" / f"small-{name}.sqlite"
    with Ledger.read(path, f"small-{name}") as ledger:
        charged = [
            release.transcript
            for release in ledger.releases()
            if release.purpose is Purpose.TRAIN
            and release.study_digest == coordinator_killed.study.digest
        ]
    assert len(charged) == len(set(charged))
    assert closed <= set(charged) <= asked


def test_an_approval_that_is_taken_back_in_mid_run_ends_that_hospitals_part(
    ward: Federation, hospitals_killed: Played
) -> None:
    study = submitted(ward, "withdrawn", "rounds.count=12", names=NAMES[1:])
    ward.until_training(study, rounds=2)
    with ward.stopped("hospital-gamma"):
        directory = ward.hospital("delta").directory
        found = wardround("review", "refuse", study.digest, "--dir", directory)
        assert found.code == 0, found.err
    played = Played(ward, study)
    assert played.result["exit_code"] == 8
    assert {e["hospital"] for e in played.report["participation"]["absent"]} == {"delta"}
    incidents = played.report["incidents"]
    assert ("refused", "delta") in {(each["what"], each["party"]) for each in incidents}
    assert verify_bundle(played.bundle).ok


def test_no_party_needed_a_second_start_but_those_that_were_killed(
    ward: Federation, hospitals_killed: Played
) -> None:
    for name in ("gamma", "delta", "epsilon"):
        party = ward.processes.parties[f"hospital-{name}"]
        assert party.process.poll() is None
        assert "Traceback" not in party.log.read_text()


@pytest.mark.slow
def test_a_coordinator_killed_after_the_evaluation_asks_nobody_for_it_again(
    ward: Federation, hospitals_killed: Played
) -> None:
    names = ("gamma", "delta", "epsilon", "slow-to-sign")
    slow = {ward.hospital("slow-to-sign").directory: "slow-to-sign"}
    with hostile_hospitals(slow, ward.folder / "logs" / "slow.log"):
        study = submitted(ward, "killed-at-the-end", names=names)
        status = ward.run_folder(study) / "status.json"
        until("closing", lambda: read_json(status).get("state") == "closing")
        ward.kill("coordinator")
        ward.start_coordinator()
        played = Played(ward, study)
    assert played.result["exit_code"] == 0
    assert len(played.entries("study-opened")) == 2
    assert len(played.entries("evaluation-closed")) == 1
    assert played.report["evaluation"]["metrics"] is not None
    assert verify_bundle(played.bundle).ok
