"""Fingerprints and certificates from outside the bundle: what a reader has, as options or files."""

from pathlib import Path

from wardround.audit.check_authentic import Pins
from wardround.audit.timestamp import read_authorities
from wardround.canonical import Json, parse_json
from wardround.errors import BadInput, why

_ROSTER_LIMIT_BYTES = 1 << 20


def read_pins(coordinator_key: str, roster: Path | None, time_stamping: Path | None = None) -> Pins:
    """The coordinator's fingerprint ("" where none was given), and a JSON file of the hospitals'.

    `time_stamping` is a PEM file of authorities. Raises BadInput for what is no fingerprint or
    certificate, and for a file that cannot be read.
    """
    if coordinator_key and not _is_fingerprint(coordinator_key):
        raise BadInput("--coordinator-key: 64 lower-case hex digits are due")
    authorities = None if time_stamping is None else read_authorities(time_stamping)
    hospitals = None if roster is None else _fingerprints(roster)
    return Pins(coordinator=coordinator_key or None, hospitals=hospitals, time_stamping=authorities)


def _fingerprints(roster: Path) -> Json:
    what = f"--roster {roster.name}"
    try:
        content = roster.read_bytes()
    except OSError as error:
        raise BadInput(f"{what}: {why(error)}") from error
    hospitals = parse_json(content, what=what, limit_bytes=_ROSTER_LIMIT_BYTES)
    if not all(_is_fingerprint(value) for value in hospitals.values()):
        raise BadInput(f"{what}: 64 lower-case hex digits are due per hospital")
    return hospitals


def _is_fingerprint(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")
