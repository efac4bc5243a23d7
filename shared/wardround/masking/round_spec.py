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

LANE_BITS: Final = (20, 24, 32)  # how wide a lane travels, and the modulus of its masks
MAX_LANES: Final = 2**28
SMALLEST_SCALE: Final = 2.0**-60
LARGEST_SCALE: Final = 2.0**52  # as a JSON number it is still exact (RFC 8785)
SMALLEST_COHORT: Final = 2
_COUNTER_MAX: Final = 2**31 - 1


class Profile(StrEnum):
    """How masks meet a hospital that goes away (PROTOCOL 5)."""

    DOUBLE_MASK = "double-mask"
    ONE_TRIP = "one-trip"


def threshold_of(profile: Profile, hospitals: int, minimum: int) -> int:
    """How many of a cohort must answer at every stage for its sum to open.

    Double masks: two thirds and one more, so that two sets of survivors never open both
    (2t > n + colluders, Bonawitz et al. 2017). One trip: everybody.

    >>> threshold_of(Profile.DOUBLE_MASK, 10, 3), threshold_of(Profile.ONE_TRIP, 10, 3)
    (7, 10)
    """
    if profile is Profile.ONE_TRIP:
        return hospitals
    return max(minimum, 2 * hospitals // 3 + 1)


class Purpose(StrEnum):
    """What the summed vector is."""

    STATISTICS = "statistics"
    TRAIN = "train"
    EVALUATE = "evaluate"


def name_of(purpose: Purpose, number: int) -> str:
    """A round in words: what people read counts from 1, what travels from 0.

    >>> name_of(Purpose.TRAIN, 0), name_of(Purpose.STATISTICS, 0)
    ('round 1', 'statistics')
    """
    names = {Purpose.EVALUATE: "evaluation", Purpose.STATISTICS: "statistics"}
    return names.get(purpose, f"round {number + 1}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSpec:
    """One attempt of one round, the same for the whole cohort (PROTOCOL 4).

    Promises: whatever can be built is well formed, and the sum of a full cohort cannot overflow.
    `partition` are the groups that are summed apart, `cohort` is one of them. `limit` is the
    largest absolute lane value of one hospital before masking. What only a hospital can judge
    (approved study, known model, ledger, policy) is not checked here.
    """

    purpose: Purpose
    profile: Profile
    run: str
    session: str
    study_digest: str
    round: int
    attempt: int
    cohort: tuple[str, ...]
    partition: tuple[tuple[str, ...], ...]
    threshold: int
    directory_digest: str
    model_digest: str
    lanes: int
    bits: int
    scale: float
    limit: int
    minimum: int

    def __post_init__(self) -> None:
        if not isinstance(self.purpose, Purpose):
            raise ProtocolViolation("round spec: purpose is not one of statistics, train, evaluate")
        if not isinstance(self.profile, Profile):
            raise ProtocolViolation("round spec: profile is not one of double-mask, one-trip")
        if self.bits not in LANE_BITS or type(self.bits) is not int:
            raise ProtocolViolation("round spec: bits is not one of 20, 24, 32")
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
            ("limit", 1, self.sum_bound - 1),
            ("minimum", SMALLEST_COHORT, _COUNTER_MAX),
            ("threshold", SMALLEST_COHORT, _COUNTER_MAX),
        ):
            require_integer(getattr(self, name), what=f"round spec: {name}", least=least, most=most)
        _check_scale(self.scale)
        self._check_cohort()

    def _check_cohort(self) -> None:
        _check_names(self.cohort, what="cohort")
        hospitals = len(self.cohort)
        if hospitals < self.minimum:
            raise ProtocolViolation(
                f"round spec: a cohort of {hospitals} came, the minimum is {self.minimum}"
            )
        due = threshold_of(self.profile, hospitals, self.minimum)
        if not due <= self.threshold <= hospitals:
            raise ProtocolViolation(
                f"round spec: a threshold of {self.threshold} came, {due} to {hospitals} is due "
                f"for {hospitals} hospitals with {self.profile.value}"
            )
        if self.largest_sum >= self.sum_bound:
            raise ProtocolViolation(
                f"round spec: {hospitals} hospitals x limit {self.limit} = {self.largest_sum} "
                f"overflows, less than {self.sum_bound} is due"
            )
        self._check_partition()

    def _check_partition(self) -> None:
        if not isinstance(self.partition, tuple):
            raise ProtocolViolation("round spec: partition is not a tuple of groups")
        for group in self.partition:
            _check_names(group, what="partition")
        names = [name for group in self.partition for name in group]
        if len(set(names)) != len(names):
            raise ProtocolViolation("round spec: a hospital is in two groups of the partition")
        if self.cohort not in self.partition:
            raise ProtocolViolation("round spec: the cohort is not a group of the partition")

    @property
    def sum_bound(self) -> int:
        """Every true sum lies strictly between minus this and this."""
        return 1 << (self.bits - 1)

    @property
    def place(self) -> int:
        """Where the round stands in a run: 0 for statistics, then training, then evaluation."""
        return 0 if self.purpose is Purpose.STATISTICS else 1 + self.round

    @property
    def where(self) -> str:
        """The round and the attempt, for an error's text."""
        return f"{name_of(self.purpose, self.round)}, attempt {self.attempt}"

    @property
    def largest_sum(self) -> int:
        """The largest absolute lane value that a full cohort can sum to."""
        return len(self.cohort) * self.limit

    def to_json(self) -> Json:
        """Return the fields as JSON; `from_json` reads them back to an equal value."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return values | {
            "purpose": self.purpose.value,
            "profile": self.profile.value,
            "cohort": list(self.cohort),
            "partition": [list(group) for group in self.partition],
        }

    @classmethod
    def from_json(cls, value: object) -> "RoundSpec":
        """Read a spec that came from outside: exact fields and types, else ProtocolViolation."""
        names = [field.name for field in dataclasses.fields(cls)]
        fields = exact_fields(value, names, what="round spec")
        if fields["purpose"] not in list(Purpose):
            raise ProtocolViolation("round spec: purpose is not one of statistics, train, evaluate")
        if fields["profile"] not in list(Profile):
            raise ProtocolViolation("round spec: profile is not one of double-mask, one-trip")
        partition = fields["partition"]
        if not isinstance(fields["cohort"], list):
            raise ProtocolViolation("round spec: cohort is not a list of names")
        if not isinstance(partition, list) or not all(isinstance(g, list) for g in partition):
            raise ProtocolViolation("round spec: partition is not a list of groups")
        scale = fields["scale"]
        return cls(
            **fields
            | {
                "purpose": Purpose(fields["purpose"]),
                "profile": Profile(fields["profile"]),
                "cohort": tuple(fields["cohort"]),
                "partition": tuple(tuple(group) for group in partition),
                # RFC 8785 writes 65536.0 as 65536.
                "scale": float(scale) if type(scale) is int and scale <= LARGEST_SCALE else scale,
            }
        )

    def transcript(self) -> bytes:
        """T: SHA-256 over the frame "round-spec" and the canonical JSON, 32 bytes (PROTOCOL 4)."""
        return hash_json(b"round-spec", self.to_json())


def _check_names(names: object, *, what: str) -> None:
    if not isinstance(names, tuple):
        raise ProtocolViolation(f"round spec: {what} is not a tuple of names")
    for name in names:
        require_hospital(name, what=f"round spec: {what}")
    if list(names) != sorted(set(names)):
        raise ProtocolViolation(f"round spec: {what} is not sorted, or names a hospital twice")


def _check_scale(scale: object) -> None:
    if not isinstance(scale, float) or not SMALLEST_SCALE <= scale <= LARGEST_SCALE:
        raise ProtocolViolation("round spec: scale is not a number from 2^-60 to 2^52")
    if math.frexp(scale)[0] != 0.5:
        raise ProtocolViolation(f"round spec: scale {scale!r} is not a power of two")
