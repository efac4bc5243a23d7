"""The command line: what it loads, how it fails, and what it never prints."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from tests.support.hospitals import NAMES, STUDY_TOML, Ward

from wardround.cli import main as cli
from wardround.cli.pages import SECTIONS
from wardround.errors import (
    BadInput,
    DeadlineMissed,
    Refused,
    RefusedByBudget,
    Unreachable,
    VerificationFailed,
    WardroundError,
)
from wardround.privacy.mechanism import SampledGaussian

HEAVY = (
    "torch",
    "flwr",
    "pandas",
    "numpy",
    "pydantic",
    "rich",
    "cryptography",
    "scipy",
    "dp_accounting",
    "opacus",
)
HARBOUR = NAMES[0]
DESCRIPTION = str(
    Path(__file__).parents[2] / "deploy/studies/heart_disease/hospitals/cleveland.toml"
)


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    ward = Ward.make(tmp_path_factory.mktemp("ward"), NAMES[:2])
    yield ward
    ward.close()


def said(capsys, *arguments, code=0):
    """Standard output of a command that ends with `code`."""
    ended = cli.run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert ended == code, captured.err
    return captured.out if code == 0 else captured.err


def test_help_loads_none_of_the_heavy_modules_and_names_every_command():
    program = (
        "import sys\n"
        "from wardround.cli.main import run\n"
        "assert run(['--help']) == 0\n"
        f"print('LOADED', sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "LOADED []"
    assert all(f"  {name} " in done.stdout for name in cli.COMMANDS)


def every_command():
    """All commands and their sub-commands, as the words one types."""
    for name in cli.COMMANDS:
        command = cli.load(name)
        yield (name,)
        if isinstance(command, click.Group):
            yield from ((name, below) for below in command.commands)


def test_every_command_has_a_help_page_that_says_what_it_does(capsys):
    commands = list(every_command())
    assert len(commands) > 30
    for words in commands:
        text = said(capsys, *words, "--help")
        assert " ".join(["Usage: wardround", *words]) in text, words
        assert len(text.splitlines()) > 3, words


def test_a_help_page_is_whole_at_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for words in [(), *every_command()]:
        text = said(capsys, *words, "--help")
        lines = [line.removesuffix("[ARGS]...") for line in text.splitlines()]
        cut = [line for line in lines if line.endswith("...") and "Usage" not in line]
        assert not cut, words
        assert "\\[" not in text, words
        assert "--install-completion" not in text, words


def test_an_argument_says_on_its_help_page_what_it_is(capsys):
    assert "STUDY  Folder with study.toml" in said(capsys, "rehearse", "--help")


def test_every_command_stands_in_one_section_of_the_first_page():
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(cli.COMMANDS)


@pytest.mark.parametrize(
    ("typed", "meant"), [(["hospitl"], "hospital"), (["hospital", "jion"], "join")]
)
def test_a_mistyped_command_gets_the_nearest_one_said_once(capsys, typed, meant):
    assert said(capsys, *typed, code=4).count(f"Did you mean '{meant}'?") == 1


def test_every_command_that_tells_something_takes_json():
    for words in every_command():
        command = cli.load(words[0])
        if isinstance(command, click.Group):
            if len(words) == 1:
                continue
            command = command.commands[words[1]]
        if words not in {("coordinator", "serve"), ("hospital", "serve")}:
            assert "--json" in {o for p in command.params for o in p.opts}, words


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["--nonsense"],
        ["hospital", "nonsense"],
        ["hospital", "pause", "nowhere"],
        ["hospital", "resume", "nowhere"],
        ["hospital", "status", "nowhere"],
        ["hospital", "serve", "nowhere"],
        ["hospital", "join", "ticket", "--dir", "d"],
        ["hospital", "join", "@nowhere", "--dir", "d"],
        ["review", "list", "--dir", "nowhere"],
        ["review", "show", "x", "--dir", "nowhere"],
        ["budget", "show", "--dir", "nowhere"],
        ["budget", "history", "--dir", "nowhere"],
        ["budget", "forecast", "x", "--dir", "nowhere", "--dataset", "d"],
        ["data", "check", "nowhere.toml", "--study", "nowhere.toml", "--data", "nowhere"],
        ["data", "check", DESCRIPTION, "--study", "nowhere.json", "--data", "nowhere"],
        ["data", "check", DESCRIPTION, "--study", ".", "--data", "nowhere"],
        ["study", "check", "nowhere.toml"],
        ["study", "submit", "nowhere.json", "--coordinator", "nowhere"],
        ["study", "show", "x", "--coordinator", "nowhere"],
        ["coordinator", "init", "d", "--address", "nonsense"],
        ["coordinator", "status", "nowhere"],
        ["coordinator", "backup", "nowhere", "--to", "b"],
        ["coordinator", "serve", "nowhere"],
        ["invite", "Bad Name", "--coordinator", "nowhere"],
        ["model", "export", "x", "--coordinator", "nowhere", "--out", "m"],
        ["audit", "verify", "nowhere.zip"],
        ["doctor", "--role", "nonsense"],
        ["rehearse", "nowhere", "--data", "nowhere", "--out", "o"],
    ],
    ids=" ".join,
)
def test_bad_usage_ends_with_exit_code_4_one_line_and_nothing_written(
    arguments, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    text = said(capsys, *arguments, code=4)
    assert "bug" not in text
    assert "Traceback" not in text
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.parametrize(
    "arguments",
    [["invite", "new", "--out", "{}/no/t"], ["coordinator", "backup", "--to", "{}/no/t"]],
)
def test_a_file_that_cannot_be_written_is_no_bug(ward, tmp_path, capsys, arguments):
    filled = [argument.format(tmp_path) for argument in arguments]
    home = str(ward.coordinator.directory)
    filled += ["--coordinator", home] if filled[0] == "invite" else [home]
    assert "t" in said(capsys, *filled, code=4)


EXIT_CODES = {
    WardroundError: 1,
    Unreachable: 2,
    DeadlineMissed: 3,
    BadInput: 4,
    Refused: 6,
    VerificationFailed: 7,
}


@pytest.mark.parametrize("kind", EXIT_CODES)
def test_every_kind_of_error_has_its_exit_code_and_its_one_line(monkeypatch, capsys, kind):
    def fails(name):
        raise kind("what came and what was due")

    monkeypatch.setattr(cli, "load", fails)
    assert said(capsys, "doctor", code=EXIT_CODES[kind]) == (
        "wardround: what came and what was due\n"
    )
    assert cli.run(["doctor", "--json"]) == EXIT_CODES[kind]
    answer = json.loads(capsys.readouterr().out)
    assert (answer["error"], answer["exit_code"]) == (kind.__name__, EXIT_CODES[kind])


def test_a_refusal_by_budget_says_in_json_what_would_fit(monkeypatch, capsys):
    def fails(name):
        raise RefusedByBudget("too much", epsilon_that_fits=1.25)

    monkeypatch.setattr(cli, "load", fails)
    assert cli.run(["doctor", "--json"]) == 6
    assert json.loads(capsys.readouterr().out)["epsilon_that_fits"] == 1.25


def test_a_bug_prints_its_type_and_place_and_never_its_text(monkeypatch, capsys):
    def fails(name):
        raise KeyError("Canary4711")

    monkeypatch.setattr(cli, "load", fails)
    text = said(capsys, "doctor", code=5)
    assert f"KeyError at {__file__}:" in text
    assert "Canary4711" not in text


def test_an_interrupt_is_not_an_error(monkeypatch, capsys):
    def fails(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "load", fails)
    assert said(capsys, "doctor", code=130) == ""


def test_a_part_that_is_not_installed_is_named_with_how_to_get_it(monkeypatch, capsys):
    part = cli.Command("wardround_server.cli.not_there", "Nothing.")
    monkeypatch.setitem(cli.COMMANDS, "demo", part)
    assert "install wardround[server]" in said(capsys, "demo", code=4)


def test_a_study_without_noise_is_never_shown_with_an_epsilon(ward, tmp_path, capsys):
    """`--set privacy.mechanism=none` leaves the study's epsilon in the file."""
    signed = tmp_path / "signed.json"
    signed.write_bytes(ward.signed(ward.study(privacy__mechanism="none")))
    directory = ward[HARBOUR].home.directory
    text = said(capsys, "review", "show", signed, "--dir", directory)
    assert "epsilon     none: NO FORMAL GUARANTEE" in text
    assert "epsilon     3" not in text
    plain = tmp_path / "study.toml"
    plain.write_text(STUDY_TOML)
    checked = said(capsys, "study", "check", plain, "--set", "privacy.mechanism=none", "--json")
    assert json.loads(checked)["epsilon"] is None


def test_an_officer_reviews_approves_and_takes_back(ward, tmp_path, capsys):
    signed = tmp_path / "signed.json"
    study = ward.study(title="Reviewed")
    signed.write_bytes(ward.signed(study))
    hospital, given = ward[HARBOUR], ("--dir", ward[HARBOUR].home.directory)
    text = said(capsys, "review", "show", signed, *given)
    assert study.digest in text
    assert "the policy of this hospital allows it" in text
    what = ("--dataset", hospital.description, "--data", hospital.data, "--officer", "Dr Ada")
    said(capsys, "review", "approve", study.digest[:16], *given, *what)
    rows = json.loads(said(capsys, "review", "list", *given, "--json"))["studies"]
    assert {"study": "fever", "digest": study.digest, "approved": True} in rows
    said(capsys, "review", "refuse", study.digest, *given)
    rows = json.loads(said(capsys, "review", "list", *given, "--json"))["studies"]
    assert {"study": "fever", "digest": study.digest, "approved": False} in rows
    for unknown in ("0" * 16, study.digest[:15]):
        text = said(capsys, "review", "show", unknown, *given, code=4)
        assert "no study that was shown here" in text


def test_a_study_against_the_policy_is_shown_as_refused_and_exit_code_6_forbids_it(
    ward, tmp_path, capsys
):
    signed = tmp_path / "signed.json"
    signed.write_bytes(ward.signed(ward.study(privacy__delta=5e-3, title="Bold")))
    hospital, given = ward[HARBOUR], ("--dir", ward[HARBOUR].home.directory)
    assert "REFUSED by policy" in said(capsys, "review", "show", signed, *given)
    what = ("--dataset", hospital.description, "--data", hospital.data)
    text = said(capsys, "review", "approve", signed, *given, *what, code=6)
    assert "privacy.delta 0.005: the policy allows 0.001" in text


def test_a_forecast_counts_training_and_noised_evaluation_against_the_budget(
    ward, tmp_path, capsys
):
    noised = {"evaluation__counts": "noised", "evaluation__epsilon": 20.0}
    fits, too_much = ward.study(title="Fits"), ward.study(title="Too much", **noised)
    given = ("--dir", ward[HARBOUR].home.directory, "--dataset", "fever-harbour", "--json")
    for study in (fits, too_much):
        path = tmp_path / "signed.json"
        path.write_bytes(ward.signed(study))
        said(capsys, "review", "show", path, "--dir", ward[HARBOUR].home.directory)
    facts = json.loads(said(capsys, "budget", "forecast", fits.digest, *given))
    assert 2.9 < facts["epsilon_after"] <= 3.0
    said(capsys, "budget", "forecast", too_much.digest, *given, code=6)


def test_the_budget_is_shown_from_the_ledger_beside_a_running_daemon(ward, capsys):
    home = ward[HARBOUR].home
    with home.ledger("shown") as ledger:
        ledger.reserve(
            study_digest="1" * 64,
            run="2" * 32,
            purpose="train",
            transcript="3" * 64,
            mechanism=SampledGaussian(2.0, 0.5, 1),
            units=10,
            split="shown 0.25",
        )
        row = json.loads(said(capsys, "budget", "show", "--dir", home.directory, "--json"))
        (shown,) = [r for r in row["datasets"] if r["dataset"] == "shown"]
        assert 0 < shown["epsilon_spent"] < shown["epsilon_budget"] == 10.0
        assert shown["epsilon_left"] == pytest.approx(10.0 - shown["epsilon_spent"])
        text = said(capsys, "budget", "history", "--dir", home.directory)
    assert "1 releases (1 never sent, 0 without noise)" in text


def test_a_hospital_is_paused_and_resumed(ward, capsys):
    directory = ward[HARBOUR].home.directory
    said(capsys, "hospital", "pause", directory)
    assert ward[HARBOUR].home.paused
    said(capsys, "hospital", "resume", directory)
    assert not ward[HARBOUR].home.paused


def test_a_study_is_signed_submitted_once_listed_and_backed_up(ward, tmp_path, capsys):
    import tarfile

    home, plan, signed = ward.coordinator.directory, tmp_path / "study.toml", tmp_path / "signed"
    plan.write_text(STUDY_TOML)
    roster = [f"--hospital={n}={h.home.identity().fingerprint}" for n, h in ward.hospitals.items()]
    said(capsys, "study", "sign", plan, "--coordinator", home, "--out", signed, *roster)
    said(capsys, "study", "submit", signed, "--coordinator", home)
    assert "was submitted already" in said(
        capsys, "study", "submit", signed, "--coordinator", home, code=4
    )
    rows = json.loads(said(capsys, "coordinator", "status", home, "--json"))["studies"]
    assert [(row["study"], row["state"]) for row in rows] == [("fever", "waiting")]
    (folder,) = (home / "studies").iterdir()
    (folder / "result.json").write_text('{"error": "QuorumMissed", "exit_code": 1}')
    assert "Submitted" in said(capsys, "study", "submit", signed, "--coordinator", home)
    assert [path.name for path in folder.glob("result*")] == ["result.failed-1.json"]
    assert "it is waiting" in said(
        capsys, "model", "export", "fever", "--coordinator", home, "--out", tmp_path / "m", code=4
    )
    archive = tmp_path / "backup.tgz"
    said(capsys, "coordinator", "backup", home, "--to", archive)
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(archive) as file:
        names = {Path(name).name for name in file.getnames()}
    assert {"coordinator.toml", "identity.pem", "study.json", "authority.pem"} <= names
    assert "exists already" in said(capsys, "coordinator", "backup", home, "--to", archive, code=4)
    inside = home / "backup.tgz"
    assert "outside" in said(capsys, "coordinator", "backup", home, "--to", inside, code=4)


def test_a_study_with_a_fingerprint_that_did_not_enrol_is_not_queued(ward, tmp_path, capsys):
    study = ward.study(title="Strangers")
    first, *others = study.roster
    study = study.model_copy(
        update={"roster": (first.model_copy(update={"fingerprint": "0" * 64}), *others)}
    )
    path = tmp_path / "signed"
    path.write_bytes(ward.signed(study))
    home = ward.coordinator.directory
    text = said(capsys, "study", "submit", path, "--coordinator", home, code=4)
    assert "compare both by telephone" in text


def test_an_existing_coordinator_is_kept(ward, capsys):
    home = ward.coordinator
    before = home.identity().fingerprint
    said(capsys, "coordinator", "init", home.directory, "--address", "host:8443", code=4)
    assert home.identity().fingerprint == before
