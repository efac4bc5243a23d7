"""An evidence log through appends, crashes, copies, backups and forgers, in any order.

Whatever happens, it holds what was appended, in this order, and what is not an extension of what a
witness saw is refused by the witness or by the check of the whole log.
"""

import shutil
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from wardround.errors import BadSignature, ProtocolViolation
from wardround.evidence.checkpoint import check_entries, verify_checkpoint
from wardround.evidence.entry import FIRST_PREVIOUS, Entry, head_of
from wardround.evidence.export import read_export, write_export
from wardround.evidence.faults import LogFault, LogReason
from wardround.evidence.log import EvidenceLog
from wardround.evidence.merkle import root, verify_consistency
from wardround.evidence.witness import Witness
from wardround.identity import Identity

IDENTITY, THIEF = Identity.generate(), Identity.generate()
KEY = IDENTITY.public_key
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
ACTOR = "cleveland"
KINDS = ("release-reserved", "release-sent", "round-refused")


class LogMachine(RuleBasedStateMachine):
    """`entries` is what the log has to hold; `seen` are (size, root) of checkpoints it signed."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = tempfile.TemporaryDirectory(prefix="wardround-log-")
        self.home = Path(self.kept.name) / "0"
        self.home.mkdir()
        self.copies, self.moment = 0, START
        self.entries: list[Entry] = []
        self.seen: dict[int, bytes] = {}
        self.backups: list[tuple[Path, int]] = []

    @initialize()
    def opens(self) -> None:
        self.log = self.open_at(self.home)
        self.witness = Witness(ACTOR, KEY)

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.log.close()
        self.kept.cleanup()

    def open_at(self, home: Path) -> EvidenceLog:
        return EvidenceLog.open(home / "log.sqlite", ACTOR, IDENTITY)

    def copy_of(self, home: Path) -> Path:
        self.copies += 1
        target = home.parent / str(self.copies)
        shutil.copytree(home, target)
        return target

    # --- what an honest party does ---

    @rule(
        kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
        step_s=st.integers(-60, 60),
        number=st.integers(0, 5),
    )
    def append(self, kinds: list[str], step_s: int, number: int) -> None:
        self.moment += timedelta(seconds=step_s)
        items = [(kind, {"number": number, "at": at}) for at, kind in enumerate(kinds)]
        self.entries += self.log.append_many(items, time=self.moment)

    @rule()
    def reopen(self) -> None:
        self.log.close()
        self.log = self.open_at(self.home)

    @rule()
    def crash(self) -> None:
        """The machine loses its power: the files as they are, nothing closed."""
        image = self.copy_of(self.home)
        self.log.close()
        self.home, self.log = image, self.open_at(image)

    @rule()
    def sign(self) -> None:
        checkpoint = verify_checkpoint(self.log.checkpoint(), KEY)
        assert (checkpoint.size, checkpoint.head) == (len(self.entries), head_of(self.entries))
        self.seen[checkpoint.size] = checkpoint.root

    @rule()
    def show_to_the_witness(self) -> None:
        known = len(self.entries) in self.witness.seen
        news = self.witness.check(self.log.checkpoint(), proofs_for(self.witness, self.log))
        assert (news is None) == known
        self.witness.logged([news] if news else [])
        assert self.witness.seen[len(self.entries)] == head_of(self.entries)

    @rule()
    def back_up(self) -> None:
        self.log.close()
        self.backups.append((self.copy_of(self.home), len(self.entries)))
        self.log = self.open_at(self.home)

    @rule()
    def another_process_writes(self) -> None:
        with self.open_at(self.home) as other:
            self.entries.append(other.append("release-sent", {"by": "another"}, time=self.moment))
        with pytest.raises(LogFault, match=LogReason.SECOND_WRITER):
            self.log.append("release-sent", {"by": "me"}, time=self.moment)
        self.reopen()

    # --- what must hold ---

    @invariant()
    def holds_what_was_appended(self) -> None:
        if hasattr(self, "log"):
            assert (self.log.size, self.log.head) == (len(self.entries), head_of(self.entries))

    @rule()
    def export(self) -> None:
        exported = self.log.export()
        assert exported == write_export(self.entries)
        assert read_export(exported) == self.log.entries() == self.entries
        check_entries(self.entries, verify_checkpoint(self.log.checkpoint(), KEY))
        self.witness.check_history(self.entries)

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def prove(self, data: st.DataObject) -> None:
        """Every checkpoint that it ever signed is one of a prefix, and no other root is."""
        size = data.draw(st.sampled_from(sorted(self.seen)))
        now = verify_checkpoint(self.log.checkpoint(), KEY)
        proof = self.log.consistency_proof(size)
        verify_consistency(size, self.seen[size], now.size, now.root, proof)
        with pytest.raises(LogFault, match=LogReason.NOT_CONSISTENT):
            verify_consistency(size, b"\x01" * 32, now.size, now.root, proof)

    # --- what an attacker does ---

    @precondition(lambda self: self.entries)
    @rule(data=st.data(), how=st.sampled_from(["edit", "drop", "double", "swap", "cut"]))
    def tamper_with_an_export(self, data: st.DataObject, how: str) -> None:
        """Without the key: the damage shows in the file, or against the signed checkpoint."""
        lines = [entry.to_bytes() for entry in self.entries]
        at = data.draw(st.integers(0, len(lines) - 1))
        forged = damaged(lines, at, how)
        if forged == lines:
            return
        with pytest.raises(LogFault):
            self.check_export(b"".join(line + b"\n" for line in forged))

    def check_export(self, content: bytes) -> None:
        check_entries(read_export(content), verify_checkpoint(self.log.checkpoint(), KEY))

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def rewrite_with_the_key(self, data: st.DataObject) -> None:
        """The chain is made anew and signed: whoever saw a later head does not take it."""
        at = data.draw(st.integers(0, len(self.entries) - 1))
        forged = rechained(self.entries, at)
        assert read_export(write_export(forged)) == forged
        for size, old in self.seen.items():
            leaves = [entry.to_bytes() for entry in forged]
            assert (root(leaves[:size]) == old) == (size <= at)
        if max(self.witness.seen, default=0) > at:
            with pytest.raises(ProtocolViolation):
                self.witness.check_history(forged)

    @precondition(lambda self: self.entries)
    @rule(statement=st.sampled_from(["UPDATE entry SET line = x'00'", "DELETE FROM entry"]))
    def write_past_the_log(self, statement: str) -> None:
        refused = pytest.raises(sqlite3.IntegrityError, match="append-only")
        with closing(sqlite3.connect(self.home / "log.sqlite")) as database, refused:
            database.execute(statement)

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def change_the_file_without_its_triggers(self, data: st.DataObject) -> None:
        """All but the last entry: that one only a checkpoint protects."""
        image = self.copy_of(self.home)
        at = data.draw(st.integers(0, len(self.entries) - 1))
        with closing(sqlite3.connect(image / "log.sqlite")) as database:
            for trigger in ("changed", "deleted"):
                database.execute(f"DROP TRIGGER entry_is_never_{trigger}")
            line = self.entries[at].to_bytes().replace(b'"body":{', b'"body":{"a":1,', 1)
            database.execute("UPDATE entry SET line = ? WHERE seq = ?", (line, at))
            database.commit()
        if at < len(self.entries) - 1:
            with pytest.raises(LogFault):
                self.open_at(image)
            return
        with self.open_at(image) as opened, pytest.raises(LogFault):
            check_entries(opened.entries(), verify_checkpoint(self.log.checkpoint(), KEY))

    @precondition(lambda self: self.backups)
    @rule(data=st.data(), grown=st.integers(0, 6))
    def restore_a_backup(self, data: st.DataObject, grown: int) -> None:
        """It opens, for it is whole. Who saw more than it had takes it for no extension."""
        backup, size = data.draw(st.sampled_from(self.backups))
        with self.open_at(self.copy_of(backup)) as restored:
            assert restored.entries() == self.entries[:size]
            for _ in range(grown):
                restored.append("round-refused", {"after": "restoring"}, time=self.moment)
            if max(self.witness.seen, default=0) <= size:
                self.witness.check_history(restored.entries())
                return
            proofs = proofs_for(self.witness, restored)
            with pytest.raises((ProtocolViolation, LogFault)):
                self.witness.check(restored.checkpoint(), proofs)
            with pytest.raises(ProtocolViolation):
                self.witness.check_history(restored.entries())

    @rule()
    def sign_with_another_key(self) -> None:
        self.log.close()
        refused = pytest.raises(BadSignature, match="another key")
        with EvidenceLog.open(self.home / "log.sqlite", ACTOR, THIEF) as stolen, refused:
            self.witness.check(stolen.checkpoint())
        self.log = self.open_at(self.home)


def proofs_for(witness: Witness, log: EvidenceLog) -> dict[int, list[bytes]]:
    """From every head that waits for one, as far as this log reaches."""
    due = [size for size in witness.unproven if size <= log.size]
    return {size: log.consistency_proof(size) for size in due}


def damaged(lines: list[bytes], at: int, how: str) -> list[bytes]:
    """The lines after one edit, deletion, repetition, exchange with the next, or cut."""
    line, rest = lines[at], lines[at + 1 :]
    if how == "edit":
        return [*lines[:at], line.replace(b'"body":{', b'"body":{"a":1,', 1), *rest]
    if how == "swap" and rest:
        return [*lines[:at], rest[0], line, *rest[1:]]
    return {"drop": lines[:at] + rest, "double": [*lines[: at + 1], line, *rest]}.get(
        how, lines[:at]
    )


def rechained(entries: list[Entry], at: int) -> list[Entry]:
    """Entry `at` says something else, and every later one is chained to it."""
    forged: list[Entry] = []
    for entry in entries:
        body = {**entry.body, "forged": True} if entry.seq == at else entry.body
        forged.append(
            Entry(
                seq=entry.seq,
                time=entry.time,
                type=entry.type,
                actor=entry.actor,
                body=body,
                previous=head_of(forged) if forged else FIRST_PREVIOUS,
            )
        )
    return forged


TestEvidenceLog = LogMachine.TestCase
TestEvidenceLog.settings = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
