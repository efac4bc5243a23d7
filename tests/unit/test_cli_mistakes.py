"""Slips that people make on the command line: each is named, with what to do about it."""

import errno
import json
import os

import pytest
from tests.support.hospitals import NAMES, STUDY_TOML, Ward, study_json

from wardround.cli import main as cli
from wardround.errors import why
from wardround.study.files import checked
from wardround.study.manifest import Study

HARBOUR = NAMES[0]
OTHER = "ab" * 32


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    ward = Ward.make(tmp_path_factory.mktemp("ward"), NAMES[:2])
    yield ward
    ward.close()


@pytest.fixture
def refused(capsys):
    def run(*arguments, code=4):
        assert cli.run([str(argument) for argument in arguments]) == code
        return capsys.readouterr().err

    return run


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(STUDY_TOML)
    return path


def test_an_error_of_a_file_is_told_in_words_and_without_the_path(tmp_path):
    for path in (tmp_path / "absent-secret", tmp_path):
        with pytest.raises((FileNotFoundError, IsADirectoryError)) as met:
            path.read_bytes()
        assert why(met.value) in {"no such file or directory", "is a directory"}
    with pytest.raises(UnicodeDecodeError) as met:
        b"\xffsecret".decode("ascii")
    assert why(met.value) == "not ASCII text"
    assert why(ValueError("secret")) == "ValueError"


def test_a_full_disk_is_no_bug_and_leaves_no_half_file(ward, plan, tmp_path, capsys, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = tmp_path / "full"
    folder.mkdir()
    at = str(ward.coordinator.directory)
    roster = [
        word
        for each in ward.study().roster
        for word in ("--hospital", f"{each.name}={each.fingerprint}")
    ]
    signing = ["study", "sign", str(plan), "--coordinator", at, "--out", str(folder / "s.json")]
    monkeypatch.setattr(os, "fsync", full)
    for arguments in (
        [*signing, *roster],
        ["invite", "newcomer", "--coordinator", at, "--out", str(folder / "new.ticket")],
        ["coordinator", "init", str(folder / "c"), "--address", "localhost:18443"],
    ):
        assert cli.run(arguments) == 1
        assert "no space left on device" in capsys.readouterr().err
        assert not any(folder.iterdir()), arguments


def test_a_file_that_the_system_refuses_is_named_only_where_its_name_was_typed(capsys, monkeypatch):
    def denied(_arguments):
        raise PermissionError(errno.EACCES, "Permission denied", "private/Smith.dcm")

    monkeypatch.setattr(cli, "_called", denied)
    assert cli.run(["data", "check", "x.toml"]) == 1
    assert "Smith" not in capsys.readouterr().err
    assert cli.run(["data", "check", "private/Smith.dcm", "--json"]) == 1
    heard = capsys.readouterr()
    assert "Smith.dcm: permission denied" in heard.err
    assert json.loads(heard.out)["exit_code"] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["coordinator", "serve", "nowhere"],
        ["coordinator", "status", "nowhere"],
        ["invite", "harbour", "--coordinator", "nowhere"],
        ["study", "list", "--coordinator", "nowhere"],
        ["model", "list", "--coordinator", "nowhere"],
    ],
)
def test_a_folder_without_a_coordinator_is_named_with_the_command_that_makes_one(
    arguments, refused
):
    text = refused(*arguments)
    assert "nowhere: no coordinator is here" in text
    assert "`wardround coordinator init nowhere --address HOST:PORT`" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["hospital", "serve", "nowhere"],
        ["budget", "show", "--dir", "nowhere"],
        ["review", "list", "--dir", "nowhere"],
    ],
)
def test_a_folder_that_never_joined_is_named_with_the_command_that_joins(arguments, refused):
    text = refused(*arguments)
    assert "nowhere has not joined a coordinator yet" in text
    assert "`wardround hospital join @TICKET --dir nowhere`" in text


def test_a_status_is_as_long_as_people_want_it_and_whole_for_programs(ward, capsys):
    home = ward[HARBOUR].home
    home.show({"hospital": HARBOUR, "state": "training", "epsilon": 2.7164679292657365})
    assert cli.run(["hospital", "status", str(home.directory)]) == 0
    assert "epsilon     2.716\n" in capsys.readouterr().out
    assert cli.run(["hospital", "status", str(home.directory), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["epsilon"] == 2.7164679292657365


def test_doctor_names_the_file_that_a_folder_lacks(tmp_path, capsys):
    assert cli.run(["doctor", "--dir", str(tmp_path / "nowhere")]) == 1
    text = capsys.readouterr().out
    assert "tls-certificate.pem in nowhere: no such file or directory" in text
    assert "wardround hospital join @TICKET --dir nowhere" in text


@pytest.mark.parametrize("command", ["submit", "show"])
def test_an_unsigned_study_is_told_from_a_damaged_one(ward, plan, refused, command):
    given = {
        "submit": ("study", "submit", plan, "--coordinator", ward.coordinator.directory),
        "show": ("review", "show", plan, "--dir", ward[HARBOUR].home.directory),
    }
    text = refused(*given[command])
    assert "study.toml: nobody has signed it" in text
    assert "`wardround study sign`" in text


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (["harbour=abc"], "a fingerprint is 64 lower-case hex digits, 3 signs came"),
        ([f"harbour={OTHER}"], "1 came, at least 2 are due"),
        (
            [f"harbour={OTHER}", f"unknown={OTHER[::-1]}"],
            "the roster's fingerprint of harbour is not the one that enrolled",
        ),
    ],
)
def test_a_wrong_roster_is_refused_before_it_is_signed(
    ward, plan, refused, tmp_path, entries, said
):
    roster = [word for entry in entries for word in ("--hospital", entry)]
    out = tmp_path / "signed.json"
    given = ("--coordinator", ward.coordinator.directory, "--out", out)
    assert said in refused("study", "sign", plan, *given, *roster)
    assert not out.exists()


def test_a_study_with_another_fingerprint_of_ours_is_shown_as_not_for_us(ward, tmp_path, capsys):
    first, second = (hospital.fingerprint for hospital in ward.study().roster)
    roster = [
        {"name": name, "fingerprint": fingerprint}
        for name, fingerprint in zip(NAMES[:2], (second, first), strict=True)
    ]
    swapped = checked(Study, study_json(roster=roster, title="Swapped"), what="study")
    signed = tmp_path / "signed.json"
    signed.write_bytes(ward.signed(swapped))
    assert cli.run(["review", "show", str(signed), "--dir", str(ward[HARBOUR].home.directory)]) == 0
    text = capsys.readouterr().out
    assert "NOT FOR US" in text
    assert "another fingerprint for harbour" in text


@pytest.mark.parametrize("slip", ["folder", "file"])
def test_an_officer_hears_of_a_slip_in_the_path_to_the_data(ward, tmp_path, refused, slip):
    signed = tmp_path / "signed.json"
    signed.write_bytes(ward.signed(ward.study(title=f"Slip in the {slip}")))
    hospital = ward[HARBOUR]
    data = {"folder": tmp_path / "dta", "file": tmp_path}[slip]
    given = ("--dir", hospital.home.directory, "--dataset", hospital.description, "--data", data)
    text = refused("review", "approve", signed, *given)
    assert {"folder": "dta: no such folder", "file": "it has no "}[slip] in text
    assert not any(hospital.home.approvals().glob(f"{ward.study().digest}*"))


def test_two_studies_of_one_name_are_told_apart_by_their_digests(ward, tmp_path, refused):
    digests = []
    for title in ("First of the name", "Second of the name"):
        study = ward.study(title=title)
        (tmp_path / "signed.json").write_bytes(ward.signed(study))
        given = ("--dir", str(ward[HARBOUR].home.directory))
        assert cli.run(["review", "show", str(tmp_path / "signed.json"), *given]) == 0
        digests.append(study.digest[:16])
    text = refused("review", "approve", "fever", *given, "--dataset", "d", "--data", "d")
    assert all(digest in text for digest in digests)


def test_a_ticket_file_that_exists_makes_no_second_invitation(ward, tmp_path, refused):
    out = tmp_path / "new.ticket"
    out.write_text("taken")
    given = ("--coordinator", ward.coordinator.directory, "--out", out)
    before = set((ward.coordinator.directory / "invitations").iterdir())
    assert "new.ticket exists already" in refused("invite", "newcomer", *given)
    assert set((ward.coordinator.directory / "invitations").iterdir()) == before


@pytest.mark.slow
def test_a_forecast_for_an_unknown_name_says_that_nothing_was_released_from_it(
    ward, tmp_path, capsys
):
    study = ward.study(title="Forecast of a slip")
    (tmp_path / "signed.json").write_bytes(ward.signed(study))
    given = ["--dir", str(ward[HARBOUR].home.directory)]
    assert cli.run(["review", "show", str(tmp_path / "signed.json"), *given]) == 0
    capsys.readouterr()
    assert cli.run(["budget", "forecast", study.digest, *given, "--dataset", "fewer-harbour"]) == 0
    assert "nothing was released from a data set of this name" in capsys.readouterr().out


def test_what_does_not_fit_a_contract_is_said_once_to_people_and_whole_to_programs(
    ward, plan, tmp_path, capsys
):
    hospital = ward[HARBOUR]
    given = [str(hospital.description), "--study", str(plan), "--data", str(tmp_path)]
    assert cli.run(["data", "check", *given]) == 4
    heard = capsys.readouterr()
    assert "no such file in the data folder" in heard.out
    assert "1 to fix, see above" in heard.err
    assert cli.run(["data", "check", *given, "--json"]) == 4
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "no such file in the data folder" in last["message"]
