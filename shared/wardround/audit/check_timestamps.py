"""Time stamps in a bundle: of this very head, from whom, and not from before the log's own times.

All of it belongs to `authentic`: who says when. No stamp is no failure.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from wardround.audit.bundle import Bundle
from wardround.audit.check_authentic import Pins
from wardround.audit.evidence import COORDINATOR
from wardround.audit.timestamp import (
    Authorities,
    NoLibrary,
    TimeStamp,
    member_of,
    verify_time_stamp,
)
from wardround.audit.verdicts import Failure, Stamped
from wardround.errors import BadInput, BadSignature, VerificationFailed

CLOCKS_AGREE_S = 300.0
"""So far two honest clocks may be apart: Kerberos' allowance (RFC 4120, 5.2.8 and 8.2)."""


@dataclass(frozen=True, slots=True)
class FoundStamps:
    """The stamps that hold, those that cannot be read here, and a failure for every other."""

    held: tuple[tuple[str, TimeStamp], ...] = ()
    said: tuple[Stamped, ...] = ()
    remarks: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()


def check_time_stamps(bundle: Bundle, pins: Pins) -> FoundStamps:
    """Whose each stamp is, and whether it is of this bundle's head of the coordinator's log."""
    head = bundle.parts.coordinator.checkpoint.encode()
    asked = pins.time_stamping
    held, said, remarks, failures = [], [], [], []
    for name, token in bundle.time_stamps.items():
        try:
            stamp = _verified(name, token, head, asked)
        except NoLibrary as error:
            if asked is None:
                remarks.append(f"{name}: {error}")
            else:
                failures.append(Failure("time-stamp-unread", name, None, str(error)))
        except BadInput as error:
            failures.append(Failure("time-stamp-malformed", name, None, str(error)))
        except BadSignature as error:
            failures.append(Failure("time-stamp-authority", name, None, str(error)))
        except VerificationFailed as error:
            failures.append(Failure("time-stamp-foreign", name, None, str(error)))
        else:
            held.append((name, stamp))
            said.append(Stamped(stamp.time_text, stamp.authority, checked=asked is not None))
    return FoundStamps(tuple(held), tuple(said), tuple(remarks), tuple(failures))


def _verified(name: str, token: bytes, head: bytes, authorities: Authorities | None) -> TimeStamp:
    stamp = verify_time_stamp(token, head, authorities)
    # Of a token not every byte is signed; its name is of all of them.
    if name != member_of(token):
        raise BadInput("time stamp: its bytes are not those that its name is of")
    return stamp


def written_after(
    stamps: Sequence[tuple[str, TimeStamp]], entries: Iterable[tuple[int, datetime]]
) -> Iterator[Failure]:
    """A failure for each stamp that is from before an entry of the log that it is of.

    `entries` are number and time of the coordinator's, which say of themselves when they were
    written. What the authority gives as its accuracy is allowed for, and clocks that differ.
    """
    times = list(entries)
    for name, stamp in stamps:
        latest = stamp.time + timedelta(seconds=CLOCKS_AGREE_S + stamp.accuracy_s)
        late = next(((seq, time) for seq, time in times if time > latest), None)
        if late is not None:
            reason = (
                f"it says that it was written at {late[1]:%Y-%m-%dT%H:%M:%SZ}, and {name} is of "
                f"{stamp.time_text}: no log is stamped before it is written"
            )
            yield Failure("time-stamp-before-log", COORDINATOR, late[0], reason)
