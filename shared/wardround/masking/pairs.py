"""The secrets that each pair of hospitals shares, and the masks that come from them."""

from dataclasses import dataclass, field

from wardround.errors import ProtocolViolation
from wardround.masking.derivation import expand_key, extract_key
from wardround.masking.directory import Directory
from wardround.masking.round_spec import RoundSpec
from wardround.masking.run_key import RunKey

Keys = tuple[bytes, ...]


@dataclass(slots=True, eq=False)
class RoundMasks:
    """One hospital's mask keys for one transcript: 32 bytes for each peer, to be used once."""

    transcript: bytes
    hospital: str
    add: Keys = field(repr=False)
    subtract: Keys = field(repr=False)
    spent: bool = False

    def take(self) -> tuple[Keys, Keys]:
        """Return (add, subtract) and forget both. A second time raises ProtocolViolation.

        Two vectors under one mask would show their difference.
        """
        if self.spent:
            raise ProtocolViolation(
                f"masks of {self.hospital} for transcript {self.transcript.hex()}: used already"
            )
        keys = self.add, self.subtract
        self.add, self.subtract, self.spent = (), (), True
        return keys


@dataclass(slots=True, eq=False)
class PairSecrets:
    """One root key for each peer of a run, held in memory only.

    Gives out masks at most once for each transcript. Python cannot wipe memory: `forget` drops
    the references, and the process' end does the rest.
    """

    hospital: str
    directory: Directory
    _roots: dict[str, bytes] = field(repr=False)
    _given: set[bytes] = field(default_factory=set, repr=False)

    @classmethod
    def agree(cls, run_key: RunKey, directory: Directory, own: str) -> "PairSecrets":
        """Agree with every peer of `directory` (PROTOCOL 3).

        Raises ProtocolViolation when our own key is missing or replaced, or when a peer's key is
        of low order.
        """
        keys = {entry.hospital: entry.public_key for entry in directory.entries}
        if own not in keys:
            raise ProtocolViolation(f"directory: the run key of {own}, our own, is missing")
        if keys.pop(own) != run_key.public_key:
            raise ProtocolViolation(
                f"directory: the run key of {own}, our own, is not the one we made"
            )
        salt = bytes.fromhex(directory.digest)
        roots = {
            peer: extract_key(
                run_key.agree(public_key, peer=peer),
                salt=salt,
                purpose=b"pair",
                context="\0".join(sorted((own, peer))).encode("ascii"),
            )
            for peer, public_key in keys.items()
        }
        return cls(own, directory, roots)

    def round_masks(self, spec: RoundSpec) -> RoundMasks:
        """Derive the masks of `spec`: of a pair, the smaller name adds, the other subtracts.

        Refuses a spec of another run, session or directory, a cohort without us or with a
        stranger, and a spec that it gave masks for before.
        """
        self._check(spec)
        transcript = spec.transcript()
        if transcript in self._given:
            raise ProtocolViolation(
                f"round {spec.round}, attempt {spec.attempt}: masks were given out already"
            )
        self._given.add(transcript)
        peers = [name for name in spec.cohort if name != self.hospital]
        keys = {
            peer: expand_key(self._roots[peer], purpose=b"mask", context=transcript)
            for peer in peers
        }
        return RoundMasks(
            transcript=transcript,
            hospital=self.hospital,
            add=tuple(keys[peer] for peer in peers if self.hospital < peer),
            subtract=tuple(keys[peer] for peer in peers if peer < self.hospital),
        )

    def forget(self) -> None:
        """Drop the roots: no mask can be derived any more."""
        self._roots.clear()

    def _check(self, spec: RoundSpec) -> None:
        where = f"round {spec.round}, attempt {spec.attempt}"
        if not self._roots:
            raise ProtocolViolation(f"{where}: the pair secrets of this run are forgotten")
        for name, came, due in (
            ("run", spec.run, self.directory.run),
            ("session", spec.session, self.directory.session),
            ("directory", spec.directory_digest, self.directory.digest),
        ):
            if came != due:
                raise ProtocolViolation(f"{where}: it is for {name} {came}, ours is {due}")
        if self.hospital not in spec.cohort:
            raise ProtocolViolation(f"{where}: {self.hospital} is not in its cohort")
        strangers = sorted(set(spec.cohort) - set(self.directory.names))
        if strangers:
            raise ProtocolViolation(f"{where}: {', '.join(strangers)} is not in the directory")
