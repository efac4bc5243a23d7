"""The answer on its way, on disk: whole or not there, nobody else's, bounded."""

import hashlib
import os
from pathlib import Path

import pytest

from wardround.errors import BadInput
from wardround_client.outbox import Outbox, Reply

VECTOR = bytes(range(256)) * 5000
LARGE = Reply(
    "ab" * 32,
    b"envelope",
    [b"message", b""],
    memoryview(VECTOR),
    hashlib.sha256(VECTOR).hexdigest(),
)
SMALL = Reply("cd" * 32, b"envelope", [b"message"])


@pytest.fixture
def outbox(tmp_path):
    return Outbox(tmp_path / "outbox", 2_000_000)


@pytest.mark.parametrize("reply", [LARGE, SMALL])
def test_what_was_kept_is_left_until_it_is_emptied(outbox, reply):
    assert outbox.left() is None
    outbox.keep(reply)
    left = outbox.left()
    assert (left.letter, left.envelope, left.objects) == (
        reply.letter,
        reply.envelope,
        list(reply.objects),
    )
    assert left.digest == reply.digest
    assert (left.vector is None) == (reply.vector is None)
    assert reply.vector is None or bytes(left.vector) == VECTOR
    outbox.empty()
    outbox.empty()
    assert outbox.left() is None
    assert outbox.path.stat().st_size == 0


def test_the_file_is_nobody_elses_and_a_new_answer_replaces_the_old(outbox):
    outbox.keep(LARGE)
    assert outbox.path.stat().st_mode & 0o777 == 0o600
    outbox.keep(SMALL)
    assert outbox.left().letter == SMALL.letter
    assert outbox.path.stat().st_size < 1000


@pytest.mark.parametrize("size", [1, 20, 60, 200, 1000, len(VECTOR)])
def test_an_answer_that_was_not_written_to_its_end_is_discarded(outbox, size):
    outbox.keep(LARGE)
    whole = outbox.path.read_bytes()
    outbox.path.write_bytes(whole[:size])
    assert outbox.left() is None
    assert outbox.path.stat().st_size == 0


@pytest.mark.parametrize("place", [0, 19, 30, 70, 120, -1])
def test_an_answer_of_which_a_byte_has_changed_is_discarded(outbox, place):
    outbox.keep(LARGE)
    whole = bytearray(outbox.path.read_bytes())
    whole[place] ^= 1
    outbox.path.write_bytes(whole)
    assert outbox.left() is None


def test_what_is_too_large_is_not_written(outbox):
    outbox.keep(SMALL)
    with pytest.raises(BadInput, match="at most 2000000 fit"):
        outbox.keep(Reply("ab" * 32, bytes(2_000_001), []))
    assert outbox.left().letter == SMALL.letter


class Disk:
    """What would be left after a loss of power: of each file what it held when it was synced."""

    def __init__(self, monkeypatch):
        self._files, self._folders, real = {}, {}, os.fsync

        def synced(descriptor):
            real(descriptor)
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            if path.is_dir():
                self._folders[path] = {each.name for each in path.iterdir()}
            else:
                self._files[path] = path.read_bytes()

        monkeypatch.setattr(os, "fsync", synced)

    def lose_power(self, folder):
        for path in folder.iterdir():
            path.unlink()
        for name in self._folders.get(folder, ()):
            (folder / name).write_bytes(self._files.get(folder / name, b""))


@pytest.mark.parametrize("reply", [LARGE, SMALL])
def test_a_kept_answer_outlives_a_loss_of_power(outbox, monkeypatch, reply):
    disk = Disk(monkeypatch)
    outbox.keep(SMALL)  # makes the file
    disk.lose_power(outbox.path.parent)
    assert outbox.left().letter == SMALL.letter
    outbox.empty()
    outbox.keep(reply)
    disk.lose_power(outbox.path.parent)
    assert outbox.left().letter == reply.letter
    assert outbox.left().digest == reply.digest


def test_power_that_goes_while_it_is_written_leaves_no_half_answer(outbox, monkeypatch):
    disk = Disk(monkeypatch)
    outbox.keep(SMALL)
    outbox.empty()
    monkeypatch.setattr(os, "fsync", lambda _: None)
    outbox.keep(LARGE)
    assert outbox.left().letter == LARGE.letter
    disk.lose_power(outbox.path.parent)  # what was never synced is gone; what was is old, and whole
    assert outbox.left().letter == SMALL.letter


def test_its_content_does_not_show_in_a_log():
    assert "envelope" not in repr(LARGE)
    assert "memory" not in repr(LARGE)
