"""What is fuzzed: a reader of something that arrives from outside, with real inputs to begin with.

A reader may refuse with one of the project's own errors. Everything else that it raises is a
finding, as is more memory or time than the runner allows.
"""

from collections.abc import Callable
from dataclasses import dataclass

from wardround.errors import WardroundError


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`read` takes bytes; `seeds` are real inputs, each of which is accepted as it is."""

    name: str
    read: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    refused: Callable[[], list[bytes]] = list
    refuses: bool = True
    most_bytes: int = 1 << 16
    json: bool = True


def refusal_of(target: Target, data: bytes) -> WardroundError | None:
    """The project's own error, or None when the input was accepted. Anything else is raised."""
    try:
        target.read(data)
    except WardroundError as error:
        return error
    return None
