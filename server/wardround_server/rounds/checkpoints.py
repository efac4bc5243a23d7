"""What a stopped run goes on from: model, optimiser state and progress in one safetensors file.

Written beside and renamed, so that a crash leaves either the old checkpoint or the new one.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from wardround.canonical import Json
from wardround.durable import write_durably
from wardround.errors import BadInput
from wardround.optimisers import OptimiserState, Vector
from wardround_server.rounds.attempt import Progress

LogItem = tuple[str, Json]

_MODEL = "model"
_MOMENT = "moment."


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything between two rounds.

    `closing` are the entries that say how the model came about. They go into the log when the
    checkpoint is on disk, and a resumed run adds them where they are missing: the log never closes
    a round whose model is lost, and no round is closed twice.
    """

    model: Vector
    optimiser: OptimiserState
    progress: Progress
    closing: tuple[LogItem, ...] = ()


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint at `path` durably."""
    tensors = {_MODEL: checkpoint.model}
    tensors |= {_MOMENT + name: vector for name, vector in checkpoint.optimiser.moments.items()}
    closing = [{"type": kind, "body": body} for kind, body in checkpoint.closing]
    state = json.dumps({**asdict(checkpoint.progress), "closing": closing}, sort_keys=True)
    write_durably(path, save(tensors, metadata={"state": state}))


def read_checkpoint(path: Path, *, parameters: int) -> Checkpoint:
    """Read what `write_checkpoint` wrote. Raises BadInput for another model or a broken file."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            state = json.loads(metadata["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        progress = Progress(
            round=state["round"], attempt=state["attempt"], spare_attempts=state["spare_attempts"]
        )
        closing = tuple((str(item["type"]), dict(item["body"])) for item in state["closing"])
        model = tensors.pop(_MODEL)
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise BadInput(f"checkpoint {path.name}: {type(error).__name__}") from error
    for name, vector in {_MODEL: model, **tensors}.items():
        if vector.shape != (parameters,) or vector.dtype != np.float32:
            raise BadInput(
                f"checkpoint {path.name}: {name} is {vector.dtype} of shape {vector.shape}, "
                f"float32 of shape ({parameters},) was due"
            )
    moments = {name.removeprefix(_MOMENT): vector for name, vector in tensors.items()}
    return Checkpoint(model, OptimiserState(moments), progress, closing)
