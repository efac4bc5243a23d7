"""A file that knows less than the evidence logs was restored from an old copy, or removed.

A ledger that is older than its mark is found by the ledger itself. File and mark restored together
look whole: only what the hospital wrote elsewhere, at the time, tells. So it is with the record of
the last attempt: an old one would let the hospital answer twice, or sign two sets of survivors.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wardround.canonical import Json
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


@dataclass(slots=True)
class LoggedAttempt:
    """The last attempt that a study's evidence log knows of, and the survivors that were signed."""

    transcript: str | None = None
    survivors: tuple[str, ...] | None = None

    def see(self, entries: Iterable[tuple[str, Json]]) -> None:
        """Take up what was logged, in order."""
        for kind, body in entries:
            if kind == "release-reserved":
                self.transcript, self.survivors = str(body["transcript"]), None
            elif kind == "survivors-signed" and body["transcript"] == self.transcript:
                self.survivors = tuple(body["survivors"])


def refuse_a_restored_attempt(
    *,
    transcript: str | None,
    after: str | None,
    survivors: tuple[str, ...] | None,
    logged: LoggedAttempt,
    study: str,
) -> None:
    """The record of the last attempt must be of the last one logged, or of the one begun after it.

    It is written before the log, so a crash may leave it one step ahead, and never behind. Raises
    VerificationFailed.
    """
    if transcript == logged.transcript:
        if logged.survivors is None or survivors == logged.survivors:
            return
    elif transcript is not None and after == logged.transcript:
        return
    raise VerificationFailed(
        f"attempts of study {study}: the record of the last attempt and the evidence log do not "
        "go together; one was restored from an old copy, or removed: put the newest back, what "
        "was answered and signed cannot be forgotten"
    )
