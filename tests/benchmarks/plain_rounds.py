"""Rounds without masks, for `make bench-rounds` to stand beside: what masking adds.

The product has no unmasked rounds. These use all of its parts but the cryptography: the model goes
out over the same gateway (mutual TLS, processes, outbox), every hospital quantises, packs and
hashes a vector of that size in the same pass, without a key; the coordinator adds them in the same
accumulator, steps and writes its checkpoint. No training, and no signatures, ledger or logs either:
so what a masked round costs more is at most what masks cost.
"""

import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import Message
from tests.benchmarks.round_study import bits_of
from tests.support.fleets import enrol, new_coordinator, running_fleet

from wardround.errors import DeadlineMissed, WardroundError
from wardround.masking.accumulator import Accumulator
from wardround.masking.masked_pass import mask_packed
from wardround.masking.quantise import choose_scale, dequantise, largest_limit
from wardround.optimisers import OptimiserState, step
from wardround.protocol.envelope import Vector
from wardround.protocol.halves import model_digest
from wardround.study.manifest import ServerOptimiser
from wardround.vectors import blocks_of, in_memory
from wardround.wire import WireLimits, pack, unpack
from wardround_client.fleet import FleetConnection
from wardround_client.joining import load_membership
from wardround_client.outbox import Outbox
from wardround_server.grid import HospitalGrid
from wardround_server.rounds.attempt import Progress
from wardround_server.rounds.checkpoints import Checkpoint, write_checkpoint

MODULE = "tests.benchmarks.plain_rounds"
_WAIT_S = 180.0
_LIMITS = WireLimits(vector_bytes=1 << 30)


@dataclass(frozen=True, slots=True)
class PlainCoordinator:
    """Asks hospitals for their vectors and steps with the mean."""

    grid: HospitalGrid
    names: tuple[str, ...]
    checkpoint: Path

    def round(self, model: Vector, number: int) -> Vector:
        """One round; the next model. Every hospital answers with half of the way to one."""
        content = pack("plain", {"round": number, "digest": model_digest(model)}, model)
        waiting = set(
            self.grid.push_messages(
                [
                    self.grid.create_message(content, "train", self.grid.node_of(name), "", None)
                    for name in self.names
                ]
            )
        )
        count = len(self.names)
        total = Accumulator(lanes=model.size, bits=bits_of(count))
        ends = time.monotonic() + _WAIT_S
        while waiting:
            if time.monotonic() > ends or self.grid.lost(waiting):
                raise DeadlineMissed(f"plain round {number}: {len(waiting)} answers did not come")
            for answer in self.grid.pull_messages(waiting):
                vector = unpack(answer.content, limits=_LIMITS).vector
                total.add(lambda vector=vector: blocks_of(vector), size_bytes=vector.nbytes)
                waiting.discard(answer.metadata.reply_to_message_id)
            if waiting:
                self.grid.wait(1.0)
        lanes = total.signed(count * largest_limit(count, bits_of(count)))
        mean = (dequantise(lanes, scale=_scale(count)) / count).astype(np.float32)
        stepped = step(model, mean, ServerOptimiser(), OptimiserState())
        progress = Progress(round=number, attempt=1, spare_attempts=0)
        write_checkpoint(self.checkpoint, Checkpoint(stepped, OptimiserState(), progress))
        return stepped


def measure_plain(folder: Path, *, parameters: int, hospitals: int, rounds: int) -> list[float]:
    """Seconds of each round, after one to warm up."""
    names = tuple(f"hospital-{number:02}" for number in range(1, hospitals + 1))
    with ExitStack() as stack:
        directory = new_coordinator(folder / "coordinator")
        running = stack.enter_context(running_fleet(directory, limits=_LIMITS))
        for name in names:
            enrol(running, name, folder / name)
            command = [sys.executable, "-m", MODULE, str(folder / name), str(hospitals)]
            process = subprocess.Popen(command)
            stack.callback(process.wait)
            stack.callback(process.kill)
        grid = stack.enter_context(running.open_grid())
        grid.wait_for(names, _WAIT_S)
        coordinator = PlainCoordinator(grid, names, folder / "checkpoint")
        model = np.zeros(parameters, dtype=np.float32)
        seconds = []
        for number in range(rounds + 1):
            start = time.perf_counter()
            model = coordinator.round(model, number)
            seconds.append(time.perf_counter() - start)
        if not np.allclose(model, 1 - 0.5 ** (rounds + 1), atol=1e-3):
            raise WardroundError("the plain rounds' model is not what was computed by hand")
    return seconds[1:]


def attend(directory: Path, hospitals: int) -> None:
    """A hospital: half of the way to one goes back, until the coordinator has gone."""
    member = load_membership(directory)
    outbox = Outbox(directory / "outbox", 1 << 30)
    with FleetConnection(member.address, member.tls, limits=_LIMITS, outbox=outbox) as connection:
        while True:
            message = connection.receive(_WAIT_S)
            if message is None:
                continue
            came = unpack(message.content, limits=_LIMITS)
            model = in_memory(came.vector)
            if model_digest(model) != came.body["digest"]:
                raise WardroundError("another model came than was sent")
            packed, _ = mask_packed(
                (1 - model) / 2,
                scale=_scale(hospitals),
                limit=largest_limit(hospitals, bits_of(hospitals)),
                add=(),
                subtract=(),
                bits=bits_of(hospitals),
            )
            reply = Message(pack("plain", {}, packed), reply_to=message)
            connection.reply(reply, keep=True)


def _scale(hospitals: int) -> float:
    return choose_scale(1.0, hospitals, bits_of(hospitals))


if __name__ == "__main__":
    attend(Path(sys.argv[1]), int(sys.argv[2]))
