"""How long one echo round takes: 4 hospitals as processes, mutual TLS, no training, no masks.

Each hospital writes its answer into its outbox first, as the daemon does.

    python -m tests.benchmarks.bench_transport [--parameters 122570] [--rounds 30] [--hospitals 4]

The last line is one JSON object.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tests.support.fleets import echo, enrol, new_coordinator, running_fleet

from wardround.vectors import blocks_of
from wardround.wire import pack, unpack
from wardround_client.fleet import FleetConnection
from wardround_client.joining import load_membership
from wardround_client.outbox import Outbox
from wardround_server.grid import HospitalGrid

MODULE = "tests.benchmarks.bench_transport"


def hospital(directory: Path) -> None:
    """Echo until the coordinator has gone."""
    member = load_membership(directory)
    outbox = Outbox(directory / "outbox", 1 << 30)
    with FleetConnection(member.address, member.tls, outbox=outbox) as connection:
        while True:
            message = connection.receive(60.0)
            if message is not None:
                connection.reply(echo(message), keep=True)


def one_round(grid: HospitalGrid, vector: np.ndarray, number: int) -> float:
    """Send the vector to all, take and add their answers; seconds."""
    start = time.perf_counter()
    content = pack("echo", {"round": number}, vector)
    names = sorted(grid.connected())
    messages = [grid.create_message(content, "train", grid.node_of(h), "", None) for h in names]
    waiting = set(grid.push_messages(messages))
    total = np.zeros_like(vector)
    while waiting:
        for answer in grid.pull_messages(waiting):
            start_of = 0
            for block in blocks_of(unpack(answer.content).vector):
                part = np.frombuffer(block, dtype=vector.dtype)
                total[start_of : start_of + len(part)] += part
                start_of += len(part)
            waiting.discard(answer.metadata.reply_to_message_id)
        if waiting:
            grid.wait(60.0)
    seconds = time.perf_counter() - start
    assert np.array_equal(total, len(names) * vector)
    return seconds


def measure(parameters: int, rounds: int, hospitals: int, folder: Path) -> dict[str, object]:
    """The median round of this many, after two to warm up."""
    names = [f"hospital-{index}" for index in range(hospitals)]
    with running_fleet(new_coordinator(folder / "coordinator")) as running:
        processes = []
        try:
            for name in names:
                enrol(running, name, folder / name)
                command = [sys.executable, "-m", MODULE, "--as-hospital", str(folder / name)]
                processes.append(subprocess.Popen(command))
            with running.open_grid() as grid:
                grid.wait_for(names, 60.0)
                vector = np.arange(parameters, dtype=np.float32)
                for number in range(2):
                    one_round(grid, vector + number, number)
                before = running.requests_answered()
                times = [one_round(grid, vector + r, r) for r in range(rounds)]
                requests = running.requests_answered() - before
        finally:
            for process in processes:
                process.kill()
                process.wait()
    return {
        "bench": "transport",
        "parameters": parameters,
        "hospitals": hospitals,
        "rounds": rounds,
        "tls": "mutual, 1.3",
        "requests_per_exchange": round(requests / rounds / hospitals, 2),
        "median_s": round(statistics.median(times), 4),
        "min_s": round(min(times), 4),
        "max_s": round(max(times), 4),
    }


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parameters", type=int, default=122_570)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--hospitals", type=int, default=4)
    parser.add_argument("--as-hospital", type=Path)
    options = parser.parse_args()
    if options.as_hospital:
        hospital(options.as_hospital)
        return
    with tempfile.TemporaryDirectory() as folder:
        print(
            json.dumps(measure(options.parameters, options.rounds, options.hospitals, Path(folder)))
        )


if __name__ == "__main__":
    main()
