"""What the coordinator does for a time stamp at the end of a run, and when there is none to get."""

from pathlib import Path

import pytest
from tests.support.forgeries import honest_bundle
from tests.support.small_federation import free_port
from tests.support.time_authority import Answer, TimeAuthority, serving

from wardround.audit.check_authentic import Pins
from wardround.audit.timestamp import read_authorities
from wardround.audit.verify import verify_bytes
from wardround.errors import BadInput
from wardround_server.home import CoordinatorHome, CoordinatorSettings
from wardround_server.service import Coordinator
from wardround_server.stamping import TimeStamping, stamp_at_the_end
from wardround_server.status import status_line


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TimeAuthority:
    return TimeAuthority.make(tmp_path_factory.mktemp("authority") / "a")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CoordinatorHome:
    monkeypatch.setenv("NO_PROXY", "*")
    settings = CoordinatorSettings(port=free_port(), address="127.0.0.1:1")
    return CoordinatorHome.create(tmp_path / "coordinator", settings)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "bundle.zip"
    path.write_bytes(honest_bundle())
    return path


def configure(home: CoordinatorHome, url: str, ca: Path | None = None) -> None:
    lines = [f'time_stamp_authority = "{url}"']
    if ca is not None:
        (home.directory / "time-ca.pem").write_bytes(ca.read_bytes())
        lines.append('time_stamp_ca = "time-ca.pem"')
    with (home.directory / "coordinator.toml").open("a") as file:
        file.write("\n".join(lines) + "\n")


def reconfigure(home: CoordinatorHome, url: str, ca: Path) -> None:
    text = (home.directory / "coordinator.toml").read_text()
    kept = [line for line in text.splitlines() if "time_stamp" not in line]
    (home.directory / "coordinator.toml").write_text("\n".join(kept) + "\n")
    configure(home, url, ca)


def test_a_finished_bundle_is_stamped_by_the_configured_authority(
    home: CoordinatorHome, bundle: Path, authority: TimeAuthority
):
    with serving(authority) as url:
        configure(home, url, authority.ca)
        said = stamp_at_the_end(home, bundle)
    trusted = Pins(time_stamping=read_authorities(authority.ca))
    (stamp,) = verify_bytes(bundle.read_bytes(), pins=trusted).time_stamps
    assert said == {"time_stamp": {"time": stamp.time, "authority": authority.name}}


def test_nobody_is_asked_unless_somebody_is_named(home: CoordinatorHome, bundle: Path):
    assert TimeStamping.of(home) is None
    assert stamp_at_the_end(home, bundle) == {}
    assert bundle.read_bytes() == honest_bundle()


def test_an_authority_that_is_not_there_costs_no_run_and_is_said_loudly(
    home: CoordinatorHome, bundle: Path, caplog: pytest.LogCaptureFixture
):
    configure(home, f"http://127.0.0.1:{free_port()}/tsr")
    said = stamp_at_the_end(home, bundle)
    assert said["time_stamp"]["missing"].startswith("time stamping authority: not reached")
    assert bundle.read_bytes() == honest_bundle()
    assert "NO TIME STAMP: time stamping authority: not reached" in caplog.text
    row = {"study": "fever", "digest": "ab" * 32, "state": "done", "result": said}
    assert "done; NO TIME STAMP: time stamping authority: not reached" in status_line(row)


def test_neither_a_stranger_nor_nonsense_nor_a_full_disk_costs_a_run(
    home: CoordinatorHome,
    bundle: Path,
    authority: TimeAuthority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    stranger = TimeAuthority.make(tmp_path / "b", name="Somebody else")
    for number, answer in enumerate((None, Answer(b"\x30\x80"), Answer(b"", status=503))):
        with serving(stranger, answer) as url:
            reconfigure(home, url, authority.ca)
            assert "missing" in stamp_at_the_end(home, bundle)["time_stamp"], number

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wardround_server.stamping.write_durably", full)
    with serving(authority) as url:
        reconfigure(home, url, authority.ca)
        assert stamp_at_the_end(home, bundle) == {"time_stamp": {"missing": "OSError"}}
    assert bundle.read_bytes() == honest_bundle()


def test_a_wrong_setting_is_said_when_the_service_starts(home: CoordinatorHome):
    configure(home, "time.example")
    with pytest.raises(BadInput, match="a URL with http or https is due"):
        Coordinator(home).serve(once=True)


def test_a_missing_file_of_certificates_is_said_when_the_service_starts(home: CoordinatorHome):
    configure(home, "https://time.example/")
    with (home.directory / "coordinator.toml").open("a") as file:
        file.write('time_stamp_ca = "nowhere.pem"\n')
    with pytest.raises(BadInput, match=r"nowhere\.pem: no PEM certificates"):
        Coordinator(home).serve(once=True)
