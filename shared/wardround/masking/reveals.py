"""What survivors have revealed of one attempt, and the mask keys that come out of it (PROTOCOL 5).

Every key is compared with what its owner committed to at the upload, whether it was revealed or
joined from shares.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from wardround.canonical import Json
from wardround.errors import ProtocolViolation, QuorumMissed
from wardround.masking.commitments import pair_commitment, self_commitment, self_mask_key
from wardround.masking.round_spec import RoundSpec
from wardround.masking.shamir import ELEMENTS, PRIME, Shares, join_checked
from wardround.masking.update import UpdateHeader
from wardround.protocol.messages import Revealed, SealedShare

Pair = tuple[str, str]  # (survivor, dropped)

_NO_KEYS = "no threshold of shares gives its keys: dealt wrongly by it, or changed by their holders"


@dataclass(frozen=True, slots=True)
class AcceptedUpload:
    """What the coordinator keeps of an upload: all but the vector."""

    header: UpdateHeader
    signature: bytes
    shares: Mapping[str, SealedShare] = field(repr=False)


@dataclass(frozen=True, slots=True)
class MaskKeys:
    """What takes every mask off a sum of survivors: 32 bytes for each of them and each pair."""

    transcript: bytes
    self_keys: dict[str, bytes] = field(repr=False)
    pair_keys: dict[Pair, bytes] = field(repr=False)

    def keystreams(self) -> tuple[list[bytes], list[bytes]]:
        """The keystream keys to add to the masked sum, and those to subtract from it.

        Of a pair the smaller name has added its mask, the greater has subtracted it.
        """
        add = [key for (survivor, dropped), key in self.pair_keys.items() if dropped < survivor]
        subtract = [self_mask_key(self.transcript, key) for key in self.self_keys.values()]
        subtract += [
            key for (survivor, dropped), key in self.pair_keys.items() if survivor < dropped
        ]
        return add, subtract

    def to_json(self) -> Json:
        """Keys in hex: of hospitals by name, of pairs by "a|b" with the smaller name first."""
        return {
            "self_keys": {name: key.hex() for name, key in sorted(self.self_keys.items())},
            "pair_keys": {
                "|".join(sorted(pair)): key.hex() for pair, key in sorted(self.pair_keys.items())
            },
        }


class Reveals:
    """Collects the answers of the survivors to one or more requests to reveal."""

    __slots__ = ("_dropped", "_owned", "_pairs", "_shares", "_spec", "_transcript", "_uploads")

    def __init__(self, spec: RoundSpec, uploads: Mapping[str, AcceptedUpload]) -> None:
        """`uploads` are those of the survivors: everybody whose vector is in the sum."""
        self._spec = spec
        self._transcript = spec.transcript()
        self._uploads = uploads
        self._dropped = tuple(name for name in spec.cohort if name not in uploads)
        self._owned: dict[str, bytes] = {}
        self._pairs: dict[Pair, bytes] = {}
        self._shares: dict[str, dict[str, Shares]] = {name: {} for name in uploads}

    @property
    def answered(self) -> tuple[str, ...]:
        """The survivors whose own keys are here, sorted."""
        return tuple(sorted(self._owned))

    @property
    def vanished(self) -> tuple[str, ...]:
        """The survivors whose keys have to be joined from shares, sorted."""
        return tuple(sorted(set(self._uploads) - set(self._owned)))

    @property
    def short_of_shares(self) -> tuple[str, ...]:
        """The vanished that fewer than a threshold have sent shares for, sorted."""
        due = self._spec.threshold
        return tuple(name for name in self.vanished if len(self._shares[name]) < due)

    def take(self, hospital: str, body: Revealed, *, asked_for: tuple[str, ...]) -> None:
        """Keep what `hospital` revealed when it was asked for these vanished.

        Raises ProtocolViolation naming it, and keeps nothing, when a key is not the one it
        committed to, or when keys or shares are not those that were due.
        """
        what = f"reveal of {hospital}"
        self_key = bytes.fromhex(body.self_key)
        if sorted(body.pair_keys) != list(self._dropped):
            raise ProtocolViolation(
                f"{what}: pair keys with {', '.join(sorted(body.pair_keys)) or 'nobody'} came, "
                f"with {', '.join(self._dropped) or 'nobody'} were due"
            )
        pair_keys = {name: bytes.fromhex(key) for name, key in body.pair_keys.items()}
        if not self._is_self_key(hospital, self_key):
            raise ProtocolViolation(f"{what}: its mask key is not the one it committed to")
        for name, key in pair_keys.items():
            if not self._is_pair_key(hospital, name, key):
                raise ProtocolViolation(
                    f"{what}: its key of the pair with {name} is not the one it committed to"
                )
        shares = {name: self._words(what, name, body, asked_for) for name in body.shares}
        self._owned[hospital] = self_key
        self._pairs |= {(hospital, name): key for name, key in pair_keys.items()}
        for name, words in shares.items():
            self._shares[name][hospital] = words

    def keys(self, faults: dict[str, str]) -> MaskKeys:
        """Join what the vanished did not reveal; whose shares do not fit is added to `faults`.

        Such a share was dealt wrongly by the one that vanished, or changed by its holder: nobody
        else can tell which. Raises QuorumMissed when shares do not give a key.
        """
        self_keys, pair_keys = dict(self._owned), dict(self._pairs)
        for name in self.vanished:
            first, *others = self._joined(name, faults)
            self_keys[name] = first
            pair_keys |= {
                (name, peer): key for peer, key in zip(self._dropped, others, strict=True)
            }
        return MaskKeys(self._transcript, self_keys, pair_keys)

    def _joined(self, vanished: str, faults: dict[str, str]) -> list[bytes]:
        """Its mask key, then its keys with the dropped."""
        holders = sorted(self._shares[vanished])
        cohort, due = self._spec.cohort, self._spec.threshold
        what = f"{self._spec.where}: keys of {vanished}"
        if len(holders) < due:
            raise QuorumMissed(f"{what}: {len(holders)} shares came, {due} were due")

        def accept(index: int, secret: bytes) -> bool:
            if index == 0:
                return self._is_self_key(vanished, secret)
            return self._is_pair_key(vanished, self._dropped[index - 1], secret)

        points = {1 + cohort.index(name): name for name in holders}
        shares = np.stack([self._shares[vanished][name] for name in holders])
        try:
            secrets, wrong = join_checked(list(points), shares, threshold=due, accept=accept)
        except ProtocolViolation as error:
            faults.setdefault(vanished, _NO_KEYS)
            raise QuorumMissed(f"{what}: {error}") from error
        for point in wrong:
            faults.setdefault(
                points[point],
                f"its share of the keys of {vanished} does not fit: dealt wrongly by {vanished} "
                "or changed by it",
            )
        return [secret.tobytes() for secret in secrets]

    def _words(
        self, what: str, vanished: str, body: Revealed, asked_for: tuple[str, ...]
    ) -> Shares:
        """One hospital's shares of the keys of one that vanished, shape (1 + dropped, 9)."""
        came, due = body.shares[vanished], 1 + len(self._dropped)
        if vanished not in asked_for:
            raise ProtocolViolation(f"{what}: shares for {vanished} were not asked for")
        if len(came) != due:
            raise ProtocolViolation(
                f"{what}: {len(came)} shares of the keys of {vanished} came, {due} were due"
            )
        words = np.frombuffer(bytes.fromhex("".join(came)), dtype="<u4").reshape(due, ELEMENTS)
        if (words >= PRIME).any():
            raise ProtocolViolation(
                f"{what}: a share of the keys of {vanished} is beyond the field"
            )
        return words.astype(np.uint32)

    def _is_self_key(self, hospital: str, key: bytes) -> bool:
        due = self._uploads[hospital].header.self_commitment
        return self_commitment(self._transcript, key) == due

    def _is_pair_key(self, hospital: str, peer: str, key: bytes) -> bool:
        due = self._uploads[hospital].shares[peer].commitment
        return pair_commitment(self._transcript, key) == due
