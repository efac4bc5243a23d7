"""The ledger survives kill -9 at every step, torn writes, a full disk and a clock that jumps."""

import itertools
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from tests.support.dying_writers import killed_at, steps_of, torn_at, with_files_up_to

from wardround.errors import WardroundError
from wardround.privacy.accounting import epsilon_spent
from wardround.privacy.engine import TrainingEngine
from wardround.privacy.mechanism import SampledGaussian
from wardround_client.ledger import Ledger

DELTA = 1e-4
ROUND = SampledGaussian(3.0, 0.2, 5)
ENGINE = TrainingEngine(
    mechanism="local",
    noise_multiplier=3.0,
    clip_norm_l2=1.0,
    sampling_rate=0.2,
    steps=5,
    records_per_patient=1,
    batches_commitment="ab" * 32,
)


def reserve(ledger, number, study="aa" * 32):
    return ledger.reserve(
        study_digest=study,
        run="01" * 16,
        purpose="train",
        transcript=f"{number:064x}",
        mechanism=ROUND,
        units=100,
        split="held-out 0.25",
    )


def rounds(count, *, errors=False):
    """Reserve and commit; say what was reserved only once it was, and go on after an error."""

    def work(path, say):
        with Ledger.open(path, "heart") as ledger:
            say("opened")
            for number in range(len(ledger.releases()), len(ledger.releases()) + count):
                try:
                    release = reserve(ledger, number)
                    say(f"reserved {release}")
                    ledger.commit(release, ENGINE)
                except WardroundError as error:
                    if not errors:
                        raise
                    say(f"{type(error).__name__}: {error}")

    return work


def check_whole(path, said):
    """Nothing that was said to be reserved is missing, the chain holds, and the next one works."""
    reserved = {word.removeprefix("reserved ") for word in said if word.startswith("reserved ")}
    with Ledger.open(path, "heart") as ledger:
        kept = {release.id for release in ledger.releases()}
        assert reserved <= kept
        spent = ledger.spent(DELTA)
        assert spent == epsilon_spent([ROUND] * len(kept), delta=DELTA)
        reserve(ledger, 10**6)
        assert ledger.spent(DELTA) > spent
    Ledger.read(path, "heart")


def a_used_ledger(folder, count=12):
    folder.mkdir(exist_ok=True)
    with Ledger.open(folder / "ledger", "heart") as ledger:
        for number in range(count):
            ledger.commit(reserve(ledger, number), ENGINE)
    return folder


def copy_of(folder, name):
    target = folder.with_name(name)
    shutil.copytree(folder, target)
    return target / "ledger"


@pytest.mark.parametrize("used", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_kill_9_at_every_step_loses_nothing_that_was_reserved(tmp_path, used):
    folder = a_used_ledger(tmp_path / "used", used) if used else tmp_path / "none"
    folder.mkdir(exist_ok=True)
    work = rounds(2)
    steps = steps_of(work, copy_of(folder, "whole"))
    assert steps > 30
    most_said = 0
    for step in range(steps):
        path = copy_of(folder, f"at-{step}")
        said = killed_at(step, work, path)
        assert len(said) < 4
        most_said = max(most_said, len(said))
        check_whole(path, said)
    assert most_said == 3  # opened, and both reservations: the last steps come after them


def test_a_write_that_the_kernel_tears_loses_nothing_that_was_reserved(tmp_path):
    folder = a_used_ledger(tmp_path / "used")
    died_reserving = 0
    for limit in (*range(0, 4096, 1001), *range(32_768, 110_000, 2777)):
        path = copy_of(folder, f"at-{limit}")
        said = torn_at(limit, rounds(6), path)
        died_reserving += 1 < len(said) < 7
        check_whole(path, said)
    assert died_reserving > 12


def test_a_full_disk_is_a_named_error_and_half_an_entry_is_never_left(tmp_path):
    folder = a_used_ledger(tmp_path / "used")
    refused = 0
    for limit in (0, 60, *range(30_000, 110_000, 6999)):
        path = copy_of(folder, f"at-{limit}")
        said = with_files_up_to(limit, rounds(6, errors=True), path)
        errors = [word for word in said if not word.startswith(("opened", "reserved"))]
        assert all(error.startswith("WardroundError: ledger") for error in errors), errors
        refused += bool(errors)
        check_whole(path, said)
    assert refused > 5


def test_a_reservation_whose_mark_could_not_be_written_is_charged_at_once(path_with_full_disk):
    path, ledger = path_with_full_disk
    before = ledger.spent(DELTA)
    with pytest.raises(WardroundError, match="mark"):
        reserve(ledger, 50)
    assert ledger.spent(DELTA) > before
    assert ledger.releases()[-1].sent_at is None
    ledger.close()
    check_whole(path, [f"reserved {ledger.releases()[-1].id}"])


@pytest.fixture
def path_with_full_disk(tmp_path, monkeypatch):
    path = a_used_ledger(tmp_path / "used", 2) / "ledger"
    ledger = Ledger.open(path, "heart")
    with monkeypatch.context() as patched:

        def full(*_):
            raise OSError(28, "No space left on device")

        patched.setattr("wardround.durable.os.fsync", full)
        yield path, Closing(ledger, patched)
    ledger.close()


class Closing:
    """The ledger; closing it gives the disk its space back."""

    def __init__(self, ledger, patched):
        self._ledger, self._patched = ledger, patched

    def __getattr__(self, name):
        return getattr(self._ledger, name)

    def close(self):
        self._patched.undo()
        self._ledger.close()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB. Only root may mount one, and not in every container."""
    point = tmp_path / "small"
    point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(point)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system takes root")
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let a file system be mounted")
    yield point
    subprocess.run(["umount", str(point)], check=True)


def was_reserved(ledger, number):
    try:
        return bool(reserve(ledger, number))
    except WardroundError:
        return False


def test_a_disk_that_fills_up_is_a_named_error_and_room_makes_it_go_on(small_disk):
    path = small_disk / "ledger"
    with Ledger.open(path, "heart") as ledger:
        ballast = small_disk / "ballast"
        free = os.statvfs(small_disk)
        ballast.write_bytes(b"x" * max(0, free.f_bavail * free.f_bsize - 40_960))
        kept = list(itertools.takewhile(partial(was_reserved, ledger), range(1000)))
        before = ledger.releases()
        assert 1 <= len(kept) <= len(before) < 1000
        ballast.unlink()
        reserve(ledger, 5000)
        assert len(ledger.releases()) == len(before) + 1
    check_whole(path, [f"reserved {release.id}" for release in before])


def test_a_clock_that_jumps_by_years_changes_no_order_and_no_epsilon_and_is_named(tmp_path):
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    years = (0, 30, -40, 5, 5)
    times = itertools.chain([noon], (noon + timedelta(days=365 * year) for year in years))
    path = tmp_path / "ledger"
    with Ledger.open(path, "heart", clock=lambda: next(times)) as ledger:
        for number in range(5):
            reserve(ledger, number, study=f"{number // 2:064x}")
    with Ledger.open(path, "heart") as ledger:
        assert [int(r.transcript, 16) for r in ledger.releases()] == list(range(5))
        lines = ledger.history(delta=DELTA)
        assert [line.releases for line in lines] == [2, 2, 1]
        assert [line.clock_went_back for line in lines] == [False, True, False]
        after = [line.epsilon_after for line in lines]
        assert after == [epsilon_spent([ROUND] * n, delta=DELTA) for n in (2, 4, 5)]
        reserve(ledger, 9)
