"""Intact: nothing changed since it was signed."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from wardround.audit.bundle import Bundle, LogExport
from wardround.audit.container import manifest_faults
from wardround.audit.evidence import (
    COORDINATOR,
    EntryFault,
    Log,
    coordinator_log,
    hospital_log,
    hospital_place,
)
from wardround.audit.verdicts import Failure
from wardround.errors import BadInput
from wardround.evidence.checkpoint import check_entries, parse_checkpoint
from wardround.evidence.entry import Entry
from wardround.evidence.export import read_export
from wardround.evidence.faults import LogFault


def check_members(members: Mapping[str, bytes]) -> Iterator[Failure]:
    """Every member is the one that the manifest lists."""
    for name, reason in manifest_faults(members):
        yield Failure("member-differs", name, None, reason)


def read_logs(bundle: Bundle) -> tuple[Log | None, dict[str, Log], list[Failure]]:
    """Read all logs: the coordinator's (None when it cannot be), the hospitals', and the faults."""
    failures: list[Failure] = []
    export = bundle.parts.coordinator
    coordinator = _read(COORDINATOR, COORDINATOR, export, coordinator_log, failures)
    hospitals = {}
    for name, export in sorted(bundle.parts.hospitals.items()):
        build = partial(hospital_log, name)
        log = _read(hospital_place(name), name, export, build, failures)
        if log is not None:
            hospitals[name] = log
    return coordinator, hospitals, failures


def _read(
    place: str,
    actor: str,
    export: LogExport,
    build: Callable[[list[Entry]], Log],
    failures: list[Failure],
) -> Log | None:
    try:
        entries = read_export(export.entries)
        failures.extend(_against_checkpoint(place, actor, entries, export.checkpoint))
        return build(entries)
    except LogFault as fault:
        failures.append(Failure(fault.reason.value, place, fault.seq, str(fault)))
    except EntryFault as fault:
        failures.append(Failure("body-malformed", place, fault.seq, fault.reason))
    return None


def _against_checkpoint(
    place: str, actor: str, entries: list[Entry], note: str
) -> Iterator[Failure]:
    if entries and entries[0].actor != actor:
        reason = f"this is the log of {entries[0].actor}, not of {actor}"
        yield Failure("log-swapped", place, 0, reason)
    try:
        checkpoint = parse_checkpoint(note)
        check_entries(entries, checkpoint)
    except LogFault as fault:
        yield Failure(fault.reason.value, place, fault.seq, str(fault))
    except BadInput as error:
        yield Failure("checkpoint-malformed", place, None, str(error))
    else:
        if len(entries) > checkpoint.size:
            reason = f"{len(entries)} entries, the checkpoint signed {checkpoint.size} of them"
            yield Failure("not-signed", place, checkpoint.size, reason)
