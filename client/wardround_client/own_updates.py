"""What the coordinator's whole log says of our updates, beside what our own log says."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from wardround.canonical import Json
from wardround.errors import ProtocolViolation
from wardround.evidence.entry import Entry
from wardround.masking.round_spec import Profile

SUM_OPENED = {"statistics-closed", "round-closed", "group-closed", "evaluation-closed"}


@dataclass(slots=True)
class OwnRecord:
    """What a hospital sent and signed, by transcript, as its own log has it."""

    hospital: str
    sent: dict[str, object] = field(default_factory=dict)
    signed: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, hospital: str, own: Iterable[Entry]) -> "OwnRecord":
        """Read it from the hospital's own entries."""
        record = cls(hospital)
        for entry in own:
            if entry.type == "release-sent":
                record.sent[entry.body["transcript"]] = entry.body["update_digest"]
            elif entry.type == "survivors-signed":
                record.signed[entry.body["transcript"]] = entry.body["survivors"]
        return record


def check_own_updates(own: OwnRecord, entries: Iterable[Entry]) -> None:
    """Every sum in the coordinator's log must be one that we can have been in, or were left out of.

    An update of ours is as we sent it, survivors are those that we signed, if we signed, and a sum
    that lists us holds our update. Raises ProtocolViolation naming the entry.
    """
    sums = SumMembers()
    listed: set[str] = set()
    for entry in entries:
        sums.see(entry)
        transcript = str(entry.body.get("transcript"))
        if entry.type == "update-received" and entry.body.get("hospital") == own.hospital:
            listed.add(transcript)
        _check_entry(own, entry, transcript)
        if entry.type in SUM_OPENED:
            _check_sum(own, entry, transcript, sums, has_ours=transcript in listed)


def _check_entry(own: OwnRecord, entry: Entry, transcript: str) -> None:
    ours = entry.body.get("hospital") == own.hospital
    if entry.type == "update-received" and ours:
        digest = _update_digest(entry)
        if digest is None or digest != own.sent.get(transcript):
            raise _wrong(entry, "not the update that we sent")
    survivors = entry.body.get("survivors")
    if entry.type == "survivors-agreed" and survivors != own.signed.get(transcript, survivors):
        raise _wrong(entry, "other survivors than we signed")


def _check_sum(
    own: OwnRecord, entry: Entry, transcript: str, sums: "SumMembers", *, has_ours: bool
) -> None:
    members = sums.members(transcript)
    asked = transcript in own.sent or own.hospital in sums.cohort(transcript)
    if members is None and asked:
        raise _wrong(entry, "a sum without survivors")
    if own.hospital in (members or ()) and not has_ours:
        raise _wrong(entry, "a sum without our update")


@dataclass(slots=True)
class SumMembers:
    """Whose updates each opened sum holds, by the coordinator's entries as they come."""

    _specs: dict[str, Json] = field(default_factory=dict)
    _survivors: dict[str, list[str]] = field(default_factory=dict)

    def see(self, entry: Entry) -> None:
        """Take up one more entry."""
        transcript, spec = entry.body.get("transcript"), entry.body.get("spec")
        survivors = entry.body.get("survivors")
        if entry.type == "round-opened" and isinstance(spec, dict):
            self._specs[str(transcript)] = spec
        elif entry.type == "survivors-agreed" and isinstance(survivors, list):
            self._survivors[str(transcript)] = survivors

    def cohort(self, transcript: str) -> list[str]:
        """Who was asked; empty for a transcript that no round was opened with."""
        cohort = self._specs.get(transcript, {}).get("cohort")
        return cohort if isinstance(cohort, list) else []

    def members(self, transcript: str) -> list[str] | None:
        """Who is in the sum: the survivors, with one trip the cohort; None where nothing says."""
        spec = self._specs.get(transcript)
        if spec is None:
            return None
        if spec.get("profile") == Profile.ONE_TRIP.value:
            return self.cohort(transcript)
        return self._survivors.get(transcript)


def _update_digest(entry: Entry) -> object:
    header = entry.body.get("header")
    return header.get("update_digest") if isinstance(header, dict) else None


def _wrong(entry: Entry, what: str) -> ProtocolViolation:
    return ProtocolViolation(f"coordinator's log, entry {entry.seq}: {what}")
