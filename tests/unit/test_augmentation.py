"""Augmentation: what it does to a picture, that one patient stays one, that evaluation has none."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.support.masked_hospitals import seeded
from tests.support.patient_gradients import (
    belonging,
    clipped_by_definition,
    distance,
    per_patient_gradients,
)
from tests.support.study_plans import image, study_plan
from torch import nn

from wardround.errors import BadInput
from wardround.evaluation.layouts import exact_layout_of
from wardround.models.networks import binary_loss
from wardround.study.task import Augmentation
from wardround_client.cli.review import in_words
from wardround_client.comparison.sites import study_of
from wardround_client.comparison.training import trained
from wardround_client.comparison.ways import counts_of
from wardround_client.gradients.engine import per_patient
from wardround_client.plans import step_sizes
from wardround_client.training.augmentation import augmented
from wardround_client.training.plan import PatientRecords, TrainingPlan
from wardround_client.training.sampling import Batch
from wardround_client.training.step import clip, look_up

WILD = Augmentation(
    shift_pixels=3,
    rotate_degrees=40.0,
    flip_left_right=True,
    flip_up_down=True,
    brightness=0.3,
    contrast=0.5,
    copies=4,
)
AUGMENTED = WILD.model_dump()
NAMES = ("alpha", "beta", "delta", "gamma")


def drawing(*values):
    """Bytes that `uniform` reads as these numbers, over and over: the draws of every image."""
    words = (np.array(values) * 2.0**53).astype(np.uint64) << np.uint64(11)

    def randomness(count):
        return np.resize(words, count // 8).tobytes()

    return randomness


def pictures(records=6, shape=(1, 12, 12), seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (records, *shape))).float()


def same(got, due):
    return got.shape == due.shape and torch.allclose(got, due, atol=1e-4)


def test_a_mirrored_image_is_its_mirror_image_and_some_stay_as_they_are():
    images = pictures(40, (2, 7, 10))
    ways = Augmentation(flip_left_right=True, flip_up_down=True)
    found = augmented(images, ways, seeded("mirrors"))
    mirrors = [(), (3,), (2,), (2, 3)]
    counts = [
        sum(same(found[at : at + 1], images[at : at + 1].flip(axes)) for at in range(40))
        for axes in mirrors
    ]
    assert sum(counts) == 40
    assert min(counts) >= 4  # binomial(40, 1/4): less is one in 3,000


def test_a_shift_moves_whole_pixels_by_no_more_than_is_declared_and_the_edge_goes_on():
    images = pictures(60, (1, 9, 11))
    found = augmented(images, Augmentation(shift_pixels=2), seeded("shifts"))
    wide = nn.functional.pad(images, (2, 2, 2, 2), mode="replicate")
    steps = list(itertools.product(range(5), range(5)))
    moved = set()
    for at in range(60):
        fits = [
            (down, right)
            for down, right in steps
            if same(found[at], wide[at, :, down : down + 9, right : right + 11])
        ]
        assert len(fits) == 1, at
        moved.update(fits)
    assert {down for down, _ in moved} == {right for _, right in moved} == set(range(5))


@pytest.mark.parametrize(("share", "turns"), [(0.75, 1), (0.25, 3), (0.0, 2)])
def test_a_turn_is_about_the_middle_of_the_image(share, turns):
    """Of 180 degrees either way: 0.75 of the draw is a quarter turn one way, 0.25 the other."""
    images = pictures(2, (3, 8, 8))
    found = augmented(images, Augmentation(rotate_degrees=180.0), drawing(share, *[0.5] * 6))
    ways = [same(found, images.rot90(k, (2, 3))) for k in range(4)]
    assert ways == [k == turns for k in range(4)]


def test_a_turn_keeps_shapes_in_an_image_that_is_not_square():
    """A ramp that rises to the right rises along the turned direction, as steep as before."""
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(40.0), indexing="ij")
    ramp = ((columns - 19.5) / 50)[None, None]
    turned = augmented(ramp, Augmentation(rotate_degrees=60.0), drawing(0.75, *[0.5] * 6))
    cosine, sine = np.cos(np.pi / 6), np.sin(np.pi / 6)
    due = ((columns - 19.5) * cosine - (rows - 11.5) * sine) / 50
    middle = np.s_[0, 0, 8:16, 14:26]
    assert torch.allclose(turned[middle], due[8:16, 14:26], atol=1e-4)


def test_brightness_and_contrast_are_shares_of_the_range_and_stay_inside_it():
    images = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]).reshape(1, 1, 1, 5)
    both = Augmentation(brightness=0.1, contrast=0.5)
    # Draws 0.75 and 1.0 (nearly): half of the way up, and all of it.
    found = augmented(images, both, drawing(*[0.5] * 5, 0.75, 1 - 2**-50))
    assert found.flatten().tolist() == pytest.approx([-1.0, -0.65, 0.1, 0.85, 1.0], abs=1e-6)
    assert augmented(images, WILD, seeded("wild")).abs().max() <= 1.0


def test_each_image_has_a_draw_of_its_own_and_the_source_gives_the_same_again():
    images = pictures(1).repeat(5, 1, 1, 1)
    one, again, other = (augmented(images, WILD, seeded(seed)) for seed in ("a", "a", "b"))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert len({tuple(row.flatten().tolist()) for row in one}) == 5


def test_nobody_sampled_is_nothing_to_change():
    assert augmented(pictures(0), WILD, seeded("x")).shape == (0, 1, 12, 12)


def test_what_is_not_declared_is_not_drawn():
    def refused(_count):
        raise AssertionError("drawn without an augmentation")

    batch = Batch(records=np.array([1, 0]), patient_of_record=np.array([0, 1]), patients=2)
    data = PatientRecords(features=pictures(2), labels=torch.ones(2), offsets=np.array([0, 1, 2]))
    drawn = look_up(data, batch, None, refused)
    assert torch.equal(drawn.features, data.features[[1, 0]])


# ---------------------------------------------------------------- one patient stays one


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(400, 1)
    )


PLAN = TrainingPlan(
    mechanism="none",
    noise_multiplier=0.0,
    clip_norm_l2=0.5,
    sampling_rate=0.5,
    records_per_patient=3,
    local_steps=1,
)


def patients(counts, seed=0):
    """Loud images with labels against which the network errs: gradients over the clip norm."""
    features = 0.99 * pictures(sum(counts), seed=seed).sign()
    with torch.no_grad():
        labels = (network()(features).squeeze(-1) < 0).float()
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return PatientRecords(features=features, labels=labels, offsets=offsets)


def everybody(counts):
    owners = np.repeat(np.arange(len(counts)), counts)
    return Batch(records=np.arange(sum(counts)), patient_of_record=owners, patients=len(counts))


def summed(data, batch, augmentation, source, *, apart=False):
    """The clipped sum; `apart` is the fault: every copy a patient of its own."""
    drawn = look_up(data, batch, augmentation, source)
    if apart:
        drawn = replace(drawn, patient_of_record=torch.arange(len(drawn.features)))
    with per_patient(network()) as engine:
        done = clip(
            engine, drawn, binary_loss, PLAN, clip_norm_l2=PLAN.clip_norm_l2, records_at_once=5
        )
    return done.values


@pytest.mark.parametrize("seed", range(5))
def test_all_copies_of_a_patients_images_together_stay_within_one_clip_norm(seed):
    data, batch = patients([3], seed), everybody([3])
    whole = summed(data, batch, WILD, seeded(f"{seed}")).norm()
    assert 0.4 < whole <= 0.5 + 1e-6
    apart = summed(data, batch, WILD, seeded(f"{seed}"), apart=True).norm()
    assert apart > 2 * 0.5  # copies that count as patients break it, and this test would tell


@pytest.mark.parametrize("seed", range(5))
def test_a_patient_more_moves_the_sum_by_one_clip_norm_at_most(seed):
    """Neighbours under the same draws: the last patient's are behind those of the others."""
    counts = [1, 3, 2, 2]
    data = patients(counts, seed)
    fewer = Batch(records=np.arange(6), patient_of_record=everybody(counts[:3]).patient_of_record,
                  patients=3)  # fmt: skip
    stream = np.random.default_rng(seed).bytes(1 << 16)

    def prefix(count):
        return stream[:count]

    moved = summed(data, everybody(counts), WILD, prefix) - summed(data, fewer, WILD, prefix)
    assert 0.4 < moved.norm() <= 0.5 + 1e-5


def test_a_patients_gradient_is_the_mean_over_the_copies_of_its_images():
    """Oracle: torch.func over each changed image, the mean of each patient, one clip, the sum."""
    counts = [1, 3, 2]
    data = patients(counts)
    images = augmented(data.features.repeat_interleave(4, dim=0), WILD, seeded("oracle"))
    labels, owners = data.labels.repeat_interleave(4), belonging([4 * n for n in counts])
    rows = per_patient_gradients(network(), images, labels, owners, binary_loss)
    due = clipped_by_definition(rows, PLAN.clip_norm_l2)
    assert distance(summed(data, everybody(counts), WILD, seeded("oracle")), due) < 1e-5


# ---------------------------------------------------------------- the study, start to end


def plan(augmentation=None, **task):
    declared = {} if augmentation is None else {"augmentation": augmentation}
    value = {"family": "image", "model": "small-cnn", "hidden": [4]} | task | declared
    return study_plan(
        "image",
        "small-cnn",
        columns=image(16),
        task=value,
        privacy={"mechanism": "none", "clip_norm_l2": 1.0, "sampling_rate": 1 - 1e-9},
        rounds={"count": 3, "quorum": 2},
        masking={"minimum_hospitals": 2},
    )


def hospitals(size=6):
    found = {}
    for place, name in enumerate(NAMES):
        data = pictures(size, (1, 16, 16), seed=place)
        labels = torch.arange(size) % 2
        data[labels == 1, :, :, :8] += 0.5
        offsets = np.arange(size + 1)
        found[name] = PatientRecords(
            features=data.clamp(-1, 1), labels=labels.float(), offsets=offsets
        )
    return found


def test_a_study_with_augmentation_is_a_function_of_its_source():
    """Everybody is in every batch and there is no noise: only the images' changes are drawn."""
    still, moving = study_of(plan(), NAMES), study_of(plan(AUGMENTED), NAMES)
    assert np.array_equal(*(trained(still, hospitals(), seeded(seed)) for seed in "ab"))
    one, again, other = (trained(moving, hospitals(), seeded(seed)) for seed in "aab")
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_evaluation_sees_images_as_they_are():
    still, moving = study_of(plan(), NAMES), study_of(plan(AUGMENTED), NAMES)
    model, layout = trained(still, hospitals(), seeded("model")), exact_layout_of(still)
    own = hospitals(40)["beta"]
    before = own.features.clone()
    due = counts_of(still, model, own, layout)
    assert np.array_equal(counts_of(moving, model, own, layout), due)
    assert torch.equal(own.features, before)
    changed = replace(own, features=augmented(own.features, WILD, seeded("changed")))
    assert not np.array_equal(counts_of(still, model, changed, layout), due)


def test_training_leaves_the_hospitals_images_as_they_are():
    data = hospitals()
    before = {name: own.features.clone() for name, own in data.items()}
    trained(study_of(plan(AUGMENTED), NAMES), data, seeded("a"))
    assert all(torch.equal(data[name].features, own) for name, own in before.items())


def test_what_a_study_declares_reaches_the_steps_and_nothing_is_written_without_it():
    assert step_sizes(study_of(plan(AUGMENTED), NAMES)).augmentation == WILD
    assert step_sizes(study_of(plan(), NAMES)).augmentation is None
    assert plan().to_json()["task"] == {"family": "image", "model": "small-cnn", "hidden": [4]}
    assert plan(AUGMENTED).to_json()["task"]["augmentation"]["copies"] == 4


def test_an_officer_is_told_that_training_images_are_changed():
    """And no line more where they are not."""
    model = "  model       small-cnn"
    assert f"{model}; training images are changed at random\n" in in_words(
        study_of(plan(AUGMENTED), NAMES)
    )
    assert f"{model}\n" in in_words(study_of(plan(), NAMES))


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ({"augmentation": {}}, "this augmentation changes nothing"),
        ({"augmentation": {"copies": 4}}, "this augmentation changes nothing"),
        ({"augmentation": {"shift_pixels": 8}}, "shift_pixels 8 came for images of 16 pixels"),
        ({"augmentation": {"shift_pixels": 1, "copies": 17}}, "less than or equal to 16"),
        ({"augmentation": {"rotate_degrees": 181}}, "less than or equal to 180"),
        ({"augmentation": {"brightness": float("nan")}}, "finite"),
        ({"augmentation": {"rotate": 5}}, "the nearest known one is `rotate_degrees`"),
    ],
)
def test_an_augmentation_that_cannot_be_is_refused(task, says):
    with pytest.raises(BadInput, match=says):
        plan(**task)


def test_tables_are_not_augmented():
    task = {"family": "risk", "model": "logistic-regression", "augmentation": {"brightness": 0.1}}
    with pytest.raises(BadInput, match="augmentation belongs to family image, risk came"):
        study_plan("risk", "logistic-regression", task=task)
