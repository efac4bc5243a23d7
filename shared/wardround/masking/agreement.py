"""Key agreement, once per session: every pair of hospitals ends with one root key.

Of a pair the smaller name encapsulates for the greater; who relays it can neither read nor change
it, since the identity signs it for this session and directory. (PROTOCOL 3)
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

from wardround.canonical import Json, canonical_bytes
from wardround.errors import BadSignature, ProtocolViolation
from wardround.identity import SIGNATURE_BYTES, Identity, verify
from wardround.masking.directory import Directory
from wardround.masking.fields import exact_fields, require_hex, require_hospital
from wardround.masking.pairs import PairSecrets, pair_root
from wardround.masking.run_key import CIPHERTEXT_BYTES, RunKey, SignedRunKey

ENCAPSULATION_PURPOSE: Final = b"encapsulation"

# From an encapsulation key to (32-byte secret, ciphertext).
Encapsulate = Callable[[bytes], tuple[bytes, bytes]]


def encapsulate_768(kem_key: bytes) -> tuple[bytes, bytes]:
    """A fresh secret and its ciphertext under `kem_key` (ML-KEM-768; FIPS 203, 7.2).

    The library draws the randomness from the operating system; there is no way to hand it in.
    """
    return MLKEM768PublicKey.from_public_bytes(kem_key).encapsulate()


@dataclass(frozen=True, slots=True, kw_only=True)
class Encapsulation:
    """A secret of `sender` for `recipient`, under the recipient's key, signed by the sender."""

    sender: str
    recipient: str
    run: str
    session: str
    directory_digest: str
    ciphertext: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def __post_init__(self) -> None:
        for name in ("sender", "recipient"):
            require_hospital(getattr(self, name), what=f"encapsulation: {name}")
        for name, size_bytes in (("run", 16), ("session", 16), ("directory_digest", 32)):
            what = f"encapsulation of {self.sender}: {name}"
            require_hex(getattr(self, name), what=what, size_bytes=size_bytes)
        for name, came, due in (
            ("ciphertext", len(self.ciphertext), CIPHERTEXT_BYTES),
            ("signature", len(self.signature), SIGNATURE_BYTES),
        ):
            if came != due:
                raise ProtocolViolation(
                    f"encapsulation of {self.sender}: {came} bytes of {name} came, {due} were due"
                )

    def signed_bytes(self) -> bytes:
        """What the identity signs: canonical JSON of all fields but the signature."""
        fields = self.to_json()
        del fields["signature"]
        return canonical_bytes(fields)

    def check(self, directory: Directory, identity_key: bytes, *, recipient: str) -> None:
        """Raise unless it is for this session, directory and recipient, and its sender's own.

        Raises ProtocolViolation or BadSignature; `identity_key` is the one pinned for the sender.
        """
        for name, came, due in (
            ("recipient", self.recipient, recipient),
            ("run", self.run, directory.run),
            ("session", self.session, directory.session),
            ("directory_digest", self.directory_digest, directory.digest),
        ):
            if came != due:
                raise ProtocolViolation(
                    f"encapsulation of {self.sender}: it is for {name} {came}, {due} was due"
                )
        try:
            verify(identity_key, ENCAPSULATION_PURPOSE, self.signed_bytes(), self.signature)
        except BadSignature as error:
            raise BadSignature(
                f"encapsulation of {self.sender}: not signed by the identity key pinned for it"
            ) from error

    def to_json(self) -> Json:
        """Return the fields as JSON, bytes in lower-case hex."""
        return {
            "sender": self.sender,
            "recipient": self.recipient,
            "run": self.run,
            "session": self.session,
            "directory_digest": self.directory_digest,
            "ciphertext": self.ciphertext.hex(),
            "signature": self.signature.hex(),
        }

    @classmethod
    def from_json(cls, value: object) -> "Encapsulation":
        """Read what came from outside: exact fields, else ProtocolViolation. Not yet checked."""
        names = ("sender", "recipient", "run", "session", "directory_digest")
        fields = exact_fields(value, (*names, "ciphertext", "signature"), what="encapsulation")
        parts = {
            name: bytes.fromhex(
                require_hex(fields[name], what=f"encapsulation: {name}", size_bytes=size_bytes)
            )
            for name, size_bytes in (
                ("ciphertext", CIPHERTEXT_BYTES),
                ("signature", SIGNATURE_BYTES),
            )
        }
        return cls(**fields | parts)


def check_encapsulations(
    sent: Sequence[Encapsulation], directory: Directory, *, sender: str, identity_key: bytes
) -> None:
    """The coordinator's check of what `sender` answered: one for each greater name, in order.

    Raises ProtocolViolation or BadSignature.
    """
    due = [name for name in directory.names if name > sender]
    _require_names([one.recipient for one in sent], due, what=f"encapsulations of {sender}: to")
    for one, recipient in zip(sent, due, strict=True):
        if one.sender != sender:
            raise ProtocolViolation(f"encapsulations of {sender}: one is {one.sender}'s")
        one.check(directory, identity_key, recipient=recipient)


class Agreement:
    """One hospital's way from the directory to its `PairSecrets`; it can be gone once."""

    __slots__ = (
        "_agreed",
        "_identity_keys",
        "_kem_secrets",
        "_own",
        "_run_key",
        "_sent",
        "directory",
    )

    def __init__(
        self,
        run_key: RunKey,
        directory: Directory,
        own: str,
        identity_keys: Mapping[str, bytes],
    ) -> None:
        """Agree by X25519 with every peer of `directory`.

        Raises ProtocolViolation when our own keys are missing or replaced, or when a peer's key is
        of low order.
        """
        entries = {entry.hospital: entry for entry in directory.entries}
        if own not in entries:
            raise ProtocolViolation(f"directory: the run key of {own}, our own, is missing")
        mine = entries.pop(own)
        if (mine.public_key, mine.kem_key) != (run_key.public_key, run_key.kem_key):
            raise ProtocolViolation(
                f"directory: the run key of {own}, our own, is not the one we made"
            )
        self.directory = directory
        self._own = own
        self._identity_keys = identity_keys
        self._run_key: RunKey | None = run_key
        self._agreed = {
            peer: run_key.agree(entry.public_key, peer=peer) for peer, entry in entries.items()
        }
        self._kem_secrets: dict[str, bytes] = {}
        self._sent: tuple[Encapsulation, ...] | None = None

    def encapsulations(
        self, identity: Identity, encapsulate: Encapsulate = encapsulate_768
    ) -> tuple[Encapsulation, ...]:
        """A signed secret for each peer with a greater name, sorted. Asked again: the same."""
        if self._sent is None:
            greater = [entry for entry in self.directory.entries if entry.hospital > self._own]
            self._sent = tuple(self._encapsulate(e, identity, encapsulate) for e in greater)
        return self._sent

    def finish(self, received: Iterable[Encapsulation]) -> PairSecrets:
        """Take the secrets of the peers with smaller names, exactly one of each.

        Raises ProtocolViolation or BadSignature, and then nothing was taken: right ones may still
        come. A second success is refused: two `PairSecrets` would give out one mask twice.
        """
        if self._run_key is None:
            raise ProtocolViolation(f"encapsulations for {self._own}: agreed already")
        if self._sent is None:
            raise ProtocolViolation(f"encapsulations for {self._own}: they came before our own")
        smaller = sorted(received, key=lambda one: one.sender)
        due = [name for name in self.directory.names if name < self._own]
        what = f"encapsulations for {self._own}: from"
        _require_names([one.sender for one in smaller], due, what=what)
        for one in smaller:
            one.check(self.directory, self._identity_keys[one.sender], recipient=self._own)
        ciphertexts = {one.recipient: one.ciphertext for one in self._sent}
        secrets = dict(self._kem_secrets)
        for one in smaller:
            ciphertexts[one.sender] = one.ciphertext
            secrets[one.sender] = self._run_key.decapsulate(one.ciphertext, peer=one.sender)
        salt = bytes.fromhex(self.directory.digest)
        roots = {
            peer: pair_root(
                shared + secrets[peer],
                pair=(min(self._own, peer), max(self._own, peer)),
                ciphertext=ciphertexts[peer],
                salt=salt,
            )
            for peer, shared in self._agreed.items()
        }
        self._run_key, self._agreed, self._kem_secrets = None, {}, {}
        return PairSecrets.of(self._own, self.directory, roots)

    def _encapsulate(
        self, entry: SignedRunKey, identity: Identity, encapsulate: Encapsulate
    ) -> Encapsulation:
        secret, ciphertext = encapsulate(entry.kem_key)
        self._kem_secrets[entry.hospital] = secret
        unsigned = Encapsulation(
            sender=self._own,
            recipient=entry.hospital,
            run=self.directory.run,
            session=self.directory.session,
            directory_digest=self.directory.digest,
            ciphertext=ciphertext,
            signature=bytes(SIGNATURE_BYTES),
        )
        signature = identity.sign(ENCAPSULATION_PURPOSE, unsigned.signed_bytes())
        return replace(unsigned, signature=signature)


def _require_names(came: list[str], due: list[str], *, what: str) -> None:
    if came != due:
        raise ProtocolViolation(
            f"{what} {', '.join(came) or 'nobody'} came, {', '.join(due) or 'nobody'} was due"
        )
