"""The engine in the place of Opacus' GradSampleModule, beside Opacus' own optimizers.

For those who train with Opacus: its samplers and accountants stay theirs. Hospitals do not use
this; the traps of Opacus that privacy.md lists are in what is around it.
"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from opacus.grad_sample.gsm_base import AbstractGradSampleModule
from torch import Tensor, nn

from wardround.errors import BadInput, WardroundError
from wardround_client.gradients.clipping import check_clip_norm
from wardround_client.gradients.engine import PerPatient
from wardround_client.gradients.patients import Patients
from wardround_client.gradients.uses import Use, unshared


# Opacus ships no types, so that its class is Any to mypy: there is no typed base to derive from.
class FastGradSampleModule(AbstractGradSampleModule):  # type: ignore[misc]
    """A wrapped model whose ordinary `loss.backward()` leaves what an Opacus optimizer reads.

    Without `max_grad_norm` each parameter's `grad_sample`, for DPOptimizer. With it the clipped
    sum in `grad`, nothing formed where that is faster, for DPOptimizerFastGradientClipping. One
    record is one patient. `loss_reduction` is that of the loss, "mean" or "sum".
    """

    def __init__(
        self,
        m: nn.Module,
        *,
        batch_first: bool = True,
        loss_reduction: str = "mean",
        max_grad_norm: float | None = None,
    ) -> None:
        if not batch_first or loss_reduction not in {"mean", "sum"}:
            raise BadInput("opacus module: records come first, the loss is a mean or a sum")
        check_clip_norm(max_grad_norm)
        super().__init__(m, batch_first=batch_first, loss_reduction=loss_reduction)
        self.max_grad_norm = max_grad_norm
        self._engine = PerPatient(m)
        self._swapped, self._batch = ExitStack(), ExitStack()
        self._swapped.enter_context(self._engine.recording())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's output; in training its backward pass fills the parameters."""
        self._batch.close()
        if not (self.training and torch.is_grad_enabled()):
            return self._module(*args, **kwargs)
        records = next(len(value) for value in args if isinstance(value, Tensor))
        self._batch.enter_context(self._engine.tape.batch(Patients.one_record_each(records)))
        output = self._module(*args, **kwargs)
        if not isinstance(output, Tensor):
            raise BadInput(f"opacus module: output is {type(output).__name__}, a tensor was due")
        fill = partial(self._fill, output)
        # torch's own stubs leave Function.apply, the one way to call it, without types.
        return _Cut.apply(self._engine.tape.anchor, output.detach(), fill)  # type: ignore[no-untyped-call]

    def remove_hooks(self) -> None:
        """Give the layers their forwards back."""
        self._batch.close()
        self._swapped.close()

    def _fill(self, output: Tensor, gradient: Tensor) -> None:
        """Leave `grad_sample` or `grad` for the optimizer, from the gradient of the output."""
        scale = len(output) if self.loss_reduction == "mean" else 1
        uses = unshared(self._engine.tape.backward(output, gradient * scale))
        self._batch.close()
        with torch.no_grad():
            if self.max_grad_norm is None:
                _leave_samples(uses)
            else:
                self._leave_sum(uses, self.max_grad_norm)

    def _leave_sum(self, uses: list[Use], max_grad_norm: float) -> None:
        part = self._engine.clip(uses, max_grad_norm)
        if isinstance(part, Tensor):
            raise WardroundError("opacus module: a record's gradient is not finite")
        for parameter in self._module.parameters():
            if parameter.requires_grad:
                own = part.sums.get(id(parameter))
                own = torch.zeros_like(parameter) if own is None else own.to(parameter.dtype)
                parameter.grad = own if parameter.grad is None else parameter.grad + own


def _leave_samples(uses: list[Use]) -> None:
    for use in uses:
        for parameter, formed in zip(use.parameters, use.gradients(), strict=True):
            before = getattr(parameter, "grad_sample", None)
            # Opacus collects the samples of several backward passes in a list.
            if before is None:
                after: Any = formed
            else:
                after = [*(before if isinstance(before, list) else [before]), formed]
            # Opacus' optimizers read this name; torch's Parameter does not declare it.
            parameter.grad_sample = after  # type: ignore[attr-defined]


class _Cut(torch.autograd.Function):
    """Ends the loss's backward pass at the model's output and goes on as the engine does."""

    @staticmethod
    def forward(
        ctx: Any, _anchor: Tensor, output: Tensor, fill: Callable[[Tensor], None]
    ) -> Tensor:
        ctx.fill = fill
        return output.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        ctx.fill(gradients[0])
        return None, None, None
