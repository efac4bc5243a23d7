"""The body of `network-built`: which kinds of layers a hospital's network has."""

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from wardround.audit.body_fields import Body, RunId
from wardround.audit.layer_kinds import MOST_KINDS

KIND_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.-]{0,159}$"
Kind = Annotated[str, StringConstraints(pattern=KIND_PATTERN)]


class NetworkBuilt(Body):
    """The hospital built the study's network; `layers` are the kinds of all its modules, sorted.

    PyTorch's go by their class name, others with their package before it
    (`wardround.audit.layer_kinds`).
    """

    TYPE = "network-built"
    run: RunId
    session: str | int
    layers: Annotated[tuple[Kind, ...], Field(min_length=1, max_length=MOST_KINDS, strict=False)]

    @model_validator(mode="after")
    def _in_one_form(self) -> "NetworkBuilt":
        if list(self.layers) != sorted(set(self.layers)):
            raise ValueError("layers: each kind once is due, in order")
        return self
