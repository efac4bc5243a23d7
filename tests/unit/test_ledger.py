"""The ledger: durable, append-only, charged before anything leaves, never reset."""

import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from wardround.errors import (
    BadInput,
    ProtocolViolation,
    RefusedByBudget,
    RefusedByPolicy,
    VerificationFailed,
    WardroundError,
)
from wardround.privacy.accounting import epsilon_spent, noise_for
from wardround.privacy.engine import ExactEvaluation, GaussianEvaluation, TrainingEngine
from wardround.privacy.mechanism import Exact, SampledGaussian
from wardround_client.ledger import Ledger

DELTA = 1e-4
ROUND = SampledGaussian(3.0, 0.2, 5)
DIGEST = "aa" * 32


def engine(done, **changes):
    fields = {
        "mechanism": "local",
        "noise_multiplier": done.noise_multiplier,
        "clip_norm_l2": 1.0,
        "sampling_rate": done.sampling_rate,
        "steps": done.steps,
        "records_per_patient": 4,
        "batches_commitment": "ab" * 32,
    }
    return TrainingEngine(**(fields | changes))


def reserve(ledger, number, mechanism=ROUND, purpose="train", run="01" * 16, **more):
    return ledger.reserve(
        study_digest=DIGEST,
        run=run,
        purpose=purpose,
        transcript=f"{number:064x}",
        mechanism=mechanism,
        units=100,
        split=more.pop("split", "held-out 0.25"),
        **more,
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


def test_a_reservation_is_spent_at_once_and_a_commit_changes_nothing_of_it(path):
    with Ledger.open(path, "heart") as ledger:
        assert ledger.spent(DELTA) == 0.0
        release = reserve(ledger, 1)
        due = epsilon_spent([ROUND], delta=DELTA)
        assert ledger.spent(DELTA) == due
        ledger.commit(release, engine(ROUND))
        assert ledger.spent(DELTA) == due
        assert ledger.releases()[0].sent_at is not None


def test_what_was_spent_is_there_after_closing_and_opening(path):
    with Ledger.open(path, "heart") as ledger:
        ledger.commit(reserve(ledger, 1), engine(ROUND))
        reserve(ledger, 2)
        before, releases = ledger.spent(DELTA), ledger.releases()
    with Ledger.open(path, "heart") as ledger:
        assert (ledger.spent(DELTA), ledger.releases()) == (before, releases)


def test_a_process_killed_between_reserve_and_commit_leaves_the_release_spent(path):
    script = f"""
import sys, time
from pathlib import Path
from wardround.privacy.mechanism import SampledGaussian
from wardround_client.ledger import Ledger
ledger = Ledger.open(Path({str(path)!r}), "heart")
ledger.reserve(study_digest="{DIGEST}", run="{"01" * 16}", purpose="train",
    transcript="{"02" * 32}", mechanism=SampledGaussian(3.0, 0.2, 5), units=9, split="s")
print("reserved", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"reserved\n"
        with pytest.raises(WardroundError, match="another process"):
            Ledger.open(path, "heart")
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    with Ledger.open(path, "heart") as ledger:
        assert ledger.spent(DELTA) == epsilon_spent([ROUND], delta=DELTA)
        assert ledger.releases()[0].sent_at is None
        with pytest.raises(ProtocolViolation):
            reserve(ledger, int("02" * 32, 16))


def test_a_second_reservation_for_the_same_transcript_is_refused(path):
    with Ledger.open(path, "heart") as ledger:
        reserve(ledger, 1)
        with pytest.raises(ProtocolViolation, match="once"):
            reserve(ledger, 1)
        assert len(ledger.releases()) == 1


def test_a_second_writer_is_told_so_and_a_reader_is_let_in(path):
    with Ledger.open(path, "heart") as ledger:
        with pytest.raises(WardroundError, match="another process"):
            Ledger.open(path, "heart")
        reserve(ledger, 1)
        reader = Ledger.read(path, "heart")
        assert reader.releases() == ledger.releases()
        with pytest.raises(WardroundError, match="reading only"):
            reserve(reader, 2)
    Ledger.open(path, "heart").close()


def test_less_private_than_reserved_is_charged_and_raised(path):
    loud = SampledGaussian(1.5, 0.2, 5)
    with Ledger.open(path, "heart") as ledger:
        release = reserve(ledger, 1)
        with pytest.raises(WardroundError, match="less private"):
            ledger.commit(release, engine(loud))
        assert ledger.spent(DELTA) == epsilon_spent([loud], delta=DELTA)


def test_an_update_without_noise_under_a_noised_reservation_is_listed(path):
    with Ledger.open(path, "heart") as ledger:
        release = reserve(ledger, 1)
        with pytest.raises(WardroundError, match="less private"):
            ledger.commit(release, engine(ROUND, mechanism="none", noise_multiplier=0.0))
        assert [r.id for r in ledger.exact_releases()] == [release]
        assert ledger.training_was_exact()


def test_more_private_than_reserved_is_charged_as_reserved(path):
    with Ledger.open(path, "heart") as ledger:
        ledger.commit(reserve(ledger, 1), engine(SampledGaussian(9.0, 0.1, 1)))
        assert ledger.spent(DELTA) == epsilon_spent([ROUND], delta=DELTA)


def test_an_unknown_or_second_commit_is_refused(path):
    with Ledger.open(path, "heart") as ledger:
        release = reserve(ledger, 1)
        ledger.commit(release, engine(ROUND))
        for wrong in (release, "00" * 16):
            with pytest.raises(BadInput, match="reservation"):
                ledger.commit(wrong, engine(ROUND))


def test_training_and_evaluation_compose_in_parallel_and_statistics_with_both(path):
    counts = SampledGaussian(6.0, 1.0, 1)
    with Ledger.open(path, "heart") as ledger:
        reserve(ledger, 1)
        ledger.commit(
            reserve(ledger, 2, counts, "evaluate"), GaussianEvaluation(noise_multiplier=6.0)
        )
        alone = [epsilon_spent([mechanism], delta=DELTA) for mechanism in (ROUND, counts)]
        assert ledger.spent(DELTA) == max(alone)
        reserve(ledger, 3, counts, "statistics")
        assert ledger.spent(DELTA) == max(
            epsilon_spent([ROUND, counts], delta=DELTA),
            epsilon_spent([counts, counts], delta=DELTA),
        )


def test_two_different_splits_end_the_parallel_composition(path):
    counts = SampledGaussian(6.0, 1.0, 1)
    with Ledger.open(path, "heart") as ledger:
        reserve(ledger, 1)
        reserve(ledger, 2, counts, "evaluate", split="held-out 0.5")
        assert ledger.spent(DELTA) == epsilon_spent([ROUND, counts], delta=DELTA)


def test_exact_counts_have_no_epsilon_and_are_listed(path):
    with Ledger.open(path, "heart") as ledger:
        release = reserve(ledger, 1, Exact(), "evaluate")
        ledger.commit(release, ExactEvaluation())
        assert ledger.spent(DELTA) == 0.0
        assert [r.id for r in ledger.exact_releases()] == [release]
        assert not ledger.training_was_exact()


def test_a_run_over_the_budget_is_refused_with_an_epsilon_that_fits(path):
    with Ledger.open(path, "heart") as ledger:
        reserve(ledger, 1, SampledGaussian(2.0, 0.2, 20))
        plan = [SampledGaussian(noise_for(3.0, delta=DELTA, sampling_rate=0.2, steps=50), 0.2, 50)]
        more = {"split": "held-out 0.25", "budget_epsilon": 3.2, "delta": DELTA}
        with pytest.raises(RefusedByBudget) as refusal:
            ledger.check_fits(plan, **more)
        fits = refusal.value.epsilon_that_fits
        assert 0.5 < fits < 3.0
        assert f"{fits:.3f} would fit" in str(refusal.value)

        def planned(epsilon):
            noise = noise_for(epsilon, delta=DELTA, sampling_rate=0.2, steps=50)
            return [SampledGaussian(noise, 0.2, 50)]

        assert ledger.check_fits(planned(fits), **more) <= 3.2
        with pytest.raises(RefusedByBudget):
            ledger.check_fits(planned(fits + 0.02), **more)


def test_an_exhausted_budget_has_room_for_nothing(path):
    with Ledger.open(path, "heart") as ledger:
        reserve(ledger, 1, SampledGaussian(1.0, 0.5, 20))
        with pytest.raises(RefusedByBudget) as refusal:
            ledger.check_fits([ROUND], split="held-out 0.25", budget_epsilon=1.0, delta=DELTA)
        assert refusal.value.epsilon_that_fits == 0.0


def test_a_ledger_of_another_dataset_is_refused(path):
    Ledger.open(path, "heart").close()
    with pytest.raises(BadInput, match="heart"):
        Ledger.open(path, "lung")
    Ledger.open(path, "heart").close()


def test_another_unit_than_the_datasets_is_refused(path):
    with Ledger.open(path, "heart") as ledger:
        reserve(ledger, 1)
        with pytest.raises(RefusedByPolicy, match="per patient"):
            reserve(ledger, 2, unit="record")


def test_a_reservation_of_a_wrong_form_is_refused_and_not_written(path):
    with Ledger.open(path, "heart") as ledger:
        with pytest.raises(BadInput, match="run"):
            reserve(ledger, 1, run="not hex")
        assert ledger.releases() == ()


def test_a_missing_file_with_a_mark_beside_it_is_refused(path):
    with Ledger.open(path, "heart") as ledger:
        reserve(ledger, 1)
    path.unlink()
    with pytest.raises(VerificationFailed, match="missing"):
        Ledger.open(path, "heart")
    assert not path.exists()


def test_a_file_rolled_back_to_an_older_copy_is_refused(path, tmp_path):
    Ledger.open(path, "heart").close()
    shutil.copy(path, tmp_path / "old")
    with Ledger.open(path, "heart") as ledger:
        reserve(ledger, 1)
    shutil.copy(tmp_path / "old", path)
    with pytest.raises(VerificationFailed, match="rolled back"):
        Ledger.open(path, "heart")


def test_a_missing_mark_beside_a_used_ledger_is_refused(path):
    with Ledger.open(path, "heart") as ledger:
        reserve(ledger, 1)
    path.with_name(path.name + ".head").unlink()
    with pytest.raises(VerificationFailed, match="no mark"):
        Ledger.open(path, "heart")


def test_a_crash_between_an_entry_and_its_mark_is_no_roll_back(path, tmp_path):
    mark = path.with_name(path.name + ".head")
    with Ledger.open(path, "heart") as ledger:
        reserve(ledger, 1)
        before = mark.read_bytes()
        reserve(ledger, 2)
    mark.write_bytes(before)
    with Ledger.open(path, "heart") as ledger:
        assert len(ledger.releases()) == 2
    assert mark.read_bytes() != before


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE entries SET hash = 'x' WHERE seq = 1",
        "DELETE FROM entries WHERE seq = 1",
        "INSERT OR REPLACE INTO entries VALUES (1, 'x', x'00', 'x')",
    ],
)
def test_the_past_cannot_be_changed_through_sql(path, change):
    with Ledger.open(path, "heart") as ledger:
        reserve(ledger, 1)
    with (
        closing(sqlite3.connect(path)) as connection,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        connection.execute(change)


def test_an_entry_changed_behind_the_triggers_is_found(path):
    with Ledger.open(path, "heart") as ledger:
        reserve(ledger, 1)
        reserve(ledger, 2)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER entries_are_never_changed")
        connection.execute(
            "UPDATE entries SET content = CAST(replace(CAST(content AS TEXT), "
            "'\"steps\":5', '\"steps\":1') AS BLOB) WHERE seq = 1"
        )
    with pytest.raises(VerificationFailed, match="entry 1"):
        Ledger.open(path, "heart")


def test_a_file_that_is_no_ledger_is_refused(path):
    path.write_bytes(b"column_a,column_b\n" * 100)
    with pytest.raises(BadInput, match="not a ledger"):
        Ledger.open(path, "heart")


def test_the_ledger_is_readable_by_its_owner_only(path):
    Ledger.open(path, "heart").close()
    assert path.stat().st_mode & 0o077 == 0


def test_history_has_one_line_a_run_and_the_epsilon_after_it(path):
    with Ledger.open(path, "heart") as ledger:
        ledger.commit(reserve(ledger, 1), engine(ROUND))
        reserve(ledger, 2, run="02" * 16)
        reserve(ledger, 3, Exact(), "evaluate", run="02" * 16)
        first, second = ledger.history(delta=DELTA)
        assert (first.releases, first.never_sent, first.exact) == (1, 0, 0)
        assert (second.releases, second.never_sent, second.exact) == (2, 2, 1)
        assert first.epsilon_after == epsilon_spent([ROUND], delta=DELTA)
        assert second.epsilon_after == ledger.spent(DELTA) > first.epsilon_after


def test_a_directory_that_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(BadInput, match="directory"):
        Ledger.open(tmp_path / "none" / "ledger.sqlite", "heart")
    assert list(tmp_path.iterdir()) == []
