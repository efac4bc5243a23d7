"""`wardround doctor`: what it says of the keystream's engines and of a party's certificate."""

import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from wardround.cli import main as cli
from wardround.masking import keystream
from wardround.renewal import CERTIFICATE_FILE
from wardround.ticket import format_time
from wardround_client.joining import signing_request
from wardround_server.authority import Authority
from wardround_server.home import CoordinatorHome, CoordinatorSettings


def checks(capsys, *words):
    code = cli.run(["doctor", "--json", *words])
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (code == 0) == answer["ok"]
    return {check["what"]: check for check in answer["checks"]}


def test_both_engines_are_tested_and_the_one_in_use_is_named(capsys):
    found = checks(capsys)["AES keystream"]
    assert found["ok"]
    for engine in keystream.ENGINES:
        assert f"{engine.name} gives the known answer" in found["found"]
    assert found["found"].endswith(
        f"{keystream.fastest_engine().name} is the fastest here and makes the masks"
    )


@pytest.mark.parametrize("broken", [0, 1])
def test_an_engine_that_gives_another_keystream_is_named(monkeypatch, capsys, broken):
    engines = list(keystream.ENGINES)
    one_off = keystream.Engine(engines[broken].name, lambda key: keystream.open_keystream(key, 4))
    engines[broken] = one_off
    monkeypatch.setattr(keystream, "ENGINES", tuple(engines))
    found = checks(capsys)["AES keystream"]
    assert not found["ok"]
    assert found["found"].startswith(f"{one_off.name}: AES-256")
    assert "would not cancel" in found["found"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority.create(tmp_path_factory.mktemp("authority"))


def hospital(authority, folder, days):
    request = signing_request("lakeside", ec.generate_private_key(ec.SECP256R1()))
    issued = authority.issue_hospital("lakeside", request, life=timedelta(days=days, hours=1))
    (folder / CERTIFICATE_FILE).write_text(issued)
    return str(folder)


@pytest.mark.parametrize(
    ("days", "ok", "mend"),
    [
        (825, True, ""),
        (61, True, ""),
        (59, False, "hospital renew"),
        (-3, False, "invite NAME --renewal"),
    ],
)
def test_a_certificate_is_a_problem_from_sixty_days_before_its_end(
    authority, tmp_path, capsys, days, ok, mend
):
    found = checks(capsys, "--dir", hospital(authority, tmp_path, days))["certificate"]
    assert found["ok"] is ok
    assert f"in {days} days" in found["found"]
    assert mend in found["mend"]


def test_a_folder_without_a_certificate_is_told(tmp_path, capsys):
    found = checks(capsys, "--dir", str(tmp_path))["certificate"]
    assert not found["ok"]
    assert "hospital join" in found["mend"]


@pytest.mark.parametrize(("days", "ok"), [(397, True), (59, False), (-3, False)])
def test_of_a_coordinator_its_own_certificate_is_looked_at(tmp_path, capsys, days, ok):
    own = Authority.create(tmp_path / "authority")
    last = f"its authority ends on {format_time(own.certificate.not_valid_after_utc)}"
    found = checks(capsys, "--dir", str(tmp_path))["certificate"]
    assert found["ok"]
    assert found["found"] == f"is made when the coordinator starts; {last}"
    served = own.issue_server([], life=timedelta(days=days, hours=1))
    (own.directory / "server.pem").write_bytes(served.certificate)
    found = checks(capsys, "--dir", str(tmp_path))["certificate"]
    assert found["ok"] is ok
    assert found["found"].endswith(f"in {days} days; {last}")
    assert "coordinator serve" in found["mend"]
    (own.directory / "server.pem").write_bytes(b"damaged")
    assert not checks(capsys, "--dir", str(tmp_path))["certificate"]["ok"]


def test_the_status_of_a_coordinator_says_when_its_certificate_ends(tmp_path, capsys):
    settings = CoordinatorSettings(port=9092, address="127.0.0.1:9092")
    home = CoordinatorHome.create(tmp_path / "c", settings)
    assert cli.run(["coordinator", "status", str(home.directory), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"studies": [], "certificate": {}}
    Authority.load(home.directory / "authority").server_files([])
    assert cli.run(["coordinator", "status", str(home.directory), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["certificate"]["days"] == 396
    assert cli.run(["coordinator", "status", str(home.directory)]) == 0
    assert "396 days left" in capsys.readouterr().out


def test_the_status_says_when_the_certificate_ends(authority, tmp_path, capsys):
    hospital(authority, tmp_path, 30)
    (tmp_path / "status.json").write_text(json.dumps({"hospital": "lakeside", "state": "waiting"}))
    assert cli.run(["hospital", "status", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["certificate"]
    assert told["days"] == 30
    assert told["due"] == f"wardround hospital renew {tmp_path.name}"
    hospital(authority, tmp_path, 400)
    assert cli.run(["hospital", "status", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "days 400" in text
    assert "renew" not in text
