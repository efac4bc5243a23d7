"""Ways to one step's gradient: plain PyTorch, every mode of Opacus, `vmap(grad)`, Wardround.

Each leaves the gradient in `.grad`: plain the mean, the others the sum of gradients clipped per
record. Noise and the optimiser's step are left out of all of them; they cost everybody the same.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from opacus.grad_sample import wrap_model
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping
from tests.benchmarks.dp_models import CLIP_NORM_L2, Workload
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from wardround_client.gradients.engine import per_patient

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
OPACUS = ("hooks", "functorch", "ew", "ghost", "fast")
METHODS = ("plain", *OPACUS, "vmap", "ours")

Step = Callable[[Tensor, Tensor], None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A method on a network of its own, in one memory layout."""

    network: nn.Module
    layout: str
    step: Step
    records: tuple[Tensor, Tensor] = field(repr=False)

    def run(self) -> None:
        self.step(*self.records)

    def gradient(self) -> Tensor:
        """What the last step left, flat, in an order that all methods share."""
        named = {
            _common_name(self.network, name): parameter.grad
            for name, parameter in self.network.named_parameters()
        }
        return torch.cat([named[name].reshape(-1) for name in sorted(named)])

    def forget(self) -> None:
        """Give the gradients back: only one method at a time has any."""
        for parameter in self.network.parameters():
            parameter.grad = None


@contextmanager
def prepared(
    method: str, workload: Workload, layout: str = "contiguous", *, batch: int | None = None
) -> Iterator[Prepared]:
    """Build the network anew and wrap it as `method` wants it."""
    opacus = method in OPACUS or method == "vmap"
    network = workload.network(opacus=opacus)
    features, labels = workload.records(batch)
    if workload.is_image:
        network = network.to(memory_format=LAYOUTS[layout])
        features = features.contiguous(memory_format=LAYOUTS[layout])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _STEPS.get(method, _opacus)(network, workload, method) as step:
            yield Prepared(network, layout, step, (features, labels))


def warm_up(method: str, workload: Workload, layout: str) -> None:
    """Take a step on two records with a network of its own, so that the method's code is loaded.

    PyTorch's per-sample convolutions ("ew") fail on so few; they are as warm then as can be.
    """
    with prepared(method, workload, layout, batch=2) as few, contextlib.suppress(RuntimeError):
        few.run()


def _common_name(network: nn.Module, name: str) -> str:
    parent, _, rest = name.partition(".")
    renamed = getattr(getattr(network, parent, None), "old_to_new", {})  # of Opacus' recurrent ones
    return f"{parent}.{renamed[rest]}" if rest in renamed else name


@contextmanager
def _plain(network: nn.Module, workload: Workload, _method: str) -> Iterator[Step]:
    def step(features: Tensor, labels: Tensor) -> None:
        network.zero_grad(set_to_none=True)
        workload.loss(network(features), labels).mean().backward()

    yield step


@contextmanager
def _opacus(network: nn.Module, workload: Workload, method: str) -> Iterator[Step]:
    """Per-record gradients, then the clipped sum of Opacus' optimiser."""
    if method in {"ghost", "fast"}:
        with _opacus_twice(network, workload, method) as step:
            yield step
        return
    wrapped = wrap_model(network, grad_sample_mode=method, loss_reduction="sum")
    optimiser = DPOptimizer(torch.optim.SGD(network.parameters(), lr=0.1), **_OPTIMISER)

    def step(features: Tensor, labels: Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        workload.loss(wrapped(features), labels).sum().backward()
        optimiser.clip_and_accumulate()
        for parameter in optimiser.params:
            parameter.grad, parameter.grad_sample = parameter.summed_grad, None

    yield step
    wrapped.remove_hooks()


@contextmanager
def _opacus_twice(network: nn.Module, workload: Workload, method: str) -> Iterator[Step]:
    """Norms, then a second backward pass: ghost clipping, or "fast gradient clipping" without."""
    wrapped = wrap_model(
        network,
        grad_sample_mode="ghost",
        loss_reduction="sum",
        max_grad_norm=CLIP_NORM_L2,
        use_ghost_clipping=method == "ghost",
    )
    optimiser = DPOptimizerFastGradientClipping(
        torch.optim.SGD(network.parameters(), lr=0.1), **_OPTIMISER
    )

    def step(features: Tensor, labels: Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        losses = workload.loss(wrapped(features), labels)
        DPTensorFastGradientClipping(wrapped, optimiser, losses, "sum").backward()

    yield step
    wrapped.remove_hooks()


@contextmanager
def _vmap(network: nn.Module, workload: Workload, _method: str) -> Iterator[Step]:
    """The gradient of one record, vectorised: what everything else has to equal."""
    values = {name: parameter.detach() for name, parameter in network.named_parameters()}

    def loss_of_one(values: dict[str, Tensor], features: Tensor, label: Tensor) -> Tensor:
        return workload.loss(functional_call(network, values, (features[None],)), label[None]).sum()

    gradients_of = vmap(grad(loss_of_one), in_dims=(None, 0, 0))

    def step(features: Tensor, labels: Tensor) -> None:
        gradients = gradients_of(values, features, labels)
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients.values()]).norm(dim=0)
        factors = (CLIP_NORM_L2 / norms).clamp(max=1.0)
        for name, parameter in network.named_parameters():
            parameter.grad = torch.einsum("n,n...->...", factors, gradients[name])

    yield step


@contextmanager
def _ours(network: nn.Module, workload: Workload, _method: str) -> Iterator[Step]:
    """One patient a record, as the other methods have it."""
    trainable = [p for p in network.parameters() if p.requires_grad]
    shapes = [p.shape for p in trainable]
    sizes = [p.numel() for p in trainable]
    with per_patient(network) as engine:

        def step(features: Tensor, labels: Tensor) -> None:
            patients = torch.arange(len(features))
            clipped = engine.clipped_sum(
                features, labels, patients, workload.loss, clip_norm_l2=CLIP_NORM_L2
            )
            parts = clipped.values.split(sizes)
            for parameter, part, shape in zip(trainable, parts, shapes, strict=True):
                parameter.grad = part.view(shape)

        yield step


_OPTIMISER = {
    "noise_multiplier": 0.0,
    "max_grad_norm": CLIP_NORM_L2,
    "expected_batch_size": None,
    "loss_reduction": "sum",
}
_STEPS = {"plain": _plain, "vmap": _vmap, "ours": _ours}
