"""Liars over the real gateway: a coordinator that wants one update, hospitals that spoil a sum."""

import json
from collections.abc import Iterator, Mapping

import pytest
from tests.support.evil_coordinator import PROBES, evil_coordinator
from tests.support.hostile_hospital import hostile_hospitals
from tests.support.machine import is_connected
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

HONEST = ("alpha", "beta", "gamma", "delta", "epsilon")
# Two more hospitals that do nothing wrong make the threshold 7 of 10: three liars are affordable.
OTHERS: Mapping[str, str] = {
    "wrong-reveal": "wrong-reveal",
    "wrong-share": "wrong-share",
    "never-signs": "never-signs",
    "omega": "honest",
    "sigma": "honest",
}


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    folder = tmp_path_factory.mktemp("attacks")
    with standing_federation(folder, HONEST, others=tuple(OTHERS)) as federation:
        yield federation


def entries(ward: Federation, study: Study, kind: str, party: str = "coordinator") -> list[Json]:
    log = bundle_log(ward.run_folder(study) / "bundle.zip", party)
    return [entry["body"] for entry in log if entry["type"] == kind]


def verified(ward: Federation, study: Study) -> None:
    found = verify_bundle(ward.run_folder(study) / "bundle.zip")
    assert found.ok, list(found.lines())


# --- hospitals that spoil the opening of a sum ---


@pytest.fixture(scope="module")
def spoiled(ward: Federation) -> Study:
    """Two rounds with a wrong key, a wrong share, and a hospital that vanishes before it signs."""
    study = ward.sign("spoiled", "rounds.count=2", names=(*HONEST, *OTHERS))
    faults = {ward.hospital(name).directory: fault for name, fault in OTHERS.items()}
    with hostile_hospitals(faults, ward.folder / "logs" / "spoilers.log") as spoilers:
        until("the spoilers are connected", lambda: is_connected(spoilers.pid))
        ward.approve(study)
        ward.submit(study)
        result = ward.result(study)
    assert result["exit_code"] == 8, result
    return study


def test_the_sum_opens_all_the_same_and_the_run_goes_on(ward: Federation, spoiled: Study) -> None:
    first, second = entries(ward, spoiled, "survivors-agreed")[:2]
    assert set(first["survivors"]) == {*HONEST, *OTHERS}
    assert set(second["survivors"]) >= {*HONEST, "omega", "sigma"}
    assert len(entries(ward, spoiled, "round-closed")) == 2
    assert entries(ward, spoiled, "attempt-void") == []
    verified(ward, spoiled)


@pytest.mark.parametrize(
    ("liar", "reason"),
    [
        ("wrong-reveal", "its mask key is not the one it committed to"),
        ("wrong-share", "never-signs"),
    ],
)
def test_who_spoils_it_is_named_in_log_and_report(
    ward: Federation, spoiled: Study, liar: str, reason: str
) -> None:
    told = [e for e in entries(ward, spoiled, "share-rejected") if e["hospital"] == liar]
    assert any(reason in each["reason"] for each in told), told
    folder = ward.run_folder(spoiled)
    absent = read_json(folder / "report.json")["participation"]["absent"]
    incidents = read_json(folder / "report.json")["incidents"]
    assert any(liar in json.dumps(each) for each in [*absent, *incidents]), (absent, incidents)
    assert liar in (folder / "report.html").read_text()


def test_who_never_signs_is_in_the_sum_and_named_as_vanished(
    ward: Federation, spoiled: Study
) -> None:
    gone = entries(ward, spoiled, "hospital-vanished")
    assert {"hospital": "never-signs", "stage": "signed"} in [
        {key: each[key] for key in ("hospital", "stage")} for each in gone
    ]
    accused = {each["hospital"] for each in entries(ward, spoiled, "share-rejected")}
    assert accused == {"wrong-reveal", "wrong-share"}  # nobody honest is


# --- a coordinator that asks for what it must not have ---


@pytest.fixture(scope="module")
def attacked(ward: Federation, spoiled: Study) -> tuple[Study, list[Json]]:
    """A run of the five honest hospitals under an evil coordinator, and what they answered."""
    answers = ward.folder / "answers.jsonl"
    study = ward.sign("attacked", "rounds.count=2", names=HONEST)
    ward.approve(study)
    ward.submit(study)
    with evil_coordinator(ward, answers):
        result = ward.result(study)
    assert result["exit_code"] == 0, result
    return study, [json.loads(line) for line in answers.read_text().splitlines()]


Attacked = tuple[Study, list[Json]]

DUE = {
    "sybil_directory": "directory-not-valid",
    "replaced_key": "directory-not-valid",
    "threshold_of_one": "spec-differs-from-study",
    "cohort_of_one": "spec-differs-from-study",
    "sybil_in_cohort": "spec-differs-from-study",
    "too_few_survivors": "survivors-not-valid",
    "survivors_without_it": "survivors-not-valid",
    "shares_of_another": "survivors-not-valid",
    "itself_vanished": "survivors-not-valid",
    "most_vanished": "survivors-not-valid",
    "few_signatures": "survivors-not-valid",
    "exchanged_signatures": "survivors-not-valid",
    "another_session": "no-such-session",
    "second_set": "second-survivor-set",
}


def test_every_probe_was_tried(attacked: Attacked) -> None:
    tried = {probe.__name__ for probes in PROBES.values() for probe in probes}
    assert {each["probe"] for each in attacked[1]} == DUE.keys() | {"both_secrets"}
    assert tried <= DUE.keys() | {"both_secrets"}


@pytest.mark.parametrize(("probe", "code"), DUE.items())
def test_every_hospital_refuses_what_would_take_a_sum_apart(
    attacked: Attacked, probe: str, code: str
) -> None:
    said = {each["hospital"]: each for each in attacked[1] if each["probe"] == probe}
    without_first = probe in {"replaced_key", "second_set"}  # these are about the first hospital
    assert said.keys() == set(HONEST) - ({"alpha"} if without_first else set())
    assert {each["said"] for each in said.values()} == {code}, said
    if probe == "replaced_key":
        assert {each["names"] for each in said.values()} == {"alpha"}


def test_of_one_hospital_they_give_shares_of_one_secret_never_of_both(attacked: Attacked) -> None:
    said = [each for each in attacked[1] if each["probe"] == "both_secrets"]
    assert len(said) == len(HONEST) - 1
    for each in said:
        # Nobody dropped out, so no key of a pair is due; one share, of alpha's own mask alone.
        assert each == {**each, "said": "revealed", "pairs": [], "shares": {"alpha": 1}}


def test_the_refusals_are_in_the_hospitals_own_logs_and_the_honest_rounds_verify(
    ward: Federation, attacked: Attacked
) -> None:
    study, _ = attacked
    for name in HONEST:
        codes = {each["code"] for each in entries(ward, study, "round-refused", name)}
        assert {"spec-differs-from-study", "survivors-not-valid"} <= codes, codes
        assert ("second-survivor-set" in codes) == (name != "alpha")
    assert len(entries(ward, study, "round-closed")) == 2
    verified(ward, study)


def test_the_report_tells_what_the_coordinator_kept_to_itself(
    ward: Federation, attacked: Attacked
) -> None:
    study, _ = attacked
    told = read_json(ward.run_folder(study) / "report.json")["incidents"]
    second = [each for each in told if each["reason"] == "second-survivor-set"]
    assert {each["party"] for each in second} == set(HONEST) - {"alpha"}
    assert {each["what"] for each in second} == {"refused in round 1; only its own log says so"}
    never = "refused in an attempt that was never opened; only its own log says so"
    refused = [each for each in told if each["reason"].startswith("survivors-not-valid, ")]
    assert {each["party"] for each in refused} == set(HONEST)  # one line for all of a hospital's
    sybil = [each for each in told if each["reason"] == "spec-differs-from-study"]
    assert {(each["party"], each["what"]) for each in sybil} == {(name, never) for name in HONEST}


def test_a_refused_question_leaves_nothing_charged(ward: Federation, attacked: Attacked) -> None:
    study, _ = attacked
    for name in HONEST:
        reserved = entries(ward, study, "release-reserved", name)
        assert len(reserved) == 3, name  # two rounds and the evaluation
