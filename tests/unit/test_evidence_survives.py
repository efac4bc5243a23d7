"""Evidence log and durable files: whole after kill -9, torn writes and on a full disk."""

from datetime import UTC, datetime

import pytest
from tests.support.dying_writers import killed_at, steps_of, torn_at, with_files_up_to

from wardround.durable import write_durably
from wardround.evidence.log import EvidenceLog
from wardround.identity import Identity

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
IDENTITY = Identity.generate()


def appends(path, say):
    with EvidenceLog.open(path, "harbour", IDENTITY) as log:
        for number in range(log.size, log.size + 6, 2):
            entries = [("noted", {"number": n, "text": "x" * 7000}) for n in (number, number + 1)]
            log.append_many(entries, time=NOON)
            say(f"{number + 2}")


def check_log(path, said):
    numbers = [int(word) for word in said if word.isdigit()]
    with EvidenceLog.open(path, "harbour", IDENTITY) as log:
        assert log.size >= max(numbers, default=0)
        assert log.size % 2 == 0
        assert [entry.body["number"] for entry in log.entries()] == list(range(log.size))
        log.append("noted", {"number": log.size}, time=NOON)


def test_kill_9_at_every_step_leaves_all_or_nothing_of_an_append(tmp_path):
    steps = steps_of(appends, tmp_path / "whole")
    assert steps > 20
    for step in range(steps):
        path = tmp_path / f"at-{step}"
        check_log(path, killed_at(step, appends, path))


@pytest.mark.parametrize("doomed", [torn_at, with_files_up_to])
def test_a_torn_write_or_a_full_disk_leaves_all_or_nothing_of_an_append(tmp_path, doomed):
    cut_short = 0
    for limit in (0, *range(32_768, 90_000, 3999)):
        path = tmp_path / f"at-{limit}"
        said = doomed(limit, appends, path)
        errors = [word for word in said if not word.isdigit()]
        assert all(word.startswith(("LogFault", "BadInput")) for word in errors), errors
        cut_short += len([word for word in said if word.isdigit()]) < 3
        check_log(path, said)
    assert cut_short > 2


def test_a_durable_file_is_the_old_or_the_new_after_kill_9_at_every_step(tmp_path):
    old, new = b"o" * 70_000, b"n" * 70_000

    def replaced(path, say):
        write_durably(path, new)
        say("new")

    path = tmp_path / "file"
    steps = steps_of(replaced, path)
    assert steps >= 6
    seen = set()
    for step in range(steps):
        path.write_bytes(old)
        said = killed_at(step, replaced, path)
        assert said == []
        seen.add(path.read_bytes())
    assert seen == {old, new}
    path.write_bytes(old)
    assert torn_at(33_000, replaced, path) == []
    assert path.read_bytes() == old
