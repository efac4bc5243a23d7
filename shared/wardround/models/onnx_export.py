"""A trained model as ONNX, for systems without PyTorch: checked against the network it came from.

What is exported is the network with its reading: records in the contract's features go in, channels
in [0, 1] come out. The packages are the extra `onnx`, imported when they are used.
"""

import importlib
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from wardround.errors import BadInput, VerificationFailed
from wardround.models.family import family_of
from wardround.models.readings import Reading
from wardround.statistics.scaling import Standardisation
from wardround.study.contract import Contract
from wardround.study.manifest import StudyPlan

INPUT: Final = "records"
OUTPUT: Final = "channels"
MOST_DIFFERENCE: Final = 1e-5  # of a channel in [0, 1]; both sides compute in float32
PARITY_RECORDS: Final = 64
_TRACED_RECORDS: Final = 3


class Scaling(nn.Module):
    """Features of a table scaled by released statistics, as hospitals scale them; missing stays 0.

    Takes and gives [records, features].
    """

    centre: Tensor
    spread: Tensor
    indicator: Tensor
    has_indicator: Tensor

    def __init__(self, contract: Contract, scales: Sequence[Standardisation]) -> None:
        super().__init__()
        names = contract.features()
        places = {name: place for place, name in enumerate(names)}
        centre, spread = torch.zeros(len(names)), torch.ones(len(names))
        indicator, has = torch.arange(len(names)), torch.zeros(len(names), dtype=torch.bool)
        for scale in scales:
            place = places[scale.column]
            centre[place], spread[place] = scale.centre, scale.spread
            missing = places.get(f"{scale.column} is missing")
            if missing is not None:
                indicator[place], has[place] = missing, True
        for name, value in (("centre", centre), ("spread", spread)):
            self.register_buffer(name, value)
        self.register_buffer("indicator", indicator)
        self.register_buffer("has_indicator", has)

    def forward(self, features: Tensor) -> Tensor:
        """(v - centre) / spread."""
        scaled = (features - self.centre) / self.spread
        missing = (features[:, self.indicator] > 0.5) & self.has_indicator
        return torch.where(missing, torch.zeros_like(scaled), scaled)


class NetworkWithReading(nn.Module):
    """Features [records, ...] -> channels [records, channels] in [0, 1], float32."""

    def __init__(self, network: nn.Module, reading: Reading, scaling: nn.Module) -> None:
        super().__init__()
        self.scaling = scaling
        self.network = network
        self.reading = reading

    def forward(self, features: Tensor) -> Tensor:
        """Scale, run the network and read its outputs."""
        scaled = self.scaling(features)
        return self.reading(self.network(scaled), scaled).float()


def with_reading(
    network: nn.Module, study: StudyPlan, scales: Sequence[Standardisation] = ()
) -> NetworkWithReading:
    """The network as it is used to predict: in mode evaluation, scaled and with its reading."""
    scaling = Scaling(study.contract, scales) if scales else nn.Identity()
    return NetworkWithReading(network, family_of(study).reading(study), scaling).eval()


def to_onnx(network: NetworkWithReading, study: StudyPlan, metadata: Mapping[str, str]) -> bytes:
    """Export and check: the bytes of an ONNX model that takes any number of records.

    `metadata` goes into its properties (study digest, report digest, run). Raises BadInput when the
    extra is not installed, VerificationFailed when onnxruntime gives other numbers than PyTorch.
    """
    onnx = _extra("onnx")
    shape = study.contract.input_shape()
    model = onnx.load_from_string(_exported(network, shape))
    model.doc_string = study.title
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    difference = parity(network, data, shape)
    if difference > MOST_DIFFERENCE:
        raise VerificationFailed(
            f"ONNX: onnxruntime differs from PyTorch by {difference:.2g} in a channel, at most "
            f"{MOST_DIFFERENCE:g} is due"
        )
    return data


def parity(network: NetworkWithReading, data: bytes, shape: tuple[int, ...]) -> float:
    """The largest difference of a channel between PyTorch and onnxruntime.

    On 64 drawn records of the contract's range, on one record, and on the corners of the range.
    """
    runtime = _extra("onnxruntime")
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    drawn = torch.rand(PARITY_RECORDS, *shape, generator=torch.Generator().manual_seed(1))
    corners = torch.stack([torch.full(shape, value) for value in (-1.0, 0.0, 1.0)])
    differences = []
    for records in (2.0 * drawn - 1.0, drawn[:1], corners):
        with torch.inference_mode():
            ours = network(records).numpy()
        (theirs,) = session.run([OUTPUT], {INPUT: records.numpy()})
        differences.append(float(np.abs(ours - theirs).max()))
    return max(differences)


def _exported(network: NetworkWithReading, shape: tuple[int, ...]) -> bytes:
    _extra("onnxscript")
    records = torch.export.Dim("records", min=1)
    example = torch.zeros(_TRACED_RECORDS, *shape)
    # The exporter says of torchvision, which no network here has, that it is missing.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: records},),
        )
    if program is None:
        raise BadInput("ONNX: the exporter gave no program")
    exported: bytes = program.model_proto.SerializeToString()
    return exported


def _extra(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise BadInput(f"ONNX: package {error.name} is missing; install wardround[onnx]") from error
