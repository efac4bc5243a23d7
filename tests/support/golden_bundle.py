"""Make a golden bundle: `python -m tests.support.golden_bundle FOLDER`, once for each schema.

A real run in memory: four hospitals with generated patients, two rounds, an evaluation, audited
engines, masked uploads; one hospital is lost before it revealed in the first round, another before
its upload in the second. Keys and moments are new each time, so what is kept in
tests/vectors/golden is never made again.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from flwr.app import RecordDict
from tests.support.hospitals import LANES, NAMES, Ward
from tests.support.memory_runs import Federation

from wardround.audit.bundle import RunEvidence, write_bundle
from wardround.audit.verdicts import Verdicts
from wardround.audit.verify import verify_bytes
from wardround.canonical import canonical_bytes
from wardround.protocol.envelope import unseal
from wardround.protocol.messages import Reveal, Work
from wardround_server.rounds.uploads import UploadStore

BUNDLE, VERDICTS = "bundle.zip", "verdicts.json"
MOST_UPLOADS_BYTES = 1 << 20


def lost() -> Callable[..., RecordDict | None]:
    """Whose connection is lost at which question of which round."""
    revealed: set[str] = set()

    def reply(name: str, question: RecordDict, answer: RecordDict) -> RecordDict | None:
        body, _ = unseal(question, lanes=LANES)
        second = isinstance(body, Work) and body.spec["round"] == 1
        first = isinstance(body, Reveal) and revealed <= {body.transcript}
        if isinstance(body, Reveal):
            revealed.add(body.transcript)
        gone = name == "northside" if first else second and name == "lakeside"
        return None if gone else answer

    return reply


def run(ward: Ward) -> RunEvidence:
    """An honest run from the first message to the last countersignature."""
    for hospital in ward.hospitals.values():
        hospital.set_policy(empirical_audit="true")
    federation = Federation(ward, lost())
    loop = federation.run()
    loop.uploads = UploadStore(ward.folder / "uploads", MOST_UPLOADS_BYTES)
    parts = federation.close(*loop.train_and_evaluate())
    return replace(parts, uploads=loop.uploads.read())


def said(verdicts: Verdicts) -> bytes:
    """What `audit verify --json` says of a bundle, in one spelling."""
    return canonical_bytes(verdicts.to_json())


def make(folder: Path) -> None:
    """Write the bundle and the verdicts on it."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as home:
        ward = Ward.make(Path(home), (*NAMES, "riverside"))
        parts = run(ward)
        write_bundle(folder / BUNDLE, parts, identity=ward.coordinator.identity())
        ward.close()
    verdicts = verify_bytes((folder / BUNDLE).read_bytes())
    assert verdicts.ok, list(verdicts.lines())
    (folder / VERDICTS).write_bytes(said(verdicts))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
