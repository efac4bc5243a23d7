"""Masked uploads on the coordinator's disk, for a bundle that lets others add them up again.

Only where coordinator.toml has `keep_uploads_bytes`. A single masked vector says nothing; those of
the survivors of an attempt, with the mask keys that were revealed for it, say what the coordinator
learnt, the sum. But masks hold as long as X25519 and ML-KEM do, and a bundle lives longer than a
run: whoever breaks them one day has each update. So only updates that carry a hospital's own noise
are kept (training, mechanism `local`), of opened sums alone.
"""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wardround.audit.container import MEMBER_LIMIT_BYTES
from wardround.audit.uploads import FIRST_MODEL
from wardround.canonical import Json, canonical_bytes
from wardround.durable import write_durably
from wardround.masking.packing import packed_size
from wardround.masking.round_spec import Purpose, RoundSpec
from wardround.protocol.envelope import Vector

_WORDS, _KEYS = ".words", ".keys"
_MOST_FILES = 500  # of the 2,100 that a bundle holds
_KEY_BYTES = 200  # one of the keys' JSON, names and all


@dataclass(frozen=True, slots=True)
class UploadStore:
    """A folder of one run; nothing is kept beyond `limit_bytes`, whole attempts at a time."""

    folder: Path
    limit_bytes: int

    def start(self, model: Vector) -> None:
        """Keep the model that the first round is opened with, once."""
        first = self.folder / f"{FIRST_MODEL}{_WORDS}"
        if not first.exists() and self._fits(model.nbytes):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_durably(first, np.ascontiguousarray(model, dtype="<f4").tobytes())

    def keep(self, spec: RoundSpec, hospital: str, blocks: Iterable[memoryview]) -> None:
        """One hospital's accepted update, until it is known whether the sum opens."""
        hospitals = len(spec.cohort)
        keys_bytes = _KEY_BYTES * hospitals * hospitals
        size_bytes = packed_size(spec.lanes, spec.bits) * hospitals + keys_bytes
        if spec.purpose is not Purpose.TRAIN or not self._fits(size_bytes):
            return
        folder = self._open_attempt(spec)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (folder / hospital).open("wb") as file:
            file.writelines(blocks)

    def opened(self, spec: RoundSpec, survivors: Sequence[str], keys: Json) -> None:
        """The sum was opened: what came for it stays, with the keys that take its masks off.

        `keys` are those of `CoordinatorRound.mask_keys`.
        """
        folder = self._open_attempt(spec)
        if not folder.exists():
            return
        vectors = [(folder / name).read_bytes() for name in sorted(survivors)]
        transcript = spec.transcript().hex()
        write_durably(self.folder / f"{transcript}{_KEYS}", canonical_bytes(keys))
        write_durably(self.folder / f"{transcript}{_WORDS}", b"".join(vectors))
        shutil.rmtree(folder)

    def void(self, spec: RoundSpec) -> None:
        """It was not: nobody needs the updates."""
        shutil.rmtree(self._open_attempt(spec), ignore_errors=True)

    def read(self) -> dict[str, bytes]:
        """What a bundle holds of it: vectors by transcript, keys by transcript and ".keys".

        Keys without vectors, of a coordinator that died between the two, are left out.
        """
        found = {}
        for path in sorted(self.folder.glob(f"*{_WORDS}")):
            found[path.stem] = path.read_bytes()
            keys = path.with_suffix(_KEYS)
            if keys.exists():
                found[keys.name] = keys.read_bytes()
        return found

    def _open_attempt(self, spec: RoundSpec) -> Path:
        return self.folder / "open" / spec.transcript().hex()

    def _fits(self, size_bytes: int) -> bool:
        kept = [path.stat().st_size for path in self.folder.glob("*.*")]
        small = size_bytes <= min(MEMBER_LIMIT_BYTES, self.limit_bytes - sum(kept))
        return small and len(kept) < _MOST_FILES
