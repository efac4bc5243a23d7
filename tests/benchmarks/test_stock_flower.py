"""The stock Flower side of the benchmark measures what it says and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.benchmarks import stock_flower

from wardround.errors import BadInput, Unreachable

# Starts a listener in a session of its own, as Flower starts its helpers, and lives on.
HELPER = """
import subprocess, sys, time
listener = "import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", listener], start_new_session=True)
time.sleep(600)
"""


def wait_until(condition, *, limit_s):
    give_up_at_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < give_up_at_s, "what was awaited did not come"
        time.sleep(0.05)


def any_marked():
    """Processes of any measurement on this machine."""
    prefix = f"{stock_flower.MARKER}=".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            content = entry.read_bytes()
        except OSError:
            continue
        if any(part.startswith(prefix) for part in content.split(b"\0")):
            found.append(int(entry.parent.name))
    return found


def test_stop_ends_a_helper_that_left_its_group_and_frees_its_port(tmp_path):
    flower = stock_flower._Flower(tmp_path)
    flower.ports = stock_flower._free_ports(1)
    port = flower.ports[0]
    flower.start("helper", ["python", "-c", HELPER.format(port=port)])
    wait_until(lambda: stock_flower._listens(port), limit_s=20)
    assert len(stock_flower._carrying(flower.marker)) == 2
    flower.stop()
    assert stock_flower._carrying(flower.marker) == []
    assert not stock_flower._listens(port)


def test_a_process_that_ends_is_named_with_the_end_of_its_log(tmp_path):
    flower = stock_flower._Flower(tmp_path)
    ended = flower.start("superlink", ["python", "-c", "raise SystemExit('no such port')"])
    ended.wait(timeout=20)
    with pytest.raises(Unreachable, match="superlink ended with 1: no such port"):
        flower._raise_if_ended()
    flower.stop()


@pytest.mark.parametrize("count", ["parameters", "hospitals", "rounds"])
def test_a_count_under_one_is_refused_before_anything_starts(tmp_path, count):
    counts = {"parameters": 1, "hospitals": 1, "rounds": 1, count: 0}
    with pytest.raises(BadInput, match=f"{count}: 1 or more was due, 0 came"):
        stock_flower.measure_stock_flower(**counts, work_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.federation
def test_a_stock_federation_is_timed_and_leaves_nothing(tmp_path):
    timing = stock_flower.measure_stock_flower(
        parameters=1000, hospitals=2, rounds=1, work_dir=tmp_path
    )
    assert len(timing.round_s) == 1
    assert 0 < timing.seconds_per_round < stock_flower.ROUND_LIMIT_S
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.federation
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_measurement_leaves_no_process(tmp_path, number):
    before = set(any_marked())
    command = [sys.executable, stock_flower.__file__, "--hospitals", "2", "--rounds", "9"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as measurement:
        # The SuperLink, two SuperNodes, and their three helpers.
        wait_until(lambda: len(set(any_marked()) - before) >= 6, limit_s=60)
        measurement.send_signal(number)
        assert measurement.wait(timeout=20) != 0
    assert set(any_marked()) <= before
    assert list(tmp_path.iterdir()) == []
