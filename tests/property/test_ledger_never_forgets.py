"""Whatever the order of reservations, commits and crashes: never less than the true composition."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.privacy.accounting import epsilon_spent
from wardround.privacy.engine import GaussianEvaluation, StatisticsEngine, TrainingEngine
from wardround.privacy.mechanism import SampledGaussian
from wardround_client.ledger import Ledger

DELTA = 1e-4
MECHANISMS = {
    "train": (SampledGaussian(3.0, 0.2, 5), SampledGaussian(1.5, 0.1, 2, truncation=1e-7)),
    "evaluate": (SampledGaussian(6.0, 1.0, 1), SampledGaussian(4.0, 1.0, 1)),
    "statistics": (SampledGaussian(8.0, 1.0, 1), SampledGaussian(5.0, 1.0, 1)),
}
ACTIONS = st.one_of(
    st.tuples(
        st.sampled_from(["reserve", "reserve and commit"]),
        st.sampled_from(["train", "evaluate", "statistics"]),
        st.integers(0, 1),
    ),
    st.tuples(st.sampled_from(["crash", "restart"]), st.just(""), st.just(0)),
)


def engine(mechanism, purpose):
    if purpose == "evaluate":
        return GaussianEvaluation(noise_multiplier=mechanism.noise_multiplier)
    if purpose == "statistics":
        variance = round(mechanism.noise_multiplier**2)
        return StatisticsEngine(share_variance=variance, sensitivity_lanes=1.0, honest=1)
    return TrainingEngine(
        mechanism="local",
        noise_multiplier=mechanism.noise_multiplier,
        clip_norm_l2=1.0,
        sampling_rate=mechanism.sampling_rate,
        steps=mechanism.steps,
        truncation=mechanism.truncation,
        records_per_patient=1,
        batches_commitment="00" * 32,
    )


def crashed(ledger, folder, number):
    """What a machine that lost its power finds: the files as they were, nothing closed."""
    image = folder / str(number)
    files = list(newest(folder).iterdir())
    image.mkdir()
    for file in files:
        shutil.copy(file, image / file.name)
    ledger.close()
    return Ledger.open(image / "ledger", "heart")


def newest(folder):
    return max(folder.iterdir(), key=lambda path: int(path.name))


def restarted(ledger, folder, _):
    """A daemon that was stopped politely and started again."""
    ledger.close()
    return Ledger.open(newest(folder) / "ledger", "heart")


INTERRUPTIONS = {"crash": crashed, "restart": restarted}


def true_epsilon(released):
    """Of the worst-off patient: trained on or held out, and in all statistics."""
    return max(
        epsilon_spent([*released[group], *released["statistics"]], delta=DELTA)
        for group in ("train", "evaluate")
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(ACTIONS, max_size=12))
def test_no_interleaving_of_rounds_and_crashes_reports_less_than_was_released(actions):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "0").mkdir()
        ledger = Ledger.open(folder / "0" / "ledger", "heart")
        truth = {"train": [], "evaluate": [], "statistics": []}
        for number, (action, purpose, which) in enumerate(actions, start=1):
            if action in INTERRUPTIONS:
                ledger = INTERRUPTIONS[action](ledger, folder, number)
                continue
            mechanism = MECHANISMS[purpose][which]
            release = ledger.reserve(
                study_digest="aa" * 32,
                run="01" * 16,
                purpose=purpose,
                transcript=f"{number:064x}",
                mechanism=mechanism,
                units=10,
                split="one",
            )
            truth[purpose].append(mechanism)
            if action == "reserve and commit":
                ledger.commit(release, engine(mechanism, purpose))
        assert ledger.spent(DELTA) >= true_epsilon(truth)
        assert len(ledger.releases()) == sum(map(len, truth.values()))
        ledger.close()
