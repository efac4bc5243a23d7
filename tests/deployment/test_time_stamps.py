"""A run of real processes whose coordinator asks a real time stamping authority at its end."""

from pathlib import Path

import pytest
from tests.support.small_federation import standing_federation, wardround
from tests.support.time_authority import TimeAuthority, serving

from wardround.audit.check_authentic import Pins
from wardround.audit.timestamp import read_authorities
from wardround.audit.verify import verify_bundle

pytestmark = [pytest.mark.federation, pytest.mark.slow]

NAMES = ("alpha", "beta", "gamma")


@pytest.mark.timeout(300)
def test_runs_end_with_a_stamp_or_with_a_word_that_there_is_none(tmp_path: Path):
    authority = TimeAuthority.make(tmp_path / "authority")
    trusted = Pins(time_stamping=read_authorities(authority.ca))
    (tmp_path / "ward").mkdir()
    with standing_federation(tmp_path / "ward", NAMES) as ward:
        settings = ward.home.directory / "coordinator.toml"
        (ward.home.directory / "time-ca.pem").write_bytes(authority.ca.read_bytes())
        bare = settings.read_text()
        with serving(authority) as url:
            lines = f'time_stamp_authority = "{url}"\ntime_stamp_ca = "time-ca.pem"\n'
            settings.write_text(bare + lines)
            first = ward.sign("stamped", "rounds.count=1")
            ward.approve(first)
            ward.submit(first)
            result = ward.result(first)
        assert result["exit_code"] == 0
        bundle = ward.run_folder(first) / "bundle.zip"
        verdicts = verify_bundle(bundle, pins=trusted)
        assert verdicts.ok, list(verdicts.lines())
        (stamp,) = verdicts.time_stamps
        assert result["time_stamp"] == {"time": stamp.time, "authority": authority.name}

        second = ward.sign("nobody-there", "rounds.count=1")
        ward.approve(second)
        ward.submit(second)
        result = ward.result(second)
        assert result["exit_code"] == 0
        assert "not reached" in result["time_stamp"]["missing"]
        said = wardround("coordinator", "status", ward.home.directory)
        assert "NO TIME STAMP: time stamping authority: not reached" in said.out
        log = ward.processes.parties["coordinator"].log.read_text()
        assert "NO TIME STAMP" in log

        late = ward.run_folder(second) / "bundle.zip"
        assert verify_bundle(late, pins=trusted).time_stamps == ()
        with serving(authority) as url:
            done = wardround("audit", "stamp", late, "--authority", url)
            assert done.code == 0, done
        verdicts = verify_bundle(late, pins=trusted)
        assert verdicts.ok
        assert verdicts.time_stamps[0].checked
