"""Explanations: against captum, against what is known, and against a network of random weights."""

import io

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam, Occlusion
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor, nn

from wardround.errors import BadInput
from wardround_client.explanation.grad_cam import grad_cam, last_convolution
from wardround_client.explanation.integrated import integrated_gradients
from wardround_client.explanation.occlusion import occlusion
from wardround_client.explanation.overlay import overlay_png

SIDE = 16


def table_network(seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 1)).double()


def image_network(seed: int = 2) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(128, 1),
    )


def score_of(network: nn.Module):
    return lambda inputs: network(inputs).squeeze(-1)


def squares(count: int, seed: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Noise; half of the images with a bright square; where it is."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.3 * torch.randn(count, 1, SIDE, SIDE, generator=generator)
    labels = torch.arange(count) % 2
    places = torch.zeros(count, SIDE, SIDE, dtype=torch.bool)
    for number in range(count):
        if labels[number]:
            row, column = (int(v) for v in torch.randint(0, SIDE - 5, (2,), generator=generator))
            places[number, row : row + 5, column : column + 5] = True
    images[:, 0][places] += 1.5
    return images, labels.float(), places


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    images, labels, _ = squares(256)
    network = image_network()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(60):
        optimiser.zero_grad()
        logits = network(images).squeeze(-1)
        nn.functional.binary_cross_entropy_with_logits(logits, labels).backward()
        optimiser.step()
    assert ((network(images).squeeze(-1) > 0) == (labels > 0)).float().mean() > 0.95
    return network.eval()


def test_integrated_gradients_are_captums():
    network, inputs = table_network(), torch.randn(9, 6, dtype=torch.float64)
    baseline = torch.full((6,), 0.1, dtype=torch.float64)
    ours = integrated_gradients(score_of(network), inputs, baseline, steps=50)
    theirs, gap = IntegratedGradients(network).attribute(
        inputs,
        baseline.expand_as(inputs),
        target=0,
        n_steps=50,
        method="gausslegendre",
        return_convergence_delta=True,
    )
    torch.testing.assert_close(ours.values, theirs)
    torch.testing.assert_close(ours.gap, gap, atol=1e-9, rtol=0.0)


def test_the_parts_add_up_to_the_difference_of_scores():
    network, inputs = table_network(), torch.randn(5, 6, dtype=torch.float64)
    found = integrated_gradients(score_of(network), inputs, torch.zeros(6, dtype=torch.float64))
    with torch.no_grad():
        moved = score_of(network)(inputs) - score_of(network)(torch.zeros_like(inputs))
    torch.testing.assert_close(found.values.sum(1), moved, atol=1e-8, rtol=0.0)
    assert found.gap.abs().max() < 1e-8


def test_too_few_steps_show_in_the_gap():
    network, inputs = table_network(), 4.0 * torch.randn(5, 6, dtype=torch.float64)
    zero = torch.zeros(6, dtype=torch.float64)
    coarse = integrated_gradients(score_of(network), inputs, zero, steps=1)
    assert coarse.gap.abs().max() > 1e-3


def test_a_linear_score_is_its_weights():
    layer = nn.Linear(4, 1).double()
    inputs = torch.randn(3, 4, dtype=torch.float64)
    found = integrated_gradients(score_of(layer), inputs, torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(found.values, inputs * layer.weight.detach())


def test_what_the_score_ignores_gets_nothing():
    inputs = torch.randn(3, 4)
    found = integrated_gradients(lambda x: x[:, 0].sin(), inputs, torch.zeros(4))
    assert torch.equal(found.values[:, 1:], torch.zeros(3, 3))


def test_series_and_many_records_are_explained_alike():
    network = nn.GRU(3, 8, batch_first=True)
    inputs = torch.randn(40, 7, 3)

    def score(series: Tensor) -> Tensor:
        return network(series)[0][:, -1].sum(-1)

    together = integrated_gradients(score, inputs, torch.zeros(7, 3))
    alone = integrated_gradients(score, inputs[11:12], torch.zeros(7, 3))
    assert together.values.shape == inputs.shape
    torch.testing.assert_close(together.values[11:12], alone.values, atol=1e-5, rtol=1e-4)


def test_grad_cam_is_captums(trained):
    images, _, _ = squares(6)
    layer = last_convolution(trained)
    ours = grad_cam(layer, score_of(trained), images)
    theirs = LayerGradCam(trained, layer).attribute(images, target=0, relu_attributions=True)
    scaled = LayerAttribution.interpolate(theirs, (SIDE, SIDE), interpolate_mode="bilinear")
    torch.testing.assert_close(ours, scaled.squeeze(1).detach())


def test_occlusion_is_captums_where_windows_tile(trained):
    images, _, _ = squares(4)
    ours = occlusion(score_of(trained), images, window=4, stride=2, cover=0.1)
    theirs = Occlusion(trained).attribute(
        images, target=0, sliding_window_shapes=(1, 4, 4), strides=(1, 2, 2), baselines=0.1
    )
    torch.testing.assert_close(ours, theirs.squeeze(1).detach(), atol=1e-5, rtol=1e-4)


def test_every_pixel_is_covered_when_windows_do_not_tile():
    images = torch.ones(2, 1, 11, 13)
    found = occlusion(lambda x: x.flatten(1).sum(1), images, window=4, stride=3)
    torch.testing.assert_close(found, torch.full((2, 11, 13), 16.0))


@pytest.mark.parametrize("method", ["integrated", "grad-cam", "occlusion"])
def test_maps_of_the_trained_network_lie_on_the_square(trained, method):
    images, labels, places = squares(40, seed=9)
    bright = labels > 0
    maps = maps_of(trained, images[bright], method)
    inside = torch.stack([m[p].mean() for m, p in zip(maps, places[bright], strict=True)])
    outside = torch.stack([m[~p].mean() for m, p in zip(maps, places[bright], strict=True)])
    assert (inside > 3.0 * outside.abs()).float().mean() > 0.9


@pytest.mark.parametrize("method", ["integrated", "grad-cam", "occlusion"])
def test_a_network_with_random_weights_gives_other_maps(trained, method):
    """The sanity check of Adebayo et al. 2018: a map that outlives the weights explains nothing."""
    images, _, _ = squares(30, seed=5)
    learned = maps_of(trained, images, method).flatten(1).numpy()
    again = maps_of(trained, images, method).flatten(1).numpy()
    random = maps_of(image_network(seed=77), images, method).flatten(1).numpy()
    assert np.array_equal(learned, again)
    # A map of one value everywhere, where nothing speaks for the score, has no ranks.
    pairs = [(a, b) for a, b in zip(learned, random, strict=True) if np.ptp(a) and np.ptp(b)]
    assert len(pairs) > 10
    assert np.mean([abs(spearmanr(a, b).statistic) for a, b in pairs]) < 0.5


def maps_of(network: nn.Module, images: Tensor, method: str) -> Tensor:
    score = score_of(network)
    if method == "integrated":
        return integrated_gradients(score, images, torch.zeros_like(images[0])).values.squeeze(1)
    if method == "grad-cam":
        return grad_cam(last_convolution(network), score, images)
    return occlusion(score, images, window=4, stride=2)


def test_what_does_not_fit_is_said():
    score = score_of(table_network())
    inputs = torch.zeros(2, 6, dtype=torch.float64)
    with pytest.raises(BadInput, match=r"shape \(6,\) was due"):
        integrated_gradients(score, inputs, torch.zeros(5))
    with pytest.raises(BadInput, match="at least 1"):
        integrated_gradients(score, inputs, inputs[0], steps=0)
    with pytest.raises(BadInput, match="one score for each"):
        integrated_gradients(table_network(), inputs, inputs[0])
    with pytest.raises(BadInput, match="no two-dimensional convolution"):
        last_convolution(table_network())
    with pytest.raises(BadInput, match="1 <= stride <= window <= 11"):
        occlusion(lambda x: x.flatten(1).sum(1), torch.ones(1, 1, 11, 13), window=4, stride=5)


def test_the_overlay_is_a_picture_that_shows_the_strongest_place():
    picture, heat = np.zeros((8, 12)), np.zeros((8, 12))
    picture[2, 3], heat[5, 9], heat[1, 1] = 1.0, 2.0, -1.0
    with Image.open(io.BytesIO(overlay_png(picture, heat))) as image:
        pixels = np.asarray(image).astype(int)
    factor = pixels.shape[0] // 8
    assert pixels.shape == (8 * factor, 12 * factor, 3)
    assert max(pixels.shape) >= 512
    red_minus_blue = pixels[..., 0] - pixels[..., 2]
    assert np.unravel_index(red_minus_blue.argmax(), red_minus_blue.shape) == (
        5 * factor,
        9 * factor,
    )
    assert red_minus_blue[factor, factor] < 0
    assert (pixels[2 * factor, 3 * factor] == 255).all()


def test_an_empty_map_leaves_the_picture_and_bad_values_are_refused():
    picture = np.linspace(0.0, 1.0, 24).reshape(4, 6)
    with Image.open(io.BytesIO(overlay_png(picture, np.zeros((4, 6))))) as image:
        pixels = np.asarray(image)
    assert (pixels[..., 0] == pixels[..., 2]).all()
    with pytest.raises(BadInput, match="was due"):
        overlay_png(picture, np.zeros((6, 4)))
    with pytest.raises(BadInput, match="not finite"):
        overlay_png(picture, np.full((4, 6), np.nan))
