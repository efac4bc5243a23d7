"""The log on disk, and every kind of damage to an exported one."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from wardround.canonical import canonical_bytes, parse_json
from wardround.errors import BadInput
from wardround.evidence.checkpoint import check_entries, verify_checkpoint
from wardround.evidence.entry import Entry, entry_digest
from wardround.evidence.export import ExportLimits, read_export, write_export
from wardround.evidence.faults import LogFault, LogReason
from wardround.evidence.log import EvidenceLog
from wardround.evidence.merkle import verify_consistency
from wardround.identity import Identity

IDENTITY = Identity.generate()
TIME = datetime(2026, 3, 1, 12, tzinfo=UTC)


def opened(path, actor="cleveland"):
    return EvidenceLog.open(path / "evidence.db", actor, IDENTITY)


@pytest.fixture
def log(tmp_path):
    with opened(tmp_path) as one:
        one.append_many([("release-sent", {"release": at}) for at in range(6)], time=TIME)
        yield one


def lines_of(log):
    return log.export().split(b"\n")[:-1]


def joined(lines):
    return b"".join(line + b"\n" for line in lines)


def edited(line, **changes):
    return canonical_bytes(parse_json(line, what="line", limit_bytes=1 << 20) | changes)


def rechained(lines):
    """Numbers and links made right again, as a forger without the key would do."""
    previous, result = "0" * 64, []
    for seq, line in enumerate(lines):
        result.append(edited(line, seq=seq, previous=previous))
        previous = entry_digest(result[-1])
    return result


def test_an_entry_is_there_after_reopening_and_the_chain_goes_on(tmp_path):
    with opened(tmp_path) as first:
        written = first.append("study-approved", {"officer": "Dr A", "share": 1.0}, time=TIME)
    with opened(tmp_path) as second:
        assert second.entries() == [written]
        following = second.append("run-joined", {}, time=TIME)
    assert following.seq == 1
    assert following.previous == entry_digest(written.to_bytes())
    assert written.body["share"] == 1


def test_a_clock_that_jumps_back_does_not_stop_the_log(log):
    earlier = log.append("release-sent", {}, time=TIME - timedelta(days=1))
    assert [entry.seq for entry in read_export(log.export())] == list(range(7))
    assert earlier.time < TIME


def test_a_transaction_is_all_or_nothing(log):
    with pytest.raises(BadInput):
        log.append_many([("release-sent", {}), ("release-sent", {"x": 2**60})], time=TIME)
    assert log.size == 6
    assert len(log.entries()) == 6


def test_the_file_belongs_to_its_owner_alone(log, tmp_path):
    assert stat.S_IMODE((tmp_path / "evidence.db").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET line = x'00' WHERE seq = 2",
        "DELETE FROM entry WHERE seq = 5",
        "INSERT OR REPLACE INTO entry VALUES (3, x'00')",
        "INSERT INTO entry VALUES (9, x'00')",
        "INSERT INTO entry VALUES (-1, x'00')",
    ],
)
def test_the_database_itself_refuses_a_change(log, tmp_path, statement):
    with (
        sqlite3.connect(tmp_path / "evidence.db") as other,
        pytest.raises(sqlite3.IntegrityError),
    ):
        other.execute(statement)
    other.close()


def test_a_file_changed_past_its_triggers_is_not_opened(log, tmp_path):
    log.close()
    with sqlite3.connect(tmp_path / "evidence.db") as other:
        other.execute("DROP TRIGGER entry_is_never_changed")
        line = other.execute("SELECT line FROM entry WHERE seq = 2").fetchone()[0]
        forged = edited(line, body={"release": 99})
        other.execute("UPDATE entry SET line = ? WHERE seq = 2", (forged,))
    other.close()
    with pytest.raises(LogFault) as refused:
        opened(tmp_path)
    assert (refused.value.reason, refused.value.seq) == (LogReason.CHAIN_BROKEN, 3)


def test_the_log_of_another_party_is_not_opened(log, tmp_path):
    with pytest.raises(LogFault, match="actors-mixed"):
        opened(tmp_path, actor="zurich")


def test_a_file_that_is_no_database_is_not_opened(tmp_path):
    (tmp_path / "evidence.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(LogFault, match="unreadable"):
        opened(tmp_path)


def test_a_database_of_something_else_is_not_opened(tmp_path):
    with sqlite3.connect(tmp_path / "evidence.db") as other:
        other.execute("CREATE TABLE patients (name TEXT)")
    other.close()
    with pytest.raises(LogFault, match="schema version"):
        opened(tmp_path)


@pytest.mark.parametrize("actor", ["", "St. Mary", "../etc", "a" * 80])
def test_a_name_that_is_no_party_opens_nothing(tmp_path, actor):
    with pytest.raises(BadInput):
        opened(tmp_path, actor=actor)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"evidence\.db"):
        opened(tmp_path / "missing")


def test_a_second_writer_is_noticed_and_nothing_is_lost(log, tmp_path):
    with opened(tmp_path) as second:
        second.append("run-joined", {}, time=TIME)
    with pytest.raises(LogFault, match="second-writer"):
        log.append("run-ended", {}, time=TIME)
    assert [entry.type for entry in log.entries()][-1] == "run-joined"


def test_threads_share_one_log(log):
    def write():
        for _ in range(5):
            log.append("release-sent", {}, time=TIME)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_export(log.export())) == 26


def test_a_checkpoint_signs_what_the_export_says(log):
    checkpoint = verify_checkpoint(log.checkpoint(), IDENTITY.public_key)
    check_entries(read_export(log.export()), checkpoint)
    assert (checkpoint.size, checkpoint.head, checkpoint.actor) == (6, log.head, "cleveland")


def test_an_empty_log_has_a_checkpoint(tmp_path):
    with opened(tmp_path) as empty:
        checkpoint = verify_checkpoint(empty.checkpoint(), IDENTITY.public_key)
        check_entries(read_export(empty.export()), checkpoint)


def test_a_grown_log_proves_that_it_only_grew(log):
    old = verify_checkpoint(log.checkpoint(), IDENTITY.public_key)
    log.append_many([("release-sent", {})] * 5, time=TIME)
    new = verify_checkpoint(log.checkpoint(), IDENTITY.public_key)
    proof = log.consistency_proof(old.size)
    verify_consistency(old.size, old.root, new.size, new.root, proof)
    check_entries(log.entries(), old)


MUTATIONS = {
    "edit": (lambda x: [*x[:2], edited(x[2], body={}), *x[3:]], LogReason.CHAIN_BROKEN, 3),
    "insert": (
        lambda x: [*x[:3], edited(x[2], body={}), *x[3:]],
        LogReason.SEQUENCE_TAKEN,
        2,
    ),
    "repeat": (lambda x: [*x[:3], x[2], *x[3:]], LogReason.ENTRY_REPEATED, 2),
    "delete": (lambda x: [*x[:2], *x[3:]], LogReason.SEQUENCE_GAP, 2),
    "delete the first": (lambda x: x[1:], LogReason.SEQUENCE_GAP, 0),
    "reorder": (lambda x: [x[0], x[2], x[1], *x[3:]], LogReason.OUT_OF_ORDER, 1),
    "reverse": (lambda x: x[::-1], LogReason.OUT_OF_ORDER, 0),
    "huge number": (lambda x: [*x[:5], edited(x[5], seq=2**53 - 1)], LogReason.SEQUENCE_GAP, 5),
    "one number written two ways": (
        lambda x: [*x[:4], x[4].replace(b'"release":4', b'"release":4.0'), x[5]],
        LogReason.NOT_CANONICAL,
        4,
    ),
    "other actor": (lambda x: [*x[:5], edited(x[5], actor="zurich")], LogReason.ACTORS_MIXED, 5),
    "first link": (lambda x: [edited(x[0], previous="1" * 64), *x[1:]], LogReason.CHAIN_BROKEN, 0),
    "empty line": (lambda x: [*x, b""], LogReason.MALFORMED, 6),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_damage_of_each_kind_has_its_own_reason_and_place(log, name):
    mutate, reason, seq = MUTATIONS[name]
    with pytest.raises(LogFault) as refused:
        read_export(joined(mutate(lines_of(log))))
    assert (refused.value.reason, refused.value.seq) == (reason, seq)


CHECKPOINT_MUTATIONS = {
    "truncate": (lambda x: x[:5], LogReason.TRUNCATED, 5),
    "edit the last": (lambda x: [*x[:5], edited(x[5], body={})], LogReason.HEAD_DIFFERS, 5),
    "rewrite and chain anew": (
        lambda x: rechained([*x[:2], edited(x[2], body={}), *x[3:]]),
        LogReason.HEAD_DIFFERS,
        5,
    ),
    "insert and chain anew": (
        lambda x: rechained([*x[:3], *x[2:]]),
        LogReason.HEAD_DIFFERS,
        5,
    ),
    "swap logs": (
        lambda x: rechained([edited(line, actor="zurich") for line in x]),
        LogReason.ACTORS_MIXED,
        0,
    ),
}


@pytest.mark.parametrize("name", CHECKPOINT_MUTATIONS)
def test_damage_that_keeps_the_chain_fails_against_the_checkpoint(log, name):
    mutate, reason, seq = CHECKPOINT_MUTATIONS[name]
    checkpoint = verify_checkpoint(log.checkpoint(), IDENTITY.public_key)
    entries = read_export(joined(mutate(lines_of(log))))
    with pytest.raises(LogFault) as refused:
        check_entries(entries, checkpoint)
    assert (refused.value.reason, refused.value.seq) == (reason, seq)


def test_a_root_that_does_not_fit_the_head_is_noticed(log):
    good = verify_checkpoint(log.checkpoint(), IDENTITY.public_key)
    other = type(good)(origin=good.origin, size=good.size, head=good.head, root=b"r" * 32)
    with pytest.raises(LogFault, match="root-differs"):
        check_entries(log.entries(), other)


def test_an_export_without_its_last_line_end_is_refused(log):
    with pytest.raises(LogFault, match="malformed"):
        read_export(log.export()[:-1])


@pytest.mark.parametrize("limits", [ExportLimits(entries=5), ExportLimits(total_bytes=100)])
def test_an_export_beyond_the_limits_is_refused_before_it_is_parsed(log, limits):
    with pytest.raises(LogFault, match="too-large"):
        read_export(log.export(), limits)


def test_an_export_reads_back_as_it_was(log):
    assert write_export(read_export(log.export())) == log.export()


def test_every_changed_byte_of_an_export_is_noticed(log):
    content = log.export()
    checkpoint = verify_checkpoint(log.checkpoint(), IDENTITY.public_key)
    for at in range(0, len(content), 3):
        changed = bytearray(content)
        changed[at] ^= 1
        with pytest.raises(LogFault):
            check_entries(read_export(bytes(changed)), checkpoint)


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from wardround.evidence.log import EvidenceLog
from wardround.identity import Identity

log = EvidenceLog.open(Path(sys.argv[1]), "cleveland", Identity.generate())
while True:
    written = log.append_many([("release-sent", {"x": "y" * 300})] * 3, time=datetime.now(UTC))
    print(written[-1].seq, flush=True)
"""


def killed_writer(path: Path, *, after: int) -> int:
    """Run a writer, kill it as it writes, and return the last number that it saw durable."""
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    seen = -1
    for _ in range(after):
        seen = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    rest = child.stdout.read().split(b"\n")[:-1]
    child.wait()
    child.stdout.close()
    return int(rest[-1]) if rest else seen


def test_kill_9_while_appending_never_breaks_the_chain_nor_loses_an_entry(tmp_path):
    path = tmp_path / "evidence.db"
    for after in (1, 7, 20):
        durable = killed_writer(path, after=after)
        with EvidenceLog.open(path, "cleveland", IDENTITY) as log:
            entries: list[Entry] = log.entries()
            assert len(entries) > durable
            assert len(entries) % 3 == 0
            log.append_many([("run-joined", {})] * 3, time=TIME)
