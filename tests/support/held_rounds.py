"""A run of real processes held still between two messages of a round, by freezing hospitals.

Nothing in the product helps: stages are read from the files that parties keep for themselves, the
coordinator's status.json and a hospital's record of its last attempt.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support.small_federation import Federation, read_json, until

from wardround.study.manifest import Study

RUN_TIMEOUT_S = 200.0
_SETTLE_S = 2.0


def until_round(ward: Federation, study: Study, point: int) -> None:
    """Wait until the run is in this round, or over."""
    folder = ward.run_folder(study)

    def there() -> bool:
        status = read_json(folder / "status.json")
        if (folder / "result.json").exists() or status.get("state") in {"closing", "done"}:
            return True
        trains = status.get("state") in {"train", "evaluate"}
        return bool(status) and (point < 0 or (trains and status["round"] >= point))

    until(f"round {point} of {study.name}: {ward.processes.logs}", there, RUN_TIMEOUT_S)


class HeldRun:
    """A study that runs, with hospitals that can be frozen in mid-round."""

    def __init__(self, ward: Federation, study: Study) -> None:
        self.ward = ward
        self.study = study

    def accepted(self) -> tuple[int, frozenset[str]]:
        """The training round that is open, and whose updates of it have been accepted."""
        status = read_json(self.ward.run_folder(self.study) / "status.json")
        if status.get("state") != "train":
            return -1, frozenset()
        now = f"round {status['round'] + 1}"
        states = status.get("hospitals", {})
        return status["round"], frozenset(n for n, state in states.items() if state == now)

    def signed(self, hospital: str) -> bool:
        """Whether this hospital has signed survivors of its last attempt, and sent that."""
        home = self.ward.hospital(hospital)
        record, outbox = home.attempt_file(self.study.digest), home.directory / "outbox"
        written_ns = record.stat().st_mtime_ns
        if read_json(record)["survivors"] is None:
            return False
        kept = outbox.stat()
        return kept.st_size == 0 and kept.st_mtime_ns > written_ns

    @contextmanager
    def before_its_update(self, hospital: str, *, beyond: int) -> Iterator[int]:
        """Hold `hospital` in a round after `beyond` in which all others' updates were accepted.

        Yields the round. It may be let go within (`let_go`).
        """
        others = frozenset(self.study.names()) - {hospital}
        until(f"round {beyond + 1}", lambda: self.accepted()[0] > beyond)
        while not self._caught(hospital, others):
            self.let_go(hospital)
            time.sleep(0.07)
        try:
            yield self.accepted()[0]
        finally:
            self.let_go(hospital)

    def freeze(self, hospital: str) -> None:
        """Stop its process as a machine does that hangs."""
        os.kill(self.ward.pid(f"hospital-{hospital}"), signal.SIGSTOP)

    def let_go(self, hospital: str) -> None:
        """It goes on where it was."""
        with suppress(ProcessLookupError):
            os.kill(self.ward.pid(f"hospital-{hospital}"), signal.SIGCONT)

    @contextmanager
    def before_its_signature(self, hospital: str, late: str, *, beyond: int) -> Iterator[int]:
        """Hold `hospital` when its update is in and all others have signed the survivors.

        `late` is who keeps the round open until then.
        """
        others = frozenset(self.study.names()) - {hospital}
        with self.before_its_update(late, beyond=beyond) as number:
            self.freeze(hospital)
            try:
                self.let_go(late)
                until("the others have signed", lambda: all(map(self.signed, others)), 25)
                yield number
            finally:
                self.let_go(hospital)

    def _caught(self, hospital: str, others: frozenset[str]) -> bool:
        """Freeze it; whether the others' updates come in and its own does not."""
        self.freeze(hospital)
        end = time.monotonic() + _SETTLE_S
        while time.monotonic() < end:
            number, accepted = self.accepted()
            if number >= 0 and accepted >= others:
                return hospital not in accepted
            time.sleep(0.02)
        return False
