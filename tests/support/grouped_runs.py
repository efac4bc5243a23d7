"""Whole runs over twelve hospitals in memory, one of which may put garbage under its masks."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.hospitals import Ward
from tests.support.memory_runs import Federation, PlainLanes

from wardround.audit.bundle import RunEvidence, bundle_bytes, evidence_of
from wardround.audit.derive import report_of
from wardround.audit.verdicts import Verdicts
from wardround.audit.verify import verify_bytes
from wardround.canonical import canonical_bytes
from wardround.masking.hospital_round import HospitalRound, Upload
from wardround.protocol.envelope import Vector
from wardround_server.rounds.uploads import UploadStore

TWELVE = tuple(f"ward-{number:02d}" for number in range(12))
BAD = TWELVE[3]
ROUNDS = 7  # one group of four flagged in each: 12 x 4^-7 is below 1e-3
EXACT = {
    "privacy__mechanism": "none",
    "privacy__epsilon": None,
    "privacy__delta": None,
    "privacy__sampling_rate": 0.99,
    "training__expected_batch": 30.0,
    "training__learning_rate": 0.3,
    "rounds__count": ROUNDS,
}
GROUPS = {
    "robust__groups": 4,
    "rounds__quorum": 12,
    "masking__minimum_hospitals": 3,
}
NOISED = {"rounds__quorum": 8, "masking__minimum_hospitals": 2, "robust__groups": 4}
RULES = {
    "mean": {},
    "median": {},
    "trimmed-mean": {"robust__trim": 1},
    "krum": {"robust__wrong": 0},
    "clustering": {},
}
GARBAGE = {
    "large": lambda values: 50.0 * values,
    "flipped": lambda values: -30.0 * values,
    "random": lambda values: 20.0 * np.random.default_rng(values.size).normal(size=values.size),
}


@dataclass
class Finished:
    """A run that has ended, all that is left of it."""

    federation: Federation
    model: Vector
    evidence: RunEvidence
    plain: PlainLanes | None = None

    def verdicts(self) -> Verdicts:
        """What the verifier says of its bundle."""
        evidence = self.evidence
        report = canonical_bytes(report_of(evidence_of(evidence)).to_json())
        identity = self.federation.ward.coordinator.identity()
        return verify_bytes(bundle_bytes(evidence, report, identity=identity))


def run(
    folder: Path,
    *,
    spoil: Callable[[Vector], Vector] | None = None,
    uploads: bool = False,
    **changes: Any,
) -> Finished:
    """A whole run; `spoil` bends what one hospital puts under its masks."""
    ward = Ward.make(folder, TWELVE)
    with pytest.MonkeyPatch.context() as patch:
        plain = PlainLanes(patch)
        real = HospitalRound.upload

        def upload(masking: HospitalRound, values: Vector, **more: int) -> Upload:
            if spoil and masking.hospital == BAD and values.dtype.kind == "f":
                values = spoil(values).astype(np.float32)
            return real(masking, values, **more)

        patch.setattr(HospitalRound, "upload", upload)
        federation = Federation(ward, **changes)
        if uploads:
            federation.uploads = UploadStore(folder / "uploads", 1 << 20)
        model, session = federation.run().train_and_evaluate()
        evidence = federation.close(model, session)
    if federation.uploads is not None:
        evidence = replace(evidence, uploads=federation.uploads.read())
    return Finished(federation, model, evidence, plain)
