"""A real gateway and real hospitals over TLS on loopback, for tests."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

from flwr.app import Message, RecordDict
from tests.support.identities import identity_of

from wardround.errors import WardroundError
from wardround.ticket import JoinTicket
from wardround.wire import pack, unpack
from wardround_client.fleet import FleetConnection, FleetPatience
from wardround_client.joining import Membership, join
from wardround_client.tls import ClientTls, HttpsClient
from wardround_server.authority import Authority
from wardround_server.fleet_server import FleetOptions, RunningFleet, start_fleet
from wardround_server.grid import HospitalGrid

EVIDENCE_KEY = identity_of(bytes(range(32))).public_key
QUICK = FleetPatience(first_pause_s=0.02, longest_pause_s=0.2, heartbeat_s=0.5)


def new_coordinator(directory: Path) -> Path:
    """A coordinator's directory with a fresh authority."""
    Authority.create(directory / "authority")
    return directory


@contextmanager
def running_fleet(
    directory: Path, *, port: int = 0, names: Sequence[str] = (), **options: object
) -> Iterator[RunningFleet]:
    """A gateway on loopback."""
    chosen = FleetOptions(**options)
    with start_fleet(directory, port=port, names=names, options=chosen) as running:
        yield running


def enrol(running: RunningFleet, hospital: str, directory: Path) -> Membership:
    """Invite and join, over TLS."""
    return join(invite(running, hospital).encode(), directory)


def connection(member: Membership, running: RunningFleet | None = None) -> FleetConnection:
    """A hospital's connection with short pauses; to another gateway when one is given."""
    address = member.address if running is None else f"127.0.0.1:{running.port}"
    return FleetConnection(address, member.tls, patience=QUICK)


def echo(message: Message) -> Message:
    """Answer with the same vector."""
    parcel = unpack(message.content)
    return Message(pack("echo", parcel.body, parcel.vector), reply_to=message)


class EchoHospital:
    """A hospital in a thread that answers every message until it is stopped."""

    def __init__(
        self,
        member: Membership,
        running: RunningFleet,
        answer: Callable[[Message], Message] = echo,
    ) -> None:
        self.connection = connection(member, running)
        self._answer = answer
        self._stop = threading.Event()
        self.errors: list[WardroundError] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Leave the fleet."""
        self._stop.set()
        self._thread.join(10)
        self.connection.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                message = self.connection.receive(0.3)
                if message is not None:
                    self.connection.reply(self._answer(message))
            except WardroundError as error:
                self.errors.append(error)


@contextmanager
def echo_hospitals(
    running: RunningFleet,
    members: Sequence[Membership],
    answer: Callable[[Message], Message] = echo,
) -> Iterator[list[EchoHospital]]:
    """Several of them, all stopped afterwards."""
    with ExitStack() as stack:
        hospitals = []
        for member in members:
            hospital = EchoHospital(member, running, answer)
            stack.callback(hospital.stop)
            hospitals.append(hospital)
        yield hospitals


def post(
    member_or_tls: Membership | ClientTls,
    running: RunningFleet,
    path: str,
    content: bytes = b"",
    method: str = "POST",
) -> tuple[int, bytes]:
    """One request with a certificate: status and content."""
    tls = member_or_tls if isinstance(member_or_tls, ClientTls) else member_or_tls.tls
    client = HttpsClient(f"127.0.0.1:{running.port}", tls.context(), read_timeout_s=10)
    try:
        if method == "POST":
            answer = client.post(path, content, limit_bytes=10_000, headers={})
            return answer.status, answer.content
        inner = client._connection
        inner.request(method, path)
        response = inner.getresponse()
        return response.status, response.read()
    finally:
        client.close()


def bootstrap_tls(ticket: JoinTicket, folder: Path) -> ClientTls:
    """What a thief of the ticket has."""
    folder.mkdir(exist_ok=True)
    tls = ClientTls(folder / "c.pem", folder / "k.pem", folder / "a.pem")
    tls.certificate.write_text(ticket.bootstrap_certificate)
    tls.key.write_text(ticket.bootstrap_key)
    tls.authority.write_text(ticket.authority_certificate)
    return tls


def invite(
    running: RunningFleet, hospital: str, *, host: str = "127.0.0.1", **options: timedelta
) -> JoinTicket:
    """A join ticket for this gateway."""
    address = f"{host}:{running.port}"
    return running.enrolment.invite(hospital, address=address, evidence_key=EVIDENCE_KEY, **options)


def messages(grid: HospitalGrid, names: Sequence[str], content: RecordDict) -> list[Message]:
    """The same content to each hospital."""
    return [grid.create_message(content, "train", grid.node_of(name), "1") for name in names]


def collect(
    grid: HospitalGrid, waiting: Sequence[str], timeout_s: float = 20.0
) -> dict[str, Message]:
    """Answers by hospital, one at a time."""
    answers: dict[str, Message] = {}
    ends = time.monotonic() + timeout_s
    while len(answers) < len(waiting) and time.monotonic() < ends:
        for answer in grid.pull_messages(waiting):
            answers[grid.hospital_of(answer.metadata.src_node_id)] = answer
        if len(answers) < len(waiting):
            grid.wait(ends - time.monotonic())
    return answers
