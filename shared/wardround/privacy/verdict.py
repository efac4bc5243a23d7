"""What an empirical audit can say."""

from enum import StrEnum


class Verdict(StrEnum):
    """What an audit found; nothing else can come out of one."""

    PASS = "PASS"  # noqa: S105 - no password
    VIOLATION = "VIOLATION"
    INCONCLUSIVE = "INCONCLUSIVE"
