"""Whose updates are in a sum: the one set that each hospital signs for an attempt (PROTOCOL 5)."""

from dataclasses import dataclass, field
from typing import Final

from wardround.canonical import canonical_bytes
from wardround.errors import BadSignature, ProtocolViolation
from wardround.identity import Identity, verify
from wardround.masking.fields import require_hex, require_hospital

SURVIVORS_PURPOSE: Final = b"survivors"


class SurvivorsRefused(ProtocolViolation):
    """A hospital will not help to open this sum: it did not sign, or not reveal.

    `hospital` is whose message was wrong, where it is another hospital's and known.
    """

    def __init__(self, message: str, *, hospital: str | None = None) -> None:
        super().__init__(message)
        self.hospital = hospital


class SecondSurvivorSet(SurvivorsRefused):
    """Another set than the one signed came for the same attempt: refused for ever."""


@dataclass(frozen=True, slots=True)
class SurvivorSet:
    """The survivors of one attempt: `transcript` in hex, names sorted and unique.

    Raises ProtocolViolation when a part is not that.
    """

    transcript: str
    survivors: tuple[str, ...]
    _signed_end: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_hex(self.transcript, what="survivors: transcript", size_bytes=32)
        for name in self.survivors:
            require_hospital(name, what="survivors")
        if list(self.survivors) != sorted(set(self.survivors)):
            raise ProtocolViolation("survivors: not sorted, or a hospital is named twice")
        same = {"transcript": self.transcript, "survivors": list(self.survivors)}
        object.__setattr__(self, "_signed_end", canonical_bytes(same)[1:])

    def signed_bytes(self, hospital: str) -> bytes:
        """What the identity of `hospital` signs: canonical JSON of hospital, transcript, survivors.

        Of a hundred signatures only the name differs, and `hospital` is the first of the keys.

        >>> SurvivorSet("ab" * 32, ("a", "b")).signed_bytes("a")[:41]
        b'{"hospital":"a","survivors":["a","b"],"tr'
        """
        return canonical_bytes({"hospital": hospital})[:-1] + b"," + self._signed_end

    def sign(self, identity: Identity, hospital: str) -> bytes:
        """Sign for `hospital`: 64 bytes. What was signed before is for the caller to know."""
        return identity.sign(SURVIVORS_PURPOSE, self.signed_bytes(hospital))

    def check(self, hospital: str, signature: bytes, identity_key: bytes) -> None:
        """Raise BadSignature unless `hospital`, by its pinned key, signed this very set."""
        try:
            verify(identity_key, SURVIVORS_PURPOSE, self.signed_bytes(hospital), signature)
        except BadSignature as error:
            raise BadSignature(
                f"survivors: the signature of {hospital} is not of this set, or not its own"
            ) from error
