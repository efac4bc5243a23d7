"""Grad-CAM: where in an image the last convolution saw what speaks for the score."""

import torch
from torch import Tensor, nn

from wardround.errors import BadInput
from wardround_client.explanation.integrated import Score


def last_convolution(network: nn.Module) -> nn.Module:
    """The last two-dimensional convolution of `network`. Raises BadInput when it has none."""
    found = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    if not found:
        raise BadInput("Grad-CAM: the network has no two-dimensional convolution")
    return found[-1]


def grad_cam(layer: nn.Module, score: Score, images: Tensor) -> Tensor:
    """How much each place speaks for the score: [records, height, width], none below zero.

    `score` runs the network of `layer` on `images` [records, channels, height, width]; the maps
    of `layer` are weighted with their mean gradient and scaled to the image's size. Zero
    everywhere says that nothing in that layer speaks for the score. (Selvaraju et al. 2017, eq. 1
    and 2)
    """
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kept.append(output)

    hook = layer.register_forward_hook(keep)
    try:
        # Needed where no parameter asks for gradients: the maps themselves are what is asked.
        scores = score(images.detach().requires_grad_())
    finally:
        hook.remove()
    if len(kept) != 1 or kept[0].ndim != images.ndim:
        raise BadInput("Grad-CAM: the layer has to give one stack of maps for each image, once")
    (gradients,) = torch.autograd.grad(scores.sum(), kept[0])
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    maps = torch.relu((weights * kept[0]).sum(dim=1, keepdim=True)).detach()
    size = (int(images.shape[2]), int(images.shape[3]))
    scaled = nn.functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    return scaled.squeeze(1)
