"""Parties that die between two given messages of a round, as kill -9 ends them, and come back.

What each stage means is tested quickly in tests/protocol/test_round_dropouts.py, processes that are
killed in mid-round in test_federation_lost_parties.py: a fault shows there, too.
"""

import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from tests.support.held_rounds import RUN_TIMEOUT_S, HeldRun, until_round
from tests.support.recomputed_sums import PLAIN, Checked, check_opened_sums
from tests.support.small_federation import (
    Federation,
    bundle_log,
    read_json,
    standing_federation,
    until,
)

from wardround.audit.verify import verify_bundle
from wardround.canonical import Json
from wardround.study.manifest import Study

pytestmark = [pytest.mark.federation, pytest.mark.slow]

NAMES = ("alpha", "beta", "gamma", "delta", "epsilon")


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with standing_federation(tmp_path_factory.mktemp("stages"), NAMES) as federation:
        for name in NAMES:
            federation.set_policy(name, mechanisms=["local", "none"])
        yield federation


def submitted(ward: Federation, name: str, *overrides: str) -> HeldRun:
    study = ward.sign(name, "rounds.count=30", "rounds.spare_attempts=4", *overrides)
    ward.approve(study)
    ward.submit(study)
    return HeldRun(ward, study)


def entries(ward: Federation, study: Study, kind: str, party: str = "coordinator") -> list[Json]:
    """The bodies of one type in one party's log of a finished run."""
    log = bundle_log(ward.run_folder(study) / "bundle.zip", party)
    return [entry["body"] for entry in log if entry["type"] == kind]


def verified(ward: Federation, study: Study) -> None:
    found = verify_bundle(ward.run_folder(study) / "bundle.zip")
    assert found.ok, list(found.lines())


Died = tuple[Study, int, int, Checked]


@pytest.fixture(scope="module")
def died(ward: Federation) -> Died:
    """`alpha` dies between M1 and M3 of one round, `beta` between M3 and M5 of a later one."""
    run = submitted(ward, "died", *PLAIN)
    with run.before_its_update("delta", beyond=1) as unsigned:
        ward.kill("hospital-alpha")
    ward.start_hospital("alpha")
    with run.before_its_signature("gamma", "delta", beyond=unsigned + 2) as unrevealed:
        ward.kill("hospital-beta")
    ward.start_hospital("beta")
    result = ward.result(run.study)
    assert result["exit_code"] in {0, 8}, result
    return run.study, unsigned, unrevealed, check_opened_sums(ward, run.study)


@pytest.mark.parametrize(("victim", "stage"), [("alpha", "signed"), ("beta", "revealed")])
def test_a_hospital_that_dies_after_its_update_is_in_the_sum_which_the_others_open(
    ward: Federation, died: Died, victim: str, stage: str
) -> None:
    study, unsigned, unrevealed, _ = died
    number = unsigned if stage == "signed" else unrevealed
    specs = {e["transcript"]: e["spec"] for e in entries(ward, study, "round-opened")}
    gone = [e for e in entries(ward, study, "hospital-vanished") if e["hospital"] == victim]
    (body,) = [e for e in gone if specs[e["transcript"]]["round"] == number]
    assert body["stage"] == stage
    (agreed,) = [
        e for e in entries(ward, study, "survivors-agreed") if e["transcript"] == body["transcript"]
    ]
    assert victim in agreed["survivors"]
    assert (victim in agreed["signatures"]) == (stage == "revealed")
    closed = {e["transcript"] for e in entries(ward, study, "round-closed")}
    assert body["transcript"] in closed


def test_every_sum_of_that_run_is_right_and_its_bundle_verifies(
    ward: Federation, died: Died
) -> None:
    study, _, _, checked = died
    assert checked.sums == 31
    assert {("alpha", "signed"), ("beta", "revealed")} <= set(checked.vanished)
    verified(ward, study)


def test_a_person_reads_in_the_report_who_vanished_when(ward: Federation, died: Died) -> None:
    study, unsigned, unrevealed, _ = died
    folder = ward.run_folder(study)
    absent = read_json(folder / "report.json")["participation"]["absent"]
    told = {(each["hospital"], each["since"], each["reason"]) for each in absent}
    in_the_sum = "its update is in the sum"
    assert ("alpha", f"round {unsigned + 1}", f"vanished before it signed; {in_the_sum}") in told
    assert ("beta", f"round {unrevealed + 1}", f"vanished before it revealed; {in_the_sum}") in told
    assert "vanished before it revealed" in (folder / "report.html").read_text()


def killed_while_survivors_sign(
    ward: Federation, name: str, *overrides: str
) -> tuple[HeldRun, int]:
    """The coordinator dies when all but `gamma` have signed, and is started again."""
    run = submitted(ward, name, *overrides)
    with run.before_its_signature("gamma", "delta", beyond=1) as number:
        ward.kill("coordinator")
    ward.start_coordinator()
    return run, number


def test_a_coordinator_killed_while_survivors_sign_goes_on_with_fresh_keys_and_a_new_attempt(
    ward: Federation,
) -> None:
    run, number = killed_while_survivors_sign(ward, "killed")
    result = ward.result(run.study)
    assert result["exit_code"] == 0, result
    opened = entries(ward, run.study, "round-opened")
    specs = {e["transcript"]: e["spec"] for e in opened if e["spec"]["purpose"] == "train"}
    closed = [e["transcript"] for e in entries(ward, run.study, "round-closed")]
    assert [specs[transcript]["round"] for transcript in closed] == list(range(30))
    (left,) = specs.keys() - set(closed)
    again = next(spec for t, spec in specs.items() if t in closed and spec["round"] == number)
    assert specs[left]["round"] == number
    assert again["attempt"] == specs[left]["attempt"] + 1
    assert again["session"] != specs[left]["session"]
    for name in ("alpha", "beta", "delta", "epsilon"):
        signed = [e["transcript"] for e in entries(ward, run.study, "survivors-signed", name)]
        assert signed.count(left) == 1
        assert set(closed) <= set(signed)
    verified(ward, run.study)


def test_without_noise_it_asks_for_no_second_sum_of_that_round_and_the_run_ends(
    ward: Federation,
) -> None:
    run, number = killed_while_survivors_sign(ward, "killed-plain", *PLAIN)
    result = ward.result(run.study)
    assert result["error"] == "QuorumMissed", result
    assert f"round {number + 1}: the coordinator was stopped" in result["message"]
    assert not (ward.run_folder(run.study) / "bundle.zip").exists()
    for name in NAMES:
        assert not _answered_again(run, name, number)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(5))
def test_a_coordinator_killed_at_a_random_point_ends_the_run_with_a_bundle_that_verifies(
    ward: Federation, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    run = submitted(ward, f"random-{seed}", "rounds.count=8")
    until_round(ward, run.study, int(draw.integers(-1, 8, endpoint=True)))
    time.sleep(draw.uniform(0, 1.0))
    ward.kill("coordinator")
    time.sleep(draw.uniform(0, 5.0))
    ward.start_coordinator()
    path = ward.run_folder(run.study) / "result.json"
    until(f"end of {run.study.name}: {ward.processes.logs}", path.exists, RUN_TIMEOUT_S)
    assert read_json(path)["exit_code"] in {0, 8}, read_json(path)
    verified(ward, run.study)


def _answered_again(run: HeldRun, hospital: str, number: int) -> bool:
    """Whether it answered anything of that round beyond its first attempt."""
    last = read_json(run.ward.hospital(hospital).attempt_file(run.study.digest))
    return bool((last["place"], last["attempt"]) != (number + 1, 1))


def test_nobody_needed_a_second_start_but_those_that_were_killed(
    ward: Federation, died: Died
) -> None:
    survivors: Sequence[str] = ("gamma", "delta", "epsilon")
    for name in survivors:
        party = ward.processes.parties[f"hospital-{name}"]
        assert party.process.poll() is None
        assert "Traceback" not in party.log.read_text()
