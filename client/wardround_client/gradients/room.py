"""Memory for what is formed in every step: asked from the system once, not once a step."""

import torch
from torch import Tensor

_Kind = tuple[tuple[int, ...], torch.dtype]


class Room:
    """Tensors to write into, each handed out once until `clear`.

    Large tensors that are freed go back to the system and come back page by page: with ResNet-18
    that was a tenth of a step.
    """

    def __init__(self) -> None:
        self._held: dict[_Kind, list[Tensor]] = {}
        self._used: dict[_Kind, int] = {}

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """One that nobody else has now; what it holds is left over."""
        kind = (shape, dtype)
        held, used = self._held.setdefault(kind, []), self._used.get(kind, 0)
        if used == len(held):
            held.append(torch.empty(shape, dtype=dtype))
        self._used[kind] = used + 1
        return held[used]

    def clear(self) -> None:
        """Take all tensors back: what the last batch left in them is over."""
        self._used.clear()

    def give_back(self) -> None:
        """Free them."""
        self._held.clear()
        self._used.clear()
