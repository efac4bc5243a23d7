"""Readers with a bug each: what the fuzzing shows has to be shown to be seen."""

from tests.fuzz.target import Target

from wardround.errors import BadInput

HUGE_BYTES = 4 << 30


def forgets_a_check(data: bytes) -> None:
    """An IndexError where the sign is all that came."""
    if data[:1] != b"!":
        raise BadInput("input: a sign was due")
    data[1]


def believes_a_length(data: bytes) -> None:
    """Allocates what the input says."""
    if data[:1] == b"!":
        bytearray(HUGE_BYTES)
    raise BadInput("input: a sign was due")


def never_ends(data: bytes) -> None:
    """Goes on for ever at a sign."""
    while data[:1] == b"!":
        pass
    raise BadInput("input: a sign was due")


PLANTED = {
    target.name: target
    for target in (
        Target(name="planted-error", read=forgets_a_check, seeds=lambda: [b"!a"], json=False),
        Target(name="planted-memory", read=believes_a_length, seeds=list, json=False),
        Target(name="planted-hang", read=never_ends, seeds=list, json=False),
    )
}
