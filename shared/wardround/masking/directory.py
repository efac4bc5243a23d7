"""The run keys of everybody who joined, each believed only through its pinned identity."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import InitVar, dataclass, field

from wardround.canonical import Json
from wardround.errors import ProtocolViolation
from wardround.masking.derivation import hash_json
from wardround.masking.round_spec import SMALLEST_COHORT
from wardround.masking.run_key import SignedRunKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """The signed run keys of one run and session, sorted by hospital.

    A Directory that exists has been checked: the constructor verifies every signature against the
    identity keys that this party pinned, so a coordinator cannot put a key of its own into it
    (PROTOCOL 3). `digest` is SHA-256 over the frame "directory" and the canonical JSON, in hex: the
    salt of all roots.
    """

    entries: tuple[SignedRunKey, ...]
    run: str
    session: str
    identity_keys: InitVar[Mapping[str, bytes]]
    digest: str = field(init=False)

    def __post_init__(self, identity_keys: Mapping[str, bytes]) -> None:
        object.__setattr__(self, "entries", tuple(sorted(self.entries, key=lambda e: e.hospital)))
        if len(self.entries) < SMALLEST_COHORT:
            raise ProtocolViolation(
                f"directory: {len(self.entries)} run keys came, {SMALLEST_COHORT} are the fewest"
            )
        _no_repetition(self.entries)
        for entry in self.entries:
            if entry.hospital not in identity_keys:
                raise ProtocolViolation(f"directory: {entry.hospital} is not on the roster")
            for name, came, due in (
                ("run", entry.run, self.run),
                ("session", entry.session, self.session),
            ):
                if came != due:
                    raise ProtocolViolation(
                        f"directory: the run key of {entry.hospital} is for {name} {came}, "
                        f"this is {name} {due}"
                    )
            entry.check(identity_keys[entry.hospital])
        object.__setattr__(self, "digest", hash_json(b"directory", self.to_json()).hex())

    @classmethod
    def checked(
        cls,
        entries: Iterable[SignedRunKey],
        *,
        run: str,
        session: str,
        identity_keys: Mapping[str, bytes],
    ) -> "Directory":
        """Build from run keys in any order. Raises ProtocolViolation or BadSignature."""
        return cls(entries=tuple(entries), run=run, session=session, identity_keys=identity_keys)

    @classmethod
    def from_json(
        cls, value: object, *, run: str, session: str, identity_keys: Mapping[str, bytes]
    ) -> "Directory":
        """Read a directory that came from outside, and check it as the constructor does."""
        if not isinstance(value, list):
            raise ProtocolViolation(f"directory: a list was due, a {type(value).__name__} came")
        if len(value) > len(identity_keys):
            raise ProtocolViolation(
                f"directory: {len(value)} run keys came, the roster has {len(identity_keys)}"
            )
        entries = [SignedRunKey.from_json(entry) for entry in value]
        return cls.checked(entries, run=run, session=session, identity_keys=identity_keys)

    def to_json(self) -> list[Json]:
        """Return the signed run keys as JSON, sorted by hospital."""
        return [entry.to_json() for entry in self.entries]

    @property
    def names(self) -> tuple[str, ...]:
        """The hospitals, sorted."""
        return tuple(entry.hospital for entry in self.entries)


def _no_repetition(entries: tuple[SignedRunKey, ...]) -> None:
    names = Counter(entry.hospital for entry in entries)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise ProtocolViolation(f"directory: {', '.join(twice)} is listed twice")
    keys = Counter(key for entry in entries for key in (entry.public_key, entry.kem_key))
    sharing = [e.hospital for e in entries if keys[e.public_key] > 1 or keys[e.kem_key] > 1]
    if sharing:
        raise ProtocolViolation(f"directory: {', '.join(sharing)} share one run key")
