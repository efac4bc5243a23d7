"""Fingerprints from outside the bundle: what a reader was told, as options or a file."""

from pathlib import Path

from wardround.audit.check_authentic import Pins
from wardround.canonical import parse_json
from wardround.errors import BadInput

_ROSTER_LIMIT_BYTES = 1 << 20


def read_pins(coordinator_key: str, roster: Path | None) -> Pins:
    """The coordinator's fingerprint ("" where none was given), and a JSON file of the hospitals'.

    Raises BadInput for what is no fingerprint, and for a file that cannot be read.
    """
    if coordinator_key and not _is_fingerprint(coordinator_key):
        raise BadInput("--coordinator-key: 64 lower-case hex digits are due")
    if roster is None:
        return Pins(coordinator=coordinator_key or None)
    what = f"--roster {roster.name}"
    try:
        content = roster.read_bytes()
    except OSError as error:
        raise BadInput(f"{what}: {type(error).__name__}") from error
    hospitals = parse_json(content, what=what, limit_bytes=_ROSTER_LIMIT_BYTES)
    if not all(_is_fingerprint(value) for value in hospitals.values()):
        raise BadInput(f"{what}: 64 lower-case hex digits are due per hospital")
    return Pins(coordinator=coordinator_key or None, hospitals=hospitals)


def _is_fingerprint(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")
