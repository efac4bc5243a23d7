"""What one attempt of one round is, word for word: its hash is inside every mask."""

import dataclasses
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from wardround.canonical import Json
from wardround.errors import ProtocolViolation
from wardround.masking.derivation import hash_json
from wardround.masking.fields import exact_fields, require_hex, require_hospital, require_integer

MODULUS: Final = 2**32
SUM_BOUND: Final = 2**31  # every true sum lies strictly between -SUM_BOUND and SUM_BOUND
MAX_LANES: Final = 2**28
SMALLEST_SCALE: Final = 2.0**-60
LARGEST_SCALE: Final = 2.0**52  # as a JSON number it is still exact (RFC 8785)
SMALLEST_COHORT: Final = 2
_COUNTER_MAX: Final = 2**31 - 1


class Purpose(StrEnum):
    """What the summed vector is."""

    STATISTICS = "statistics"
    TRAIN = "train"
    EVALUATE = "evaluate"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSpec:
    """One attempt of one round, the same for the whole cohort (PROTOCOL 4).

    Promises: whatever can be built is well formed, and the sum of a full cohort cannot overflow.
    `limit` is the largest absolute lane value of one hospital before masking. What only a hospital
    can judge (approved study, known model, ledger, policy) is not checked here.
    """

    purpose: Purpose
    run: str
    session: str
    study_digest: str
    round: int
    attempt: int
    cohort: tuple[str, ...]
    directory_digest: str
    model_digest: str
    lanes: int
    scale: float
    limit: int
    minimum: int

    def __post_init__(self) -> None:
        if not isinstance(self.purpose, Purpose):
            raise ProtocolViolation("round spec: purpose is not one of statistics, train, evaluate")
        for name, size_bytes in (
            ("run", 16),
            ("session", 16),
            ("study_digest", 32),
            ("directory_digest", 32),
            ("model_digest", 32),
        ):
            require_hex(getattr(self, name), what=f"round spec: {name}", size_bytes=size_bytes)
        for name, least, most in (
            ("round", 0, _COUNTER_MAX),
            ("attempt", 1, _COUNTER_MAX),
            ("lanes", 1, MAX_LANES),
            ("limit", 1, SUM_BOUND - 1),
            ("minimum", SMALLEST_COHORT, _COUNTER_MAX),
        ):
            require_integer(getattr(self, name), what=f"round spec: {name}", least=least, most=most)
        _check_scale(self.scale)
        self._check_cohort()

    def _check_cohort(self) -> None:
        if not isinstance(self.cohort, tuple):
            raise ProtocolViolation("round spec: cohort is not a tuple of names")
        for name in self.cohort:
            require_hospital(name, what="round spec: cohort")
        if list(self.cohort) != sorted(set(self.cohort)):
            raise ProtocolViolation("round spec: cohort is not sorted, or names a hospital twice")
        hospitals = len(self.cohort)
        if hospitals < self.minimum:
            raise ProtocolViolation(
                f"round spec: a cohort of {hospitals} came, the minimum is {self.minimum}"
            )
        if self.largest_sum >= SUM_BOUND:
            raise ProtocolViolation(
                f"round spec: {hospitals} hospitals x limit {self.limit} = {self.largest_sum} "
                f"overflows, less than {SUM_BOUND} is due"
            )

    @property
    def largest_sum(self) -> int:
        """The largest absolute lane value that a full cohort can sum to."""
        return len(self.cohort) * self.limit

    def to_json(self) -> Json:
        """Return the fields as JSON; `from_json` reads them back to an equal value."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return values | {"purpose": self.purpose.value, "cohort": list(self.cohort)}

    @classmethod
    def from_json(cls, value: object) -> "RoundSpec":
        """Read a spec that came from outside: exact fields and types, else ProtocolViolation."""
        names = [field.name for field in dataclasses.fields(cls)]
        fields = exact_fields(value, names, what="round spec")
        if fields["purpose"] not in list(Purpose):
            raise ProtocolViolation("round spec: purpose is not one of statistics, train, evaluate")
        if not isinstance(fields["cohort"], list):
            raise ProtocolViolation("round spec: cohort is not a list of names")
        scale = fields["scale"]
        return cls(
            **fields
            | {
                "purpose": Purpose(fields["purpose"]),
                "cohort": tuple(fields["cohort"]),
                # RFC 8785 writes 65536.0 as 65536.
                "scale": float(scale) if type(scale) is int and scale <= LARGEST_SCALE else scale,
            }
        )

    def transcript(self) -> bytes:
        """T: SHA-256 over the frame "round-spec" and the canonical JSON, 32 bytes (PROTOCOL 4)."""
        return hash_json(b"round-spec", self.to_json())


def _check_scale(scale: object) -> None:
    if not isinstance(scale, float) or not SMALLEST_SCALE <= scale <= LARGEST_SCALE:
        raise ProtocolViolation("round spec: scale is not a number from 2^-60 to 2^52")
    if math.frexp(scale)[0] != 0.5:
        raise ProtocolViolation(f"round spec: scale {scale!r} is not a power of two")
