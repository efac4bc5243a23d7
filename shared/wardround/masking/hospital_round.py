"""One attempt at one hospital: a masked upload, one signature, one reveal (PROTOCOL 5 and 6).

With one trip only the upload happens. Whoever asks is not trusted: what is given away here opens
the sum over one set of survivors and no other, whatever the coordinator says to whom.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from wardround.errors import ProtocolViolation
from wardround.evidence.faults import LogFault
from wardround.evidence.merkle import verify_inclusion
from wardround.identity import Identity
from wardround.masking.commitments import (
    pair_commitment,
    pair_leaf,
    pairs_root,
    self_commitment,
    self_mask_key,
    share_leaves,
)
from wardround.masking.masked_pass import mask_packed
from wardround.masking.packing import Packed
from wardround.masking.pairs import PairSecrets, RoundSecrets
from wardround.masking.round_spec import Profile, RoundSpec
from wardround.masking.sealing import open_sealed, seal
from wardround.masking.shamir import ELEMENTS, PRIME, SECRET_BYTES, Shares, split
from wardround.masking.survivors import SecondSurvivorSet, SurvivorSet, SurvivorsRefused
from wardround.masking.update import UPDATE_PURPOSE, UpdateHeader
from wardround.protocol.messages import Reveal, Revealed, SealedShare, Survivors
from wardround.randomness import Randomness


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """What leaves for the coordinator: the last stage of privacy.

    `packed` is the masked vector, uint8 of shape (packed_size(lanes, bits),); `shares` has an
    entry for every peer of the cohort, None with one trip.
    """

    header: UpdateHeader
    signature: bytes
    packed: Packed = field(repr=False)
    shares: dict[str, SealedShare] | None = field(repr=False)


class HospitalRound:
    """One hospital's part in one attempt: upload once, sign one set of survivors, reveal for it.

    It holds the attempt's secrets in memory until `forget`, and they are lost with the process:
    a hospital that crashed sits the attempt out.
    """

    __slots__ = (
        "_bundles",
        "_checked",
        "_header",
        "_identity",
        "_randomness",
        "_secrets",
        "_self_key",
        "_signed",
        "hospital",
        "spec",
        "transcript",
    )

    @classmethod
    def begin(
        cls,
        spec: RoundSpec,
        pairs: PairSecrets,
        *,
        identity: Identity,
        hospital: str,
        randomness: Randomness,
    ) -> "HospitalRound":
        """Take this attempt's secrets; the spec was checked against the study before.

        Raises ProtocolViolation as `PairSecrets.round_secrets` does: a second time, for instance.
        """
        if pairs.hospital != hospital:
            raise ProtocolViolation(
                f"{spec.where}: the pair secrets are {pairs.hospital}'s, not {hospital}'s"
            )
        secrets = pairs.round_secrets(spec)
        self_key = b"" if spec.profile is Profile.ONE_TRIP else randomness(SECRET_BYTES)
        return cls(spec, secrets, self_key, identity, randomness)

    def __init__(
        self,
        spec: RoundSpec,
        secrets: RoundSecrets,
        self_key: bytes,
        identity: Identity,
        randomness: Randomness,
    ) -> None:
        """Use `begin`."""
        self.spec = spec
        self.hospital = secrets.hospital
        self.transcript = secrets.transcript.hex()
        self._identity = identity
        self._randomness = randomness
        self._secrets: RoundSecrets | None = secrets
        self._self_key = self_key
        self._header: UpdateHeader | None = None
        self._bundles: dict[str, Shares] = {}
        self._checked: SurvivorSet | None = None
        self._signed: SurvivorSet | None = None

    def upload(self, values: npt.NDArray[Any], *, threads: int = 1) -> Upload:
        """Mask, pack and sign, once. `values` are floats, to be scaled by the spec, or int32 lanes.

        Shape (spec.lanes,); left as they were. Raises ProtocolViolation when they are not what the
        spec says, not finite, or lanes beyond its limit; nothing has been used then. With one trip
        the secrets are forgotten here.
        """
        secrets, spec = self._present(), self.spec
        what = f"update of {self.hospital}"
        if self._header is not None:
            raise ProtocolViolation(f"{what}: its masks for {self.transcript} are used already")
        if values.shape != (spec.lanes,):
            raise ProtocolViolation(
                f"{what}: shape {values.shape} came, shape ({spec.lanes},) was due"
            )
        add = [key for peer, key in secrets.pair_keys.items() if self.hospital < peer]
        if self._self_key:
            add.append(self_mask_key(secrets.transcript, self._self_key))
        packed, digest = mask_packed(
            values,
            scale=spec.scale if values.dtype.kind == "f" else None,
            limit=spec.limit,
            add=add,
            subtract=[key for peer, key in secrets.pair_keys.items() if peer < self.hospital],
            bits=spec.bits,
            threads=threads,
        )
        shares = self._sealed_shares(secrets) if self._self_key else None
        self._header = self._header_of(digest, shares)
        signature = self._identity.sign(UPDATE_PURPOSE, self._header.signed_bytes())
        secrets.share_out = {}
        if shares is None:
            self.forget()
        return Upload(self._header, signature, packed, shares)

    def check_survivors(self, body: Survivors, identity_keys: Mapping[str, bytes]) -> SurvivorSet:
        """Judge whose updates the coordinator says are in the sum, and open the shares for us.

        The answer has to be stored durably, and then goes to `sign`. The set that was signed may
        be asked for again. A bundle that does not open is noted for `reveal` and stops nothing.
        Raises SurvivorsRefused (its `hospital` names whom the refusal accuses: a sender whose
        signed commitment is not that of our key of the pair) or SecondSurvivorSet.
        """
        try:
            self._expected(body.run, body.session, body.transcript)
            asked = SurvivorSet(body.transcript, body.survivors)
            if self._signed is not None:
                return self._same(asked)
            self._check_set(asked, body)
            headers = self._check_headers(body, identity_keys)
        except SurvivorsRefused:
            raise
        except ProtocolViolation as error:
            raise SurvivorsRefused(str(error)) from error
        self._bundles = self._check_shares(body, headers)
        self._checked = asked
        return asked

    def sign(self, survivors: SurvivorSet) -> bytes:
        """Sign the set that `check_survivors` gave: 64 bytes. The same set again: the same answer.

        Call it when the set is on disk. Raises SecondSurvivorSet for any other set from then on.
        """
        secrets = self._present()
        if self._signed is not None:
            self._same(survivors)
        if survivors != self._checked:
            raise SurvivorsRefused(f"survivors of {self.transcript}: not the set that was checked")
        self._signed = survivors
        # From here on keys of pairs within the sum are of no use but to take it apart.
        secrets.pair_keys = {peer: secrets.pair_keys[peer] for peer in self._dropped}
        secrets.share_in = {}
        return survivors.sign(self._identity, self.hospital)

    def reveal(self, body: Reveal, identity_keys: Mapping[str, bytes]) -> Revealed:
        """Give what opens the sum over the set that was signed, and nothing else.

        That is our own mask key, our keys with each of the cohort that is no survivor, and for
        each of the vanished our shares of the same. May be asked again, with others vanished.
        Raises SurvivorsRefused unless a threshold of survivors signed the same set, and a
        threshold of them has not vanished.
        """
        try:
            self._expected(body.run, body.session, body.transcript)
            self._check_reveal(body, identity_keys)
        except SurvivorsRefused:
            raise
        except ProtocolViolation as error:
            raise SurvivorsRefused(str(error)) from error
        secrets = self._present()
        return Revealed(
            self_key=self._self_key.hex(),
            pair_keys={peer: key.hex() for peer, key in secrets.pair_keys.items()},
            shares={v: self._shares_of(v) for v in body.vanished if v in self._bundles},
            unreadable=tuple(v for v in body.vanished if v not in self._bundles),
        )

    def forget(self) -> None:
        """Drop every secret of the attempt: nothing of it can be uploaded or revealed any more."""
        if self._secrets is not None:
            self._secrets.forget()
        self._secrets, self._self_key, self._bundles = None, b"", {}

    @property
    def _dropped(self) -> tuple[str, ...]:
        """Who of the cohort is no survivor of the set that was signed, sorted."""
        survivors = () if self._signed is None else self._signed.survivors
        return tuple(name for name in self.spec.cohort if name not in survivors)

    def _present(self) -> RoundSecrets:
        if self._secrets is None:
            raise ProtocolViolation(f"{self.spec.where}: its secrets are forgotten")
        return self._secrets

    def _sealed_shares(self, secrets: RoundSecrets) -> dict[str, SealedShare]:
        """Shares of our own mask key and of every pair's, for each peer under the pair's key."""
        keys = b"".join((self._self_key, *secrets.pair_keys.values()))
        shares = split(
            np.frombuffer(keys, dtype=np.uint8).reshape(-1, SECRET_BYTES),
            threshold=self.spec.threshold,
            holders=len(self.spec.cohort),
            randomness=self._randomness,
        )
        bundles = dict(zip(self.spec.cohort, shares.astype("<u4"), strict=True))
        return {
            peer: SealedShare(
                commitment=pair_commitment(secrets.transcript, key),
                sealed=seal(
                    bundles[peer].tobytes(),
                    key=secrets.share_out[peer],
                    transcript=secrets.transcript,
                ).hex(),
            )
            for peer, key in secrets.pair_keys.items()
        }

    def _header_of(self, digest: str, shares: dict[str, SealedShare] | None) -> UpdateHeader:
        own = root = None
        if shares is not None:
            own = self_commitment(bytes.fromhex(self.transcript), self._self_key)
            root = pairs_root(share_leaves(shares))
        return UpdateHeader(
            hospital=self.hospital,
            transcript=self.transcript,
            update_digest=digest,
            self_commitment=own,
            pairs_root=root,
        )

    def _expected(self, run: str, session: str, transcript: str) -> None:
        """Only the attempt that we uploaded for, and while we hold its secrets."""
        due = (self.spec.run, self.spec.session, self.transcript)
        if (run, session, transcript) != due:
            raise SurvivorsRefused(
                f"survivors: run {run}, session {session}, transcript {transcript} came, "
                f"{', '.join(due)} was due"
            )
        if self.spec.profile is Profile.ONE_TRIP or self._header is None:
            raise SurvivorsRefused(f"survivors of {transcript}: no upload with double masks left")
        self._present()

    def _same(self, asked: SurvivorSet) -> SurvivorSet:
        if asked != self._signed:
            raise SecondSurvivorSet(f"survivors of {self.transcript}: another set was signed")
        return asked

    def _check_set(self, asked: SurvivorSet, body: Survivors) -> None:
        what = f"survivors of {self.transcript}"
        survivors, spec = asked.survivors, self.spec
        strangers = sorted(set(survivors) - set(spec.cohort))
        if strangers:
            raise SurvivorsRefused(f"{what}: {', '.join(strangers)} is not in the cohort")
        if self.hospital not in survivors:
            raise SurvivorsRefused(f"{what}: {self.hospital} is not among them")
        if len(survivors) < spec.threshold:
            raise SurvivorsRefused(f"{what}: {len(survivors)} came, {spec.threshold} were due")
        if sorted(body.headers) != list(survivors):
            raise SurvivorsRefused(f"{what}: the headers are not those of the survivors")
        if sorted(body.shares) != [name for name in survivors if name != self.hospital]:
            raise SurvivorsRefused(f"{what}: the shares are not those of the other survivors")

    def _check_headers(
        self, body: Survivors, identity_keys: Mapping[str, bytes]
    ) -> dict[str, UpdateHeader]:
        headers = {}
        for name, signed in body.headers.items():
            if name not in identity_keys:
                raise SurvivorsRefused(f"survivors: {name} is not on the roster")
            headers[name] = UpdateHeader.from_json(signed.header)
            headers[name].check(
                bytes.fromhex(signed.signature),
                identity_keys[name],
                hospital=name,
                transcript=self.transcript,
                profile=self.spec.profile,
            )
        if headers[self.hospital] != self._header:
            raise SurvivorsRefused(f"survivors: the header of {self.hospital} is not our own")
        return headers

    def _check_shares(
        self, body: Survivors, headers: Mapping[str, UpdateHeader]
    ) -> dict[str, Shares]:
        """Each bundle that opens, by its sender, shape (cohort, 9)."""
        secrets, bundles = self._present(), {}
        for sender, share in body.shares.items():
            sealed = bytes.fromhex(share.sealed)
            peers = [name for name in self.spec.cohort if name != sender]
            try:
                verify_inclusion(
                    pair_leaf(self.hospital, commitment=share.commitment, sealed=sealed),
                    peers.index(self.hospital),
                    len(peers),
                    [bytes.fromhex(item) for item in share.proof],
                    bytes.fromhex(headers[sender].pairs_root or ""),
                )
            except LogFault as error:
                raise SurvivorsRefused(
                    f"survivors: the shares of {sender} are not those that it signed"
                ) from error
            if share.commitment != pair_commitment(secrets.transcript, secrets.pair_keys[sender]):
                raise SurvivorsRefused(
                    f"survivors: {sender} has signed for another key of our pair", hospital=sender
                )
            opened = self._opened(sealed, secrets.share_in[sender])
            if opened is not None:
                bundles[sender] = opened
        return bundles

    def _opened(self, sealed: bytes, key: bytes) -> Shares | None:
        """The shares of a bundle, shape (cohort, 9); None when `reveal` has to call it unreadable.

        A word that is no share is its dealer's fault: passed on, it would put the blame on us.
        """
        try:
            bundle = open_sealed(sealed, key=key, transcript=bytes.fromhex(self.transcript))
        except ProtocolViolation:
            return None
        if len(bundle) != 4 * ELEMENTS * len(self.spec.cohort):
            return None
        words = np.frombuffer(bundle, dtype="<u4").reshape(-1, ELEMENTS)
        return words if words.max() < PRIME else None

    def _check_reveal(self, body: Reveal, identity_keys: Mapping[str, bytes]) -> None:
        signed, due = self._signed, self.spec.threshold
        what = f"reveal for {self.transcript}"
        if signed is None:
            raise SurvivorsRefused(f"{what}: no survivors were signed")
        for name, signature in body.signatures.items():
            if name not in signed.survivors:
                raise SurvivorsRefused(f"{what}: a signature of {name}, who is no survivor")
            signed.check(name, bytes.fromhex(signature), identity_keys[name])
        if len(body.signatures) < due:
            raise SurvivorsRefused(f"{what}: {len(body.signatures)} signatures, {due} were due")
        vanished = SurvivorSet(self.transcript, body.vanished).survivors
        if not set(vanished) <= set(signed.survivors) - {self.hospital}:
            raise SurvivorsRefused(f"{what}: not all that vanished are other survivors")
        if len(signed.survivors) - len(vanished) < due:
            raise SurvivorsRefused(f"{what}: {len(vanished)} vanished, fewer than {due} are left")

    def _shares_of(self, vanished: str) -> tuple[str, ...]:
        """Our shares of its mask key, and of its keys with those that are no survivors."""
        peers = [name for name in self.spec.cohort if name != vanished]
        rows = (0, *(1 + peers.index(name) for name in self._dropped))
        return tuple(self._bundles[vanished][row].tobytes().hex() for row in rows)
