"""Who is summed with whom: groups drawn by the session's keys, the same for whoever computes them.

A study with [robust] sums each group apart. The draw depends on the directory, which holds a
fresh run key of every hospital, so no hospital chooses its neighbours. (A coordinator may ask for
another session until it likes a draw: secrecy rests on every group's own threshold, not on it.)
"""

import hashlib
from collections.abc import Iterator, Sequence

from wardround.errors import ProtocolViolation
from wardround.masking.derivation import framed, hash_json
from wardround.masking.round_spec import Purpose

Partition = tuple[tuple[str, ...], ...]

_WORD_BYTES = 8
_WORDS = 1 << (8 * _WORD_BYTES)


def partition_of(
    names: Sequence[str],
    groups: int,
    *,
    directory_digest: str,
    purpose: Purpose,
    round_number: int,
    attempt: int,
) -> Partition:
    """Deal `names` into so many groups whose sizes differ by one at most; all sorted.

    A Fisher-Yates shuffle (Durstenfeld 1964) over words of SHA-256 in counter mode, none of which
    favours a place. Raises ProtocolViolation for a name that comes twice and for fewer names than
    groups. (PROTOCOL 4, "Groups")
    """
    shuffled = sorted(set(names))
    if len(shuffled) != len(names) or not 1 <= groups <= len(shuffled):
        raise ProtocolViolation(
            f"partition: {len(shuffled)} of {len(names)} names are different, as many were due, "
            f"and at least one for each of {groups} groups"
        )
    seed = hash_json(
        b"partition",
        {
            "attempt": attempt,
            "directory_digest": directory_digest,
            "groups": groups,
            "names": shuffled,
            "purpose": purpose.value,
            "round": round_number,
        },
    )
    words = _words(seed)
    for last in range(len(shuffled) - 1, 0, -1):
        other = _below(last + 1, words)
        shuffled[last], shuffled[other] = shuffled[other], shuffled[last]
    return tuple(sorted(tuple(sorted(shuffled[first::groups])) for first in range(groups)))


def _words(seed: bytes) -> Iterator[int]:
    counter = 0
    while True:
        content = seed + counter.to_bytes(_WORD_BYTES, "little")
        block = hashlib.sha256(framed(b"partition-word", content)).digest()
        for start in range(0, len(block), _WORD_BYTES):
            yield int.from_bytes(block[start : start + _WORD_BYTES], "little")
        counter += 1


def _below(most: int, words: Iterator[int]) -> int:
    """A number from 0 to `most` - 1; words of the last, incomplete stretch are thrown away."""
    whole = _WORDS - _WORDS % most
    return next(word for word in words if word < whole) % most
