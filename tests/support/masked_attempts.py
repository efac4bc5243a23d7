"""One attempt carried between hospitals in memory and a coordinator, message by message.

Every body goes through its real bytes: what is sent is parsed again, as it is at the rim.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import TypeVar

import numpy as np
from tests.support.masked_hospitals import MaskedFleet, plain_sum

from wardround.canonical import canonical_bytes, parse_canonical
from wardround.masking.coordinator_round import CoordinatorRound
from wardround.masking.hospital_round import HospitalRound, Upload
from wardround.masking.quantise import Lanes
from wardround.masking.round_spec import RoundSpec
from wardround.protocol.messages import Reveal, Survivors, Update
from wardround.study.contract import Frozen

Body = TypeVar("Body", bound=Frozen)


def carried(body: Body) -> Body:
    """What the other side reads of a body."""
    text = canonical_bytes(body.model_dump(mode="json"))
    return type(body).model_validate(parse_canonical(text, what="body", limit_bytes=64 << 20))


def as_update(upload: Upload) -> Update:
    """The body of an upload; engine and checkpoint are for others to look at."""
    return carried(
        Update(
            header=upload.header.to_json(),
            signature=upload.signature.hex(),
            engine={},
            checkpoint="",
            shares=upload.shares,
        )
    )


def give(coordinator: CoordinatorRound, hospital: str, update: Update, packed: bytes) -> None:
    """Hand an upload over as whoever received it does, in blocks of a few bytes."""
    blocks = [packed[start : start + 1000] for start in range(0, len(packed), 1000)]
    coordinator.take_upload(
        hospital,
        update.header,
        bytes.fromhex(update.signature),
        update.shares,
        lambda: iter(blocks),
        digest=sha256(packed).hexdigest(),
        size_bytes=len(packed),
    )


class MaskedAttempt:
    """Everybody of a spec's cohort, each with its lanes; who does what is for the test to say."""

    def __init__(
        self, fleet: MaskedFleet, spec: RoundSpec, lanes: Mapping[str, Lanes] | None = None
    ) -> None:
        self.fleet, self.spec = fleet, spec
        self.lanes = dict(lanes or random_lanes(spec))
        self.coordinator = CoordinatorRound(spec, fleet.identity_keys)
        self.rounds: dict[str, HospitalRound] = {}
        self.uploads: dict[str, Upload] = {}
        self.survivors: dict[str, Survivors] = {}
        self.reveals: dict[str, Reveal] = {}

    def upload(self, *names: str) -> None:
        """M1 for these."""
        for name in names:
            self.rounds[name] = self.fleet[name].begin(self.spec)
            upload = self.uploads[name] = self.rounds[name].upload(self.lanes[name])
            give(self.coordinator, name, as_update(upload), upload.packed.tobytes())

    def close_uploads(self) -> None:
        """M2."""
        self.survivors = self.coordinator.close_uploads()

    def sign(self, *names: str) -> None:
        """M3 for these."""
        for name in names:
            each = self.rounds[name]
            checked = each.check_survivors(carried(self.survivors[name]), self.fleet.identity_keys)
            self.coordinator.take_signature(name, each.sign(checked))

    def close_signatures(self) -> None:
        """M4."""
        self.reveals = self.coordinator.close_signatures()

    def reveal(self, *names: str) -> None:
        """M5 for these."""
        for name in names:
            asked = carried(self.reveals[name])
            answer = self.rounds[name].reveal(asked, self.fleet.identity_keys)
            self.coordinator.take_reveal(name, carried(answer))

    def ask_again(self) -> bool:
        """Whether somebody has to be asked once more."""
        self.reveals = self.coordinator.still_needed()
        return bool(self.reveals)

    def run(
        self,
        *,
        dropped: Iterable[str] = (),
        unsigned: Iterable[str] = (),
        silent: Iterable[str] = (),
    ) -> list[int]:
        """The whole attempt, when these go away before upload, signature and reveal."""
        dropped, unsigned, silent = set(dropped), set(unsigned), set(silent)
        self.upload(*(name for name in self.spec.cohort if name not in dropped))
        self.close_uploads()
        self.sign(*(name for name in self.coordinator.survivors if name not in unsigned))
        self.close_signatures()
        self.reveal(*(name for name in self.reveals if name not in silent))
        while self.ask_again():
            self.reveal(*self.reveals)
        return self.coordinator.open().tolist()

    def plain(self, names: Iterable[str] | None = None) -> list[int]:
        """The sum that is due, over the survivors or over these."""
        due = self.coordinator.survivors if names is None else names
        return plain_sum(self.lanes[name] for name in due)


def random_lanes(spec: RoundSpec, seed: int = 1) -> dict[str, Lanes]:
    """Lanes within the limit, both limits among them."""
    generator = np.random.default_rng(seed)
    vectors = {}
    for name in spec.cohort:
        drawn = generator.integers(-spec.limit, spec.limit + 1, spec.lanes)
        drawn[:2] = (spec.limit, -spec.limit)[: drawn[:2].size]
        vectors[name] = drawn.astype(np.int32)
    return vectors
