"""Masked uploads on the coordinator's disk, for a bundle that lets others add them up again.

Only where coordinator.toml has `keep_uploads_bytes`. A single masked vector says nothing; those of
an attempt together say what the coordinator learnt, the sum. But masks hold as long as X25519 does,
and a bundle lives longer than a run: whoever breaks it one day has each update. So only updates
that carry a hospital's own noise are kept (training, mechanism `local`), of opened sums alone.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wardround.audit.container import MEMBER_LIMIT_BYTES
from wardround.audit.uploads import FIRST_MODEL
from wardround.durable import write_durably
from wardround.masking.keystream import MaskedLanes
from wardround.masking.round_spec import Purpose, RoundSpec
from wardround.protocol.envelope import Vector

_ENDING = ".words"
_MOST_FILES = 500  # of the 2,100 that a bundle holds


@dataclass(frozen=True, slots=True)
class UploadStore:
    """A folder of one run; nothing is kept beyond `limit_bytes`, whole attempts at a time."""

    folder: Path
    limit_bytes: int

    def start(self, model: Vector) -> None:
        """Keep the model that the first round is opened with, once."""
        first = self.folder / f"{FIRST_MODEL}{_ENDING}"
        if not first.exists() and self._fits(model.nbytes):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_durably(first, np.ascontiguousarray(model, dtype="<f4").tobytes())

    def keep(self, spec: RoundSpec, hospital: str, values: MaskedLanes) -> None:
        """One hospital's accepted update, until it is known whether the sum opens."""
        trains = spec.purpose is Purpose.TRAIN
        if not trains or not self._fits(4 * spec.lanes * len(spec.cohort)):
            return
        folder = self._open_attempt(spec)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / hospital).write_bytes(np.ascontiguousarray(values, dtype="<u4").tobytes())

    def opened(self, spec: RoundSpec) -> None:
        """The sum was opened: what came for it stays."""
        folder = self._open_attempt(spec)
        if folder.exists():
            vectors = [(folder / name).read_bytes() for name in spec.cohort]
            write_durably(self.folder / f"{spec.transcript().hex()}{_ENDING}", b"".join(vectors))
            shutil.rmtree(folder)

    def void(self, spec: RoundSpec) -> None:
        """It was not: nobody needs the updates."""
        shutil.rmtree(self._open_attempt(spec), ignore_errors=True)

    def read(self) -> dict[str, bytes]:
        """What a bundle holds of it."""
        kept = sorted(self.folder.glob(f"*{_ENDING}"))
        return {path.name.removesuffix(_ENDING): path.read_bytes() for path in kept}

    def _open_attempt(self, spec: RoundSpec) -> Path:
        return self.folder / "open" / spec.transcript().hex()

    def _fits(self, size_bytes: int) -> bool:
        kept = [path.stat().st_size for path in self.folder.glob(f"*{_ENDING}")]
        small = size_bytes <= min(MEMBER_LIMIT_BYTES, self.limit_bytes - sum(kept))
        return small and len(kept) < _MOST_FILES
