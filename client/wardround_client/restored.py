"""A ledger that knows less than the evidence logs was restored from an old copy, or removed.

A file that is older than its mark is found by the ledger itself. File and mark restored together
look whole: only what the hospital wrote elsewhere, at the time, tells.
"""

from collections.abc import Iterator
from pathlib import Path

from wardround.errors import VerificationFailed
from wardround.evidence.log import EvidenceLog
from wardround.identity import Identity
from wardround_client.ledger import Ledger


def refuse_a_restored_ledger(
    directory: Path, dataset: str, ledger: Ledger, *, actor: str, identity: Identity
) -> None:
    """Every release that this hospital's logs say was reserved must be in a ledger of it.

    A log does not say which dataset a release was of, so one that no ledger holds stops them all.
    Raises VerificationFailed with the dataset and the counts; LogFault for a damaged log.
    """
    kept = {release.id for release in ledger.releases()}
    missing = set(_reserved(directory / "evidence", actor, identity)) - kept
    for other in sorted((directory / "ledgers").glob("*.sqlite")) if missing else ():
        if other.stem != dataset:
            with Ledger.read(other, other.stem) as beside:
                missing -= {release.id for release in beside.releases()}
    if missing:
        raise VerificationFailed(
            f"ledger {dataset}: it has {len(kept)} releases, and the evidence logs know of "
            f"{len(missing)} that no ledger of this hospital has; one was restored from an old "
            "copy, or removed: put the newest back, what was spent cannot be forgotten"
        )


def _reserved(logs: Path, actor: str, identity: Identity) -> Iterator[str]:
    for path in sorted(logs.glob("*.sqlite")):
        with EvidenceLog.open(path, actor, identity) as log:
            for entry in log.entries():
                if entry.type == "release-reserved":
                    yield str(entry.body["release"])
