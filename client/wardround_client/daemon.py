"""The hospital daemon: one warm process that asks for work, does it and answers.

Outbound HTTPS only. The work is done by the installed ClientApp; nothing that arrives is run.
"""

import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import torch
from flwr.app import Context, Message, RecordDict

from wardround.errors import (
    BadInput,
    DeadlineMissed,
    ProtocolViolation,
    Unreachable,
    WardroundError,
    why,
)
from wardround.protocol.envelope import BODY_LIMIT_BYTES, unseal
from wardround.protocol.messages import Kind
from wardround.ticket import format_time
from wardround.vectors import in_memory
from wardround.wire import WireLimits, kind_of
from wardround_client.client_app import DIRECTORY_KEY, MOST_PARAMETERS, app, hospital_at
from wardround_client.fleet import FleetConnection, NotLetIn
from wardround_client.home import HospitalHome
from wardround_client.outbox import Outbox
from wardround_client.renewing import CertificateKeeper, settle
from wardround_client.tls import TlsRefused

log = logging.getLogger("wardround.hospital")

_POLL_S = 20.0
_COORDINATOR = "coordinator"  # in the status, while it is out of reach
# What is still true when this process, its run keys and its sessions are gone.
_OUTLIVES_US = {Kind.UPDATE.value, Kind.SIGNED.value, Kind.REVEALED.value, Kind.CLOSED.value}


@dataclass(frozen=True, slots=True)
class Daemon:
    """Serves until it is interrupted; a lost connection is taken up again, with growing pauses.

    An interrupt in the middle of a round loses nothing: what was reserved stays charged, and the
    attempt is never answered again.
    """

    home: HospitalHome

    def serve(self) -> None:
        """Answer messages for ever. Raises Unreachable when we cannot get in, or are put out."""
        # One thread: several hospitals may share a machine in a rehearsal, and small models
        # gain nothing from more.
        torch.set_num_threads(1)
        settle(self.home.directory)
        membership = self.home.membership()
        hospital = hospital_at(str(self.home.directory))
        limits = WireLimits(body_bytes=BODY_LIMIT_BYTES, vector_bytes=4 * MOST_PARAMETERS)
        self.home.show({"hospital": membership.hospital, "state": "waiting"})
        try:
            outbox = Outbox(
                self.home.directory / "outbox", limits.vector_bytes + limits.message_bytes
            )
            connection = FleetConnection(
                membership.address, membership.tls, limits=limits, outbox=outbox
            )
            with connection as fleet:
                fleet.connect()
                log.info("%s is connected to %s", membership.hospital, membership.address)
                keeper = CertificateKeeper(self.home, fleet.use)
                lost = False
                while True:
                    keeper.look()
                    lost = self._next(fleet, lost=lost)
        finally:
            hospital.close()

    def _next(self, fleet: FleetConnection, *, lost: bool = False) -> bool:
        """Wait for one message and answer it; whether the coordinator was out of reach.

        People hear once that it is, and once that it is back.
        """
        try:
            message = fleet.receive(_POLL_S)
        except ProtocolViolation as error:
            log.warning("a message was refused: %s", error)
            return False
        except (TlsRefused, NotLetIn):
            raise
        except Unreachable as error:
            if not lost:
                log.warning("%s; trying again", error)
                self._show({_COORDINATOR: f"out of reach since {format_time(datetime.now(UTC))}"})
            return True
        if lost:
            log.info("the coordinator answers again")
            self._show({})
        if message is not None:
            self._answer(fleet, message)
        return False

    def _show(self, of_coordinator: dict[str, str]) -> None:
        """What the status says of the coordinator. A full disk must not cost a letter."""
        try:
            shown = {k: v for k, v in self.home.shown().items() if k != _COORDINATOR}
            self.home.show({**shown, **of_coordinator})
        except (BadInput, OSError) as error:
            said = str(error) if isinstance(error, BadInput) else why(error)
            log.warning("the status was not written: %s", said)

    def _answer(self, fleet: FleetConnection, message: Message) -> None:
        context = Context(
            run_id=message.metadata.run_id,
            node_id=fleet.node_id,
            node_config={DIRECTORY_KEY: str(self.home.directory)},
            state=RecordDict(),
            run_config={},
        )
        reply = app(message, context)
        try:
            fleet.reply(reply, keep=kind_of(reply.content) in _OUTLIVES_US)
        except DeadlineMissed as error:
            # The release is charged all the same; the coordinator opens a new attempt.
            log.warning("an answer came too late: %s", error)
        except (TlsRefused, NotLetIn):
            raise
        except (Unreachable, ProtocolViolation) as error:
            # What outlives us lies in the outbox: it is delivered before the next letter is read.
            log.warning("an answer was not delivered: %s", error)
        with suppress(WardroundError):  # what could not be read has been answered as such
            body, vector = unseal(message.content, lanes=MOST_PARAMETERS)
            hospital_at(str(self.home.directory)).after_answer(body, in_memory(vector))
