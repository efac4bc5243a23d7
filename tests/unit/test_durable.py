"""Files that a crash leaves whole, and randomness that is the operating system's."""

import itertools
import os

import numpy as np
import pytest

from wardround.durable import replace_file, write_durably
from wardround.randomness import system_randomness, uniform


class Crash(BaseException):
    """The machine stops here."""


def stopping_at(stop_at, monkeypatch):
    """Let the `stop_at`-th system call of a write be the last."""
    calls = itertools.count(1)

    def counted(real):
        def call(*given, **named):
            if next(calls) == stop_at:
                raise Crash
            return real(*given, **named)

        return call

    for name in ("fsync", "replace", "open"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))


@pytest.mark.parametrize(
    ("stop_at", "survives"), [(1, b"old"), (2, b"old"), (3, b"new"), (4, b"new"), (5, b"new")]
)
def test_a_crash_at_any_system_call_leaves_the_old_content_or_the_new(
    tmp_path, monkeypatch, stop_at, survives
):
    path = tmp_path / "state"
    path.write_bytes(b"old" * 100)
    with monkeypatch.context() as patch:
        stopping_at(stop_at, patch)
        if stop_at == 5:  # a whole write makes four calls: sync, rename, open and sync the folder
            write_durably(path, b"new" * 100)
        else:
            with pytest.raises(Crash):
                write_durably(path, b"new" * 100)
    assert path.read_bytes() == survives * 100


def test_what_is_replaced_is_replaced_whole_and_nothing_stays_beside(tmp_path):
    path = tmp_path / "status.json"
    for write in (write_durably, replace_file):
        for content in (b"first", b"second"):
            write(path, content)
            assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["status.json"]


def test_uniform_values_lie_in_the_half_open_unit_interval_with_53_bits():
    assert uniform(2, lambda count: b"\xff" * count).tolist() == [1 - 2.0**-53] * 2
    assert uniform(2, lambda count: b"\x00" * count).tolist() == [0.0, 0.0]
    drawn = uniform(20_000, np.random.default_rng(1).bytes)
    assert drawn.mean() == pytest.approx(0.5, abs=0.01)
    assert drawn.var() == pytest.approx(1 / 12, abs=0.002)
    assert (drawn * 1.1).var() != pytest.approx(1 / 12, abs=0.002)


def test_system_randomness_never_repeats():
    assert len({system_randomness(16) for _ in range(1000)}) == 1000
