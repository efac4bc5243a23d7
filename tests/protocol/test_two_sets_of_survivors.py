"""PROTOCOL 9.2 played out: why a study needs 2t > n + colluders, and that this is enough.

Nine hospitals, threshold seven; the coordinator and its colluders do what they like, the honest
ones follow the protocol to the letter. Both with the second implementation.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.support import plain_vectors
from tests.support.plain_coordinator import PlainCoordinator
from tests.support.plain_hospital import (
    PlainRound,
    self_mask_key,
    share_key,
    survivors_message,
)
from tests.support.plain_primitives import PlainFault, gcm_open, keystream, sign
from tests.support.plain_sharing import join, read_share, shares_in, unpack

HONEST = ["anna", "bert", "carl", "dora"]
NAMES = [*HONEST, "emil", "x1", "x2", "x3", "x4"]
BITS = 32


@dataclass
class Conspiracy:
    """An attempt in which everybody has uploaded, and who works for the coordinator."""

    colluders: list[str]
    spec: dict[str, Any] = field(default_factory=dict)
    rounds: dict[str, PlainRound] = field(default_factory=dict)
    sent: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts = plain_vectors.secret_parts(NAMES)
        hospitals = plain_vectors.plain_hospitals(parts)
        directory, _ = plain_vectors.agreed_session(hospitals)
        row = ("train", "double-mask", 0, 1, NAMES, BITS, None, None)
        digest = plain_vectors.directory_digest(directory).hex()
        self.spec = plain_vectors.spec_of(digest, row)
        self.rounds = {name: hospitals[name].begin(self.spec) for name in NAMES}
        for name, each in self.rounds.items():
            self.sent[name] = each.upload(plain_vectors.lanes_of(self.spec, name))

    def coordinator(self, survivors: list[str]) -> PlainCoordinator:
        """What the coordinator says to those it wants to sign these survivors."""
        found = PlainCoordinator(self.spec, self.rounds["anna"].hospital.identities)
        for name in survivors:
            found.take_upload(*self.sent[name])
        for name in self.colluders:
            message = survivors_message(name, found.transcript, found.survivors)
            key = self.rounds[name].hospital.identity_private
            found.take_signature(name, sign(key, "survivors", message))
        return found

    def signs(self, coordinator: PlainCoordinator, name: str) -> None:
        """An honest hospital is asked, and answers."""
        signature = self.rounds[name].survivors(coordinator.survivors_for(name))
        coordinator.take_signature(name, signature)

    def held(self, colluder: str, dealer: str) -> list[list[int]]:
        """The shares that a colluder has from a dealer's bundle."""
        shares = self.sent[dealer][3]
        root, transcript = self.rounds[colluder].roots[dealer], self.transcript
        key = share_key(root, dealer, colluder, transcript)
        return shares_in(gcm_open(key, bytes.fromhex(shares[colluder]["sealed"]), transcript))

    @property
    def transcript(self) -> bytes:
        return self.rounds["anna"].transcript


def test_five_colluders_of_nine_open_one_hospital_by_two_sets_for_one_attempt() -> None:
    plot = Conspiracy(["emil", "x1", "x2", "x3", "x4"])
    assert plot.spec["threshold"] == 7
    first = plot.coordinator(["anna", "bert", *plot.colluders])
    second = plot.coordinator(["anna", "carl", "dora", *plot.colluders])
    for name in ("anna", "bert"):
        plot.signs(first, name)
    for name in ("carl", "dora"):
        plot.signs(second, name)  # to them anna has vanished
    of_anna = plot.rounds["anna"].reveal(first.reveal())
    assert second.reveal()["vanished"] == ["anna"]
    place = 1  # in anna's bundles: her own secret, then her key with bert, who is dropped there
    shares = {1 + NAMES.index(x): plot.held(x, "anna")[place] for x in plot.colluders}
    for name in ("carl", "dora"):
        body = plot.rounds[name].reveal(second.reveal())
        shares[1 + NAMES.index(name)] = read_share(bytes.fromhex(body["shares"]["anna"][place]))
    keys = {peer: bytes.fromhex(key) for peer, key in of_anna["pair_keys"].items()}
    keys |= {"bert": join(shares, 7)}
    keys |= {x: plot.rounds[x].pair_key("anna") for x in plot.colluders}
    assert _unmasked(plot, "anna", of_anna["self_key"], keys) == _lanes(plot, "anna")


def _unmasked(plot: Conspiracy, name: str, secret: str, keys: dict[str, bytes]) -> list[int]:
    assert sorted(keys) == [peer for peer in NAMES if peer != name]
    words = unpack(plot.sent[name][2], BITS, plain_vectors.LANES)
    masks = [(1, self_mask_key(bytes.fromhex(secret), plot.transcript))]
    masks += [(1 if name < peer else -1, key) for peer, key in keys.items()]
    for factor, key in masks:
        stream = keystream(key, len(words))
        words = [word - factor * mask for word, mask in zip(words, stream, strict=True)]
    half = 2 ** (BITS - 1)
    return [(word + half) % 2**BITS - half for word in words]


def _lanes(plot: Conspiracy, name: str) -> list[int]:
    return plain_vectors.lanes_of(plot.spec, name)


@pytest.mark.parametrize("first_signers", [["anna", "bert", "carl"], ["carl", "dora", "emil"]])
def test_four_colluders_of_nine_get_no_second_set_of_signatures(first_signers: list[str]) -> None:
    plot = Conspiracy(["x1", "x2", "x3", "x4"])
    honest = [*HONEST, "emil"]
    first = plot.coordinator([*first_signers, *plot.colluders])
    second = plot.coordinator(NAMES)
    for name in first_signers:
        plot.signs(first, name)
        with pytest.raises(PlainFault, match="second survivor set"):
            plot.signs(second, name)
    others = [name for name in honest if name not in first_signers]
    for name in others:
        plot.signs(second, name)
        with pytest.raises(PlainFault, match="fewer signatures"):
            plot.rounds[name].reveal(second.reveal())
    assert len(second.signatures) == 6
