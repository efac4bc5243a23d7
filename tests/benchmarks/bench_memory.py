"""How much memory the coordinator needs in one round, by the number of hospitals.

    python -m tests.benchmarks.bench_memory [--parameters 25000000] [--hospitals 3 10 30]

The coordinator is a process of its own with the real gateway (mutual TLS) and the real round with
double masks: model down, masked updates up, survivors, reveals, the opened sum. All hospitals are
threads of one other process, each with its own certificate, connection and masks; they mask before
the round and then send all at once. One JSON line for each number of hospitals; the peak is
VmHWM of proc(5), reset when all are connected.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from flwr.app import Message
from tests.support.fleets import invite, messages, new_coordinator, running_fleet
from tests.support.masked_hospitals import MaskedFleet, MaskedHospital, fleet

from wardround.masking.coordinator_round import CoordinatorRound
from wardround.masking.hospital_round import HospitalRound
from wardround.masking.round_spec import RoundSpec
from wardround.protocol.envelope import seal, unseal
from wardround.protocol.messages import Body, Reveal, Revealed, Signed, Survivors, Update, Work
from wardround.vectors import AnyVector, blocks_of, digest_of
from wardround_client.fleet import FleetConnection
from wardround_client.joining import join
from wardround_server.grid import HospitalGrid

MODULE = "tests.benchmarks.bench_memory"
PREPARED_S, ROUND_S = 3600.0, 1200.0


def memory_bytes(field: str) -> int:
    """VmRSS or VmHWM of this process (proc(5))."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    raise OSError(field)


def ask(
    grid: HospitalGrid, bodies: Mapping[str, Body], vector: np.ndarray | None = None
) -> "list[tuple[str, Body, AnyVector | None]]":
    """Send each hospital its body; yield answers one at a time, as they come."""
    shared: dict[int, object] = {}
    questions = []
    for name, body in sorted(bodies.items()):
        content = shared.setdefault(id(body), seal(body, vector))
        questions += messages(grid, [name], content)
    waiting = set(grid.push_messages(questions))
    while waiting:
        for answer in grid.pull_messages(waiting):
            waiting.discard(answer.metadata.reply_to_message_id)
            said, sent = unseal(answer.content, lanes=1 << 28)
            yield grid.hospital_of(answer.metadata.src_node_id), said, sent
        if waiting:
            grid.wait(ROUND_S)


def one_round(grid: HospitalGrid, masked: MaskedFleet, spec: RoundSpec) -> None:
    """The whole protocol; raises when the sum is not the plain one."""
    attempt = CoordinatorRound(spec, masked.identity_keys)
    model = np.random.default_rng(0).standard_normal(spec.lanes, dtype=np.float32)
    work = Work(spec=spec.to_json(), checkpoint="", consistency=())
    for name, body, vector in ask(grid, dict.fromkeys(spec.cohort, work), model):
        attempt.take_upload(
            name,
            body.header,
            bytes.fromhex(body.signature),
            body.shares,
            lambda vector=vector: blocks_of(vector),
            digest=digest_of(vector),
            size_bytes=vector.nbytes,
        )
    for name, body, _ in ask(grid, attempt.close_uploads()):
        attempt.take_signature(name, bytes.fromhex(body.signature))
    reveals = attempt.close_signatures()
    while reveals:
        for name, body, _ in ask(grid, reveals):
            attempt.take_reveal(name, body)
        reveals = attempt.still_needed()
    total = attempt.open(threads=2)
    assert attempt.sum_digest
    count = len(spec.cohort)
    assert total.min() == total.max() == count * (count + 1) // 2


def coordinate(folder: Path, hospitals: int, parameters: int, bits: int) -> None:
    """One round as the coordinator; prints the JSON line."""
    masked = fleet(hospitals)
    spec = masked.spec(parameters, bits=bits)
    with running_fleet(new_coordinator(folder / "coordinator")) as running:
        for name in spec.cohort:
            (folder / f"{name}.part").write_text(invite(running, name).encode())
            (folder / f"{name}.part").rename(folder / f"{name}.ticket")
        with running.open_grid() as grid:
            grid.wait_for(spec.cohort, PREPARED_S)
            base = memory_bytes("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")
            start = time.perf_counter()
            one_round(grid, masked, spec)
            seconds = time.perf_counter() - start
            peak = memory_bytes("VmHWM")
    models = (peak - base) / (4 * parameters)
    line = {
        "bench": "memory",
        "parameters": parameters,
        "hospitals": hospitals,
        "bits": bits,
        "base_mb": round(base / 1e6),
        "server_peak_models": round(models, 2),
        "seconds": round(seconds, 1),
    }
    print(json.dumps(line), flush=True)


def attend(folder: Path, hospitals: int, parameters: int, bits: int) -> None:
    """All hospitals: mask into files, connect, then answer the round at the same time."""
    masked = fleet(hospitals)
    spec = masked.spec(parameters, bits=bits)
    ready = threading.Barrier(hospitals)
    threads = [
        threading.Thread(target=answer_round, args=(folder, each, masked, spec, place, ready))
        for place, each in enumerate(masked.hospitals, start=1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


MASKING = threading.Semaphore(2)


def answer_round(
    folder: Path,
    hospital: MaskedHospital,
    masked: MaskedFleet,
    spec: RoundSpec,
    place: int,
    ready: threading.Barrier,
) -> None:
    """One hospital, whose every lane is its place."""
    packed = folder / f"{hospital.name}.packed"
    with MASKING:
        own = hospital.begin(spec)
        upload = own.upload(np.full(spec.lanes, place, dtype=np.int32))
        upload.packed.tofile(packed)
    update = Update(
        header=upload.header.to_json(),
        signature=upload.signature.hex(),
        engine={},
        checkpoint="",
        shares=upload.shares,
    )
    del upload
    while not (ticket := folder / f"{hospital.name}.ticket").exists():
        time.sleep(0.1)
    member = join(ticket.read_text(), folder / hospital.name)
    ready.wait()
    with FleetConnection(member.address, member.tls) as connection:
        while (question := connection.receive(ROUND_S)) is not None:
            body, _ = unseal(question.content, lanes=1 << 28)
            content = seal(*answer_to(body, own, update, packed, masked))
            connection.reply(Message(content, reply_to=question))
            if isinstance(body, Reveal):
                return


def answer_to(
    body: Body, own: HospitalRound, update: Update, packed: Path, masked: MaskedFleet
) -> tuple[Body, np.ndarray | None]:
    """What this hospital answers at each stage."""
    if isinstance(body, Work):
        return update, np.memmap(packed, dtype=np.uint8, mode="r")
    if isinstance(body, Survivors):
        survivors = own.check_survivors(body, masked.identity_keys)
        return Signed(signature=own.sign(survivors).hex(), checkpoint=""), None
    assert isinstance(body, Reveal)
    revealed: Revealed = own.reveal(body, masked.identity_keys)
    return revealed, None


def measure(hospitals: int, parameters: int, bits: int) -> None:
    """Both processes, one round."""
    with tempfile.TemporaryDirectory() as folder:
        shape = [folder, str(hospitals), str(parameters), str(bits)]
        attending = subprocess.Popen([sys.executable, "-m", MODULE, "--attend", *shape])
        try:
            subprocess.run([sys.executable, "-m", MODULE, "--coordinate", *shape], check=True)
        finally:
            attending.kill()
            attending.wait()


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parameters", type=int, default=25_000_000)
    parser.add_argument("--hospitals", type=int, nargs="+", default=[3, 10, 30])
    parser.add_argument("--bits", type=int, default=32)
    parser.add_argument("--attend", nargs=4)
    parser.add_argument("--coordinate", nargs=4)
    options = parser.parse_args()
    shape = options.attend or options.coordinate
    if shape:
        part = attend if options.attend else coordinate
        part(Path(shape[0]), int(shape[1]), int(shape[2]), int(shape[3]))
        return
    for hospitals in options.hospitals:
        measure(hospitals, options.parameters, options.bits)


if __name__ == "__main__":
    main()
