"""The systemd unit of the hospital daemon: what it allows, and that systemd takes it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import FOLDER, blocks
from tests.support.hospitals import Ward

from wardround.cli import main as cli
from wardround.errors import BadInput
from wardround_client import service_unit
from wardround_client.service_unit import ServiceUnit, install, own_command

SERVED = ServiceUnit(
    hospital="lakeside",
    directory=Path("/var/lib/wardround/lakeside"),
    user="wardround",
    command=("/opt/wardround/.venv/bin/wardround",),
)


def unit(**changes):
    fields = ("hospital", "directory", "user", "command", "data")
    return ServiceUnit(**{**{name: getattr(SERVED, name) for name in fields}, **changes})


def test_the_page_shows_the_unit_that_is_written():
    (shown,) = [block for block in blocks(FOLDER / "hospital.md") if block.language == "ini"]
    assert shown.text == SERVED.text()


def test_the_daemon_may_write_its_directory_and_gain_nothing():
    lines = SERVED.text().splitlines()
    for due in ("NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet="):
        assert due in lines
    assert [line for line in lines if line.startswith("ReadWritePaths=")] == [
        "ReadWritePaths=/var/lib/wardround/lakeside"
    ]
    assert "ProtectHome=yes" in lines
    assert not any("ReadOnlyPaths" in line for line in lines)


@pytest.mark.parametrize(
    "changes",
    [
        {"directory": Path("/home/ward/lakeside")},
        {"command": ("/home/ward/venv/bin/wardround",)},
        {"data": Path("/home/export")},
    ],
)
def test_what_lies_in_somebodys_home_can_be_read(changes):
    assert "ProtectHome=read-only" in unit(**changes).text()


def test_the_data_are_named_and_a_percent_sign_is_no_specifier():
    text = unit(data=Path("/srv/50%")).text()
    assert "ReadOnlyPaths=/srv/50%%\n" in text


@pytest.mark.parametrize(
    "changes",
    [
        {"user": "root"},
        {"user": "a\nExecStartPre=/bin/sh"},
        {"directory": Path("/var/lib/ward round")},
        {"directory": Path("/var/lib/x\nUser=root")},
        {"directory": Path("lakeside")},
        {"data": Path("/srv/$HOME")},
    ],
)
def test_what_a_unit_could_misread_is_refused(changes):
    with pytest.raises(BadInput, match="service"):
        unit(**changes).text()


def test_it_is_written_once_and_another_one_is_not_overwritten(tmp_path):
    path = install(SERVED, tmp_path)
    assert path.name == "wardround-lakeside.service"
    assert path.read_text() == SERVED.text()
    assert path.stat().st_mode & 0o777 == 0o644
    assert install(SERVED, tmp_path) == path
    with pytest.raises(BadInput, match="another one is there"):
        install(unit(user="other"), tmp_path)
    with pytest.raises(BadInput, match="as root"):
        install(SERVED, tmp_path / "missing")


def test_the_command_prints_it_or_writes_it_for_this_hospital(tmp_path, monkeypatch, capsys):
    ward = Ward.make(tmp_path / "ward", ("lakeside", "northside"))
    folder, units = ward["lakeside"].home.directory, tmp_path / "units"
    units.mkdir()
    monkeypatch.setattr(service_unit, "UNITS", units)
    asked = ["hospital", "install-service", str(folder), "--user", "ward", "--data", str(tmp_path)]
    assert cli.run([*asked, "--print"]) == 0
    printed = capsys.readouterr().out
    assert f"ExecStart={' '.join(own_command())} hospital serve {folder.resolve()}\n" in printed
    assert f"ReadOnlyPaths={tmp_path}\n" in printed
    assert list(units.iterdir()) == []
    assert cli.run(asked) == 0
    assert (units / "wardround-lakeside.service").read_text() == printed
    assert "systemctl enable --now wardround-lakeside.service" in capsys.readouterr().out
    assert cli.run([*asked[:3], "--user", "root", "--print"]) == 4
    assert cli.run(["hospital", "install-service", str(tmp_path), "--print"]) == 4
    ward.close()


def test_the_command_is_one_that_starts():
    done = subprocess.run(
        [*own_command(), "--help"], capture_output=True, text=True, timeout=30, check=True
    )
    assert "hospital" in done.stdout


def verified(unit_file):
    """What systemd has to say of a unit file; its other units are not ours."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed here")
    done = subprocess.run(
        [tool, "verify", "--man=no", str(unit_file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return [line for line in done.stderr.splitlines() if unit_file.name in line]


def test_systemd_takes_it_and_would_not_take_another_word(tmp_path):
    path = install(unit(directory=tmp_path, command=(sys.executable,)), tmp_path)
    assert verified(path) == []
    path.write_text(path.read_text().replace("PrivateTmp=", "PrivateTemp="))
    assert any("PrivateTemp" in line for line in verified(path))
