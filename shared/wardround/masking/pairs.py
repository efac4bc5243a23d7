"""The secrets that each pair of hospitals shares, and what an attempt takes from them.

A root for each peer moves on with each attempt, and never back: what one has in its hands later
opens no mask of an earlier one (forward secrecy).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from wardround.errors import ProtocolViolation
from wardround.masking.derivation import expand_key, extract_key
from wardround.masking.directory import Directory
from wardround.masking.round_spec import RoundSpec

Keys = dict[str, bytes]

MOST_STEPS_AHEAD: Final = 100_000  # each costs a hash or two for every peer


def pair_root(shared: bytes, *, pair: tuple[str, str], ciphertext: bytes, salt: bytes) -> bytes:
    """The root of a pair at place 0, 32 bytes.

    `shared` is X25519's secret, then that of ML-KEM; `pair` has the smaller name first; `salt` is
    the directory's digest. (PROTOCOL 3)
    """
    context = b"\0".join((*(name.encode("ascii") for name in pair), sha256(ciphertext).digest()))
    return extract_key(shared, salt=salt, purpose=b"pair", context=context)


@dataclass(slots=True, eq=False)
class RoundSecrets:
    """What one hospital shares with each peer for one transcript: 32 bytes each, to be used once.

    `pair_keys` make the masks; `share_out` close this hospital's shares for a peer, `share_in`
    open that peer's shares for this hospital.
    """

    transcript: bytes
    hospital: str
    pair_keys: Keys = field(repr=False)
    share_out: Keys = field(repr=False)
    share_in: Keys = field(repr=False)

    def forget(self) -> None:
        """Drop every key."""
        self.pair_keys, self.share_out, self.share_in = {}, {}, {}


@dataclass(slots=True, eq=False)
class PairSecrets:
    """Root keys for each peer of a session, held in memory only; `Agreement` makes it.

    Gives out the secrets of each attempt once, and of none before the last one asked for: with
    what is left then, nobody can derive them again. Python cannot wipe memory: references are
    dropped, and the process' end does the rest.
    """

    hospital: str
    directory: Directory
    _roots: Keys = field(repr=False)  # of the next attempt that may be asked for
    _later: Keys = field(repr=False)  # of the first attempt at the next place
    _place: int = 0
    _attempt: int = 1

    @classmethod
    def of(cls, hospital: str, directory: Directory, roots: Mapping[str, bytes]) -> "PairSecrets":
        """Start at place 0 with the `pair_root` of each peer."""
        return cls(hospital, directory, dict(roots), _stepped(roots, b"ratchet"))

    @property
    def place(self) -> int:
        """The place in the run that the roots have reached; earlier ones are forgotten."""
        return self._place

    def round_secrets(self, spec: RoundSpec) -> RoundSecrets:
        """Derive the secrets of `spec`, and forget what derives them and those before them.

        Check the spec against the study before: the way to a place that the study does not have
        is walked as well. Raises ProtocolViolation for a spec of another run, session or directory,
        a cohort without us or with a stranger, and a place and attempt that do not come after
        those it gave secrets for last, or are more than 100,000 steps ahead.
        """
        self._check(spec)
        self._advance(spec)
        transcript = spec.transcript()
        peers = [name for name in spec.cohort if name != self.hospital]
        secrets = RoundSecrets(
            transcript=transcript,
            hospital=self.hospital,
            pair_keys={
                peer: expand_key(self._roots[peer], purpose=b"mask", context=transcript)
                for peer in peers
            },
            share_out={
                peer: self._share_key(peer, self.hospital, peer, transcript) for peer in peers
            },
            share_in={
                peer: self._share_key(peer, peer, self.hospital, transcript) for peer in peers
            },
        )
        self._next_attempt()
        return secrets

    def forget(self) -> None:
        """Drop the roots: no secret can be derived any more."""
        self._roots, self._later = {}, {}

    def _advance(self, spec: RoundSpec) -> None:
        while self._place < spec.place:
            self._roots, self._later = self._later, _stepped(self._later, b"ratchet")
            self._place, self._attempt = self._place + 1, 1
        while self._attempt < spec.attempt:
            self._next_attempt()

    def _next_attempt(self) -> None:
        self._roots = _stepped(self._roots, b"attempt")
        self._attempt += 1

    def _share_key(self, peer: str, sender: str, recipient: str, transcript: bytes) -> bytes:
        context = f"{sender}\0{recipient}\0".encode("ascii") + transcript
        return expand_key(self._roots[peer], purpose=b"share", context=context)

    def _check(self, spec: RoundSpec) -> None:
        where = spec.where
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
        self._check_order(spec)

    def _check_order(self, spec: RoundSpec) -> None:
        if (spec.place, spec.attempt) < (self._place, self._attempt):
            raise ProtocolViolation(
                f"{spec.where}: its secrets are forgotten, attempt {self._attempt} at place "
                f"{self._place} of the run is the next"
            )
        first = self._attempt if spec.place == self._place else 1
        steps = spec.place - self._place + spec.attempt - first
        if steps > MOST_STEPS_AHEAD:
            raise ProtocolViolation(
                f"{spec.where}: {steps} steps ahead of attempt {self._attempt} at place "
                f"{self._place}, at most {MOST_STEPS_AHEAD} are walked"
            )


def _stepped(roots: Mapping[str, bytes], purpose: bytes) -> Keys:
    return {peer: expand_key(root, purpose=purpose, context=b"") for peer, root in roots.items()}
