"""Every family: shapes, losses of one record each, what outputs mean, gradients per patient."""

import warnings

import numpy as np
import pytest
import torch
from tests.support.patient_gradients import (
    belonging,
    clipped_by_definition,
    clipped_sum,
    distance,
    per_patient_gradients,
)
from tests.support.study_plans import (
    CLASSES,
    EVENT,
    MANY,
    NONE,
    NUMBERS,
    STUDIES,
    image,
    study_plan,
)
from torch import nn

from wardround.errors import BadInput
from wardround.models import gan
from wardround.models.family import family_of, readings
from wardround.models.image import reference_cnn, resnet18
from wardround.models.losses import (
    class_loss,
    hazard_loss,
    multi_label_loss,
    reconstruction_loss,
    squared_loss,
)
from wardround.models.networks import build
from wardround.models.readings import anomaly, event_probabilities
from wardround.study.contract import TimeToEvent

TIME = TimeToEvent(unit="d", edges=(100.0, 200.0, 400.0))


def labels_of(study, records):
    """Labels as a hospital encodes them, with every kind of answer among them."""
    random = np.random.default_rng(records)
    label = study.contract.label
    if label.time is not None:
        times = random.uniform(1, 500, records)
        return torch.tensor(np.stack([times, random.integers(0, 2, records)], axis=1)).float()
    if label.targets:
        values = random.uniform(-1, 1, (records, len(label.targets)))
        values = values if label.numbers else (values > 0).astype(float)
        values[0, 0] = values[1] = np.nan
        return torch.tensor(values).float()
    return torch.tensor(random.integers(0, max(2, len(label.classes)), records)).float()


def batch_of(study, counts):
    patients = belonging(counts)
    torch.manual_seed(len(patients))
    features = torch.rand(len(patients), *study.contract.input_shape()) * 2 - 1
    return features, labels_of(study, len(patients)), patients


def random_start(study):
    """Not the study's own start: a logistic regression begins at zero, where much is equal."""
    model = build(study)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def gradients_by_definition(model, features, targets, patients, loss):
    if not any(isinstance(layer, nn.RNNBase) for layer in model.modules()):
        return per_patient_gradients(model, features, targets, patients, loss)
    # vmap knows no recurrent layer: one record after the other
    counts = torch.bincount(patients)
    sums = {name: torch.zeros(len(counts), *p.shape) for name, p in model.named_parameters()}
    for record, patient in enumerate(patients.tolist()):
        one = slice(record, record + 1)
        own = torch.autograd.grad(
            loss(model(features[one]), targets[one]).sum(), list(model.parameters())
        )
        for name, gradient in zip(sums, own, strict=True):
            sums[name][patient] += gradient / counts[patient]
    return sums


@pytest.mark.parametrize("counts", [(1,) * 6, (3, 1, 2)])
@pytest.mark.parametrize("name", STUDIES)
def test_the_engines_clipped_sum_is_that_of_the_definition(name, counts):
    study = STUDIES[name]()
    family, model = family_of(study), random_start(study)
    features, labels, patients = batch_of(study, counts)
    targets, loss = family.targets(features, labels), family.loss(study)
    gradients = gradients_by_definition(model, features, targets, patients, loss)
    norms = torch.cat([g.flatten(1) for g in gradients.values()], dim=1).norm(dim=1)
    clip = float(norms.median())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a layer that is slow is warned of
        got = clipped_sum(model, features, targets, patients, loss, clip_norm_l2=clip)
    assert norms.max() > clip
    assert distance(got.values, clipped_by_definition(gradients, clip)) < 2e-5
    assert got.without_gradient == 0


@pytest.mark.parametrize("name", STUDIES)
def test_a_reading_has_the_labels_channels_in_0_to_1_and_is_the_same_in_parts(name):
    study = STUDIES[name]()
    features, _, _ = batch_of(study, (1,) * 7)
    model = random_start(study)
    whole = readings(model, features, study)
    assert whole.shape == (7, max(1, len(study.contract.label.channels)))
    assert whole.dtype == np.float64
    assert ((whole >= 0) & (whole <= 1)).all()
    np.testing.assert_allclose(
        readings(model, features, study, records_at_once=3), whole, atol=1e-6
    )
    assert readings(model, features[:0], study).shape == (0, whole.shape[1])


@pytest.mark.parametrize("name", STUDIES)
def test_no_record_reaches_the_output_of_another_one(name):
    study = STUDIES[name]()
    model = random_start(study).eval()
    features, _, _ = batch_of(study, (1,) * 4)
    other = features.clone()
    other[1:] = -features[1:] + 0.25
    with torch.no_grad():
        torch.testing.assert_close(model(other)[0], model(features)[0], rtol=1e-5, atol=1e-6)
    assert not list(model.buffers())
    assert not any(isinstance(m, nn.Dropout) for m in model.modules())


def test_the_reference_cnn_has_122570_parameters_on_cifar():
    sizes = [p.numel() for p in reference_cnn((3, 32, 32), 10).parameters()]
    assert sum(sizes) == 122_570


@pytest.mark.parametrize(("small", "side"), [(True, 28), (False, 64)])
def test_resnet18_has_the_size_of_its_paper_with_norms_of_groups(small, side):
    model = resnet18(3, 1000, small=small)
    # torchvision's has 11,689,512 with 7x7 in the stem; 3x3 saves 64 * 3 * 40 of them
    assert sum(p.numel() for p in model.parameters()) == 11_689_512 - (64 * 3 * 40) * small
    assert model(torch.zeros(1, 3, side, side)).shape == (1, 1000)


def test_hazards_are_the_likelihood_of_each_record():
    logits = torch.tensor([[0.3, -1.0, 0.5]]).double().expand(6, 3)
    hazard = torch.sigmoid(logits[0])
    cases = {
        (50.0, 1.0): hazard[0],
        (100.0, 1.0): (1 - hazard[0]) * hazard[1],  # an edge belongs to the interval after it
        (150.0, 0.0): 1 - hazard[0],  # lost in the second interval: nothing is known of it
        (399.0, 1.0): (1 - hazard[0]) * (1 - hazard[1]) * hazard[2],
        (400.0, 1.0): (1 - hazard).prod(),  # after the horizon nobody is followed up
        (50.0, 0.0): torch.tensor(1.0),
    }
    targets = torch.tensor(list(cases)).double()
    likelihood = torch.exp(-hazard_loss(TIME)(logits, targets))
    torch.testing.assert_close(likelihood, torch.stack([v.double() for v in cases.values()]))


def test_hazards_learn_the_kaplan_meier_curve_of_one_group():
    """With one constant feature the best hazards are events / those who survived or died there."""
    random = np.random.default_rng(5)
    times = torch.tensor(random.exponential(250, 4000)).float()
    censored = torch.tensor(random.choice([100.0, 200.0, 1000.0], 4000)).float()
    targets = torch.stack([torch.minimum(times, censored), (times < censored).float()], dim=1)
    logits = torch.zeros(1, 3, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=200)

    def closure():
        optimiser.zero_grad()
        mean = hazard_loss(TIME)(logits.expand(4000, 3), targets).mean()
        mean.backward()
        return mean

    optimiser.step(closure)
    alive = 1 - event_probabilities(logits.detach(), torch.zeros(1, 1))[0]
    np.testing.assert_allclose(alive, np.exp(-np.array(TIME.edges) / 250), atol=0.03)


def test_probabilities_of_an_event_never_fall_and_keep_small_ones():
    logits = torch.tensor([[-40.0, 2.0, -3.0], [30.0, 0.0, 0.0]])
    got = event_probabilities(logits, torch.zeros(2, 1))
    assert (got.diff(dim=1) >= 0).all()
    assert got[0, 0] == pytest.approx(np.exp(-40.0), rel=1e-6)
    assert got[1, 0] <= 1


def test_a_missing_target_changes_neither_loss_nor_gradient():
    outputs = torch.tensor([[0.5, -1.0], [2.0, 0.3]], requires_grad=True)
    nan = float("nan")
    for loss, due in ((squared_loss, 0.25 / 2), (multi_label_loss, np.log1p(np.exp(-0.5)) / 2)):
        target = 0.0 if loss is squared_loss else 1.0
        losses = loss(outputs, torch.tensor([[target, nan], [nan, nan]]))
        np.testing.assert_allclose(losses.detach(), [due, 0.0], rtol=1e-6)
        (gradient,) = torch.autograd.grad(losses.sum(), outputs)
        assert gradient[0, 0] != 0
        assert gradient.flatten()[1:].tolist() == [0, 0, 0]


def test_losses_are_the_ones_they_are_named_for():
    torch.manual_seed(1)
    logits, classes = torch.randn(5, 3), torch.tensor([0.0, 2, 1, 1, 0])
    due = -torch.log_softmax(logits, dim=1)[range(5), classes.long()]
    torch.testing.assert_close(class_loss(logits, classes), due)
    pictures = torch.rand(4, 1, 3, 3)
    errors = reconstruction_loss(pictures, torch.zeros_like(pictures))
    torch.testing.assert_close(errors, (pictures**2).mean(dim=(1, 2, 3)))
    score = anomaly(pictures, torch.zeros_like(pictures)).squeeze(1)
    torch.testing.assert_close(score, (errors / (1 + errors)).double(), rtol=1e-6, atol=1e-7)


def test_an_autoencoders_training_does_not_see_its_label():
    study = STUDIES["dense autoencoder"]()
    features, labels, _ = batch_of(study, (1,) * 3)
    assert family_of(study).targets(features, labels) is features


@pytest.mark.parametrize(
    ("family", "model", "more", "why"),
    [
        ("survival", "mlp", {"hidden": (3,)}, "takes a label of kind time-to-event, binary came"),
        ("risk", "logistic-regression", {"label": EVENT}, "binary or classes"),
        ("risk", "logistic-regression", {"label": NUMBERS}, "binary or classes"),
        ("response", "gru", {"label": MANY, "hidden": (3,)}, "does not belong to family response"),
        ("image", "resnet18", {"label": CLASSES}, "family image needs an image column"),
        ("series", "gru", {"hidden": (3,)}, "needs series columns on a grid"),
        ("autoencoder", "dense-autoencoder", {"hidden": (3,)}, "label of kind none"),
        ("autoencoder", "dense-autoencoder", {"label": NONE}, "`hidden` layer sizes"),
        ("gan", "mlp", {"hidden": (3,)}, "model mlp does not belong to family gan"),
        ("gan", "dense-gan", {"hidden": (3,)}, r"\[task.synthesis\] belongs to family gan"),
    ],
)
def test_a_study_whose_parts_do_not_fit_is_refused(family, model, more, why):
    with pytest.raises(BadInput, match=why):
        study_plan(family, model, **more)


def test_an_image_that_is_too_small_to_be_halved_is_refused():
    study = study_plan(
        "autoencoder",
        "convolutional-autoencoder",
        hidden=(4,) * 5,
        columns=image(20),
        label=NONE,
    )
    with pytest.raises(BadInput, match="20 x 20 pixels cannot be halved 5 times"):
        build(study)


GAN_STUDIES = {
    "table": lambda: study_plan("risk", "mlp", hidden=(4,)),
    "table of classes": lambda: study_plan("risk", "mlp", hidden=(4,), label=CLASSES),
    "images": lambda: study_plan("image", "reference-cnn", columns=image(21)),
    "images without label": lambda: study_plan(
        "autoencoder", "convolutional-autoencoder", hidden=(4,), columns=image(21), label=NONE
    ),
}


@pytest.mark.parametrize("name", GAN_STUDIES)
def test_only_the_discriminators_step_sees_patients_and_it_is_clipped_as_defined(name):
    study = GAN_STUDIES[name]()
    contract = study.contract
    torch.manual_seed(2)
    judge, maker = gan.discriminator(contract, (6, 4)), gan.generator(contract, (6, 4), 8)
    features, labels, patients = batch_of(study, (2, 1, 1))
    seen = gan.conditioned(features, labels, contract)
    real = torch.ones(len(seen))
    gradients = per_patient_gradients(judge, seen, real, patients, gan.discriminator_loss)
    got = clipped_sum(judge, seen, real, patients, gan.discriminator_loss, clip_norm_l2=0.05)
    assert distance(got.values, clipped_by_definition(gradients, 0.05)) < 2e-5
    noise = torch.randn(5, 8)
    drawn = labels[:1].expand(5)
    synthetic = maker(torch.cat([noise, gan.one_hot(drawn, contract)], dim=1))
    assert synthetic.shape == (5, *contract.input_shape())
    assert synthetic.abs().max() <= 1
    losses = gan.generator_loss(judge(gan.conditioned(synthetic, drawn, contract)))
    assert losses.shape == (5,)
    assert torch.autograd.grad(losses.sum(), next(maker.parameters()))[0].abs().sum() > 0


def test_a_synthetic_row_is_one_that_an_encoding_could_be():
    """To the bit: of a soft choice a discriminator would know at once that nobody made it."""
    contract = GAN_STUDIES["table"]().contract
    numbers = (torch.randn(99, len(contract.features())) * 4).requires_grad_()
    row = gan.TableRow(contract)(numbers)
    assert ((row[:, 0] >= -1) & (row[:, 0] <= 1)).all()
    assert set(row[:, 1].tolist()) == {-1.0, 1.0}
    assert set(map(tuple, row[:, 2:].tolist())) == {(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0, 0, 1.0)}
    (gradient,) = torch.autograd.grad(row.square().sum() + row.sum(), numbers)
    assert (gradient.abs().sum(dim=0) > 0).all()


def test_a_gan_is_not_conditioned_on_a_time():
    with pytest.raises(BadInput, match="conditioned on classes"):
        gan.conditions(STUDIES["hazards"]().contract)
