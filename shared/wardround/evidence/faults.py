"""Why an evidence log is not believed: one named reason for each kind of damage."""

from enum import StrEnum

from wardround.errors import VerificationFailed


class LogReason(StrEnum):
    """The kinds of damage that a reader of a log tells apart."""

    TOO_LARGE = "too-large"
    MALFORMED = "malformed"
    NOT_CANONICAL = "not-canonical"
    ENTRY_REPEATED = "entry-repeated"
    SEQUENCE_TAKEN = "sequence-taken"
    SEQUENCE_GAP = "sequence-gap"
    OUT_OF_ORDER = "out-of-order"
    ACTORS_MIXED = "actors-mixed"
    CHAIN_BROKEN = "chain-broken"
    TRUNCATED = "truncated"
    HEAD_DIFFERS = "head-differs"
    ROOT_DIFFERS = "root-differs"
    NOT_CONSISTENT = "not-consistent"
    NOT_INCLUDED = "not-included"
    UNREADABLE = "unreadable"
    SECOND_WRITER = "second-writer"


class LogFault(VerificationFailed):
    """A log that cannot be believed, with the reason and the entry where it shows.

    `seq` is the entry's number, or None when the fault is not in one entry.
    """

    def __init__(self, reason: LogReason, message: str, *, seq: int | None = None) -> None:
        place = "evidence log" if seq is None else f"evidence log, entry {seq}"
        super().__init__(f"{place}: {reason}: {message}")
        self.reason = reason
        self.seq = seq
