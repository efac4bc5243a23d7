"""Hospitals that break the protocol, with real keys and real bytes: `DIRECTORY=FAULT ...`.

Everything up to the answer is an honest hospital's work; then one thing in it is wrong.
"""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from flwr.app import Message

from wardround.errors import Unreachable, WardroundError
from wardround.masking.run_key import RunKey, sign_run_key
from wardround.protocol.envelope import BODY_LIMIT_BYTES, Vector, seal, unseal
from wardround.protocol.messages import Body, Closed, Joined, Revealed, Signed, Update
from wardround.randomness import system_randomness
from wardround.wire import WireLimits
from wardround_client.client_app import MOST_PARAMETERS
from wardround_client.fleet import FleetConnection
from wardround_client.home import HospitalHome
from wardround_client.hospital import Hospital
from wardround_server.rehearsal.processes import environment

log = logging.getLogger("wardround.hostile")

Answered = tuple[Body, Vector | None]
Fault = Callable[["HostileHospital", Body, Vector | None], Answered]


class HostileHospital:
    """One hospital's directory, its honest answers, and the fault that is put into them."""

    def __init__(self, directory: Path, fault: Fault) -> None:
        self.hospital = Hospital.at(HospitalHome(directory))
        self.first: tuple[Update, Vector] | None = None
        self._fault = fault

    def serve(self) -> None:
        """Answer until the coordinator is gone for good."""
        membership = self.hospital.home.membership()
        limits = WireLimits(body_bytes=BODY_LIMIT_BYTES, vector_bytes=4 * MOST_PARAMETERS)
        with FleetConnection(membership.address, membership.tls, limits=limits) as fleet:
            fleet.connect(60)
            while True:
                try:
                    message = fleet.receive(20)
                    if message is not None:
                        fleet.reply(self._answer(message), 10)
                except Unreachable:
                    return
                except WardroundError as error:
                    log.warning("%s", error)

    def _answer(self, message: Message) -> Message:
        body, vector = unseal(message.content, lanes=MOST_PARAMETERS)
        answer, masked = self._fault(self, *self.hospital.answer(body, vector))
        return Message(seal(answer, masked), reply_to=message)


def wrong_shape(own: HostileHospital, body: Body, vector: Vector | None) -> Answered:
    """One lane too many."""
    if isinstance(body, Update) and vector is not None:
        vector = np.append(vector, vector[:1])
    return body, vector


def not_a_number(own: HostileHospital, body: Body, vector: Vector | None) -> Answered:
    """Floats, all of them NaN, where masked words are due."""
    if isinstance(body, Update) and vector is not None:
        vector = np.full(vector.size // 4, np.nan, dtype=np.float32)
    return body, vector


def wrong_digest(own: HostileHospital, body: Body, vector: Vector | None) -> Answered:
    """One bit changed after the header was signed."""
    if isinstance(body, Update) and vector is not None:
        vector = vector.copy()
        vector[0] ^= 1
    return body, vector


def replayed(own: HostileHospital, body: Body, vector: Vector | None) -> Answered:
    """From the second round on: the first round's update, signature and all, once more."""
    if isinstance(body, Update) and vector is not None:
        own.first = own.first or (body, vector)
        return own.first
    return body, vector


def wrong_key(own: HostileHospital, body: Body, vector: Vector | None) -> Answered:
    """A run key that is signed for another session."""
    if isinstance(body, Joined):
        key = RunKey.generate(system_randomness)
        signed = sign_run_key(
            own.hospital.identity,
            key,
            run=body.run_key["run"],
            session="0" * 32,
            hospital=body.hospital,
        )
        body = body.model_copy(update={"run_key": signed.to_json()})
    return body, vector


def wrong_signature(own: HostileHospital, body: Body, vector: Vector | None) -> Answered:
    """It signs for the survivors, but not with its key."""
    if isinstance(body, Signed):
        body = body.model_copy(update={"signature": "0" * 128})
    return body, vector


def wrong_reveal(own: HostileHospital, body: Body, vector: Vector | None) -> Answered:
    """Another mask key than the one that it has committed to."""
    if isinstance(body, Revealed):
        body = body.model_copy(update={"self_key": "0" * 64})
    return body, vector


def wrong_share(own: HostileHospital, body: Body, vector: Vector | None) -> Answered:
    """Of every hospital that vanished, another share than the one that was sealed for it."""
    if isinstance(body, Revealed):
        shares = {name: tuple(map(_other_words, words)) for name, words in body.shares.items()}
        body = body.model_copy(update={"shares": shares})
    return body, vector


def _other_words(words: str) -> str:
    """The same words but for the lowest bit of the first."""
    return f"{int(words[:2], 16) ^ 1:02x}{words[2:]}"


def never_signs(own: HostileHospital, body: Body, vector: Vector | None) -> Answered:
    """Its update is in the sum, and then it is gone."""
    if isinstance(body, Signed):
        raise Unreachable("this hospital does not sign")
    return body, vector


def honest(own: HostileHospital, body: Body, vector: Vector | None) -> Answered:
    """Nothing is wrong with it: one hospital more, without a process more."""
    return body, vector


def wrong_log(own: HostileHospital, body: Body, vector: Vector | None) -> Answered:
    """Honest to the end, then a log that is none."""
    if isinstance(body, Closed):
        body = body.model_copy(update={"log": "no log\n"})
    return body, vector


def slow_to_sign(own: HostileHospital, body: Body, vector: Vector | None) -> Answered:
    """Honest, and it reads the coordinator's whole log with care."""
    if isinstance(body, Closed):
        time.sleep(5)
    return body, vector


FAULTS: dict[str, Fault] = {
    "wrong-shape": wrong_shape,
    "not-a-number": not_a_number,
    "wrong-digest": wrong_digest,
    "replayed": replayed,
    "wrong-key": wrong_key,
    "wrong-signature": wrong_signature,
    "wrong-reveal": wrong_reveal,
    "wrong-share": wrong_share,
    "never-signs": never_signs,
    "honest": honest,
    "wrong-log": wrong_log,
    "slow-to-sign": slow_to_sign,
}


def environment_of_tests() -> dict[str, str]:
    """As a rehearsal's processes have it, and `tests` can be imported."""
    inherited = environment()
    paths = [str(Path(__file__).parents[2]), inherited.get("PYTHONPATH", "")]
    return {**inherited, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


@contextmanager
def hostile_hospitals(
    faults: Mapping[Path, str], log_file: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a hospital for each directory, each with its fault; killed afterwards."""
    words = [f"{path}={name}" for path, name in faults.items()]
    with log_file.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.hostile_hospital", *words],
            env=environment_of_tests(),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Serve every hospital of the command line in a thread of its own."""
    threads = []
    for argument in sys.argv[1:]:
        directory, _, fault = argument.rpartition("=")
        thread = threading.Thread(
            target=lambda d=directory, f=fault: HostileHospital(Path(d), FAULTS[f]).serve()
        )
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
