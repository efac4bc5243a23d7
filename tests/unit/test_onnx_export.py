"""Every network leaves as ONNX and gives the same answers there."""

import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tests.support.study_plans import STUDIES

from wardround.errors import BadInput, VerificationFailed
from wardround.models.family import readings
from wardround.models.networks import build
from wardround.models.onnx_export import MOST_DIFFERENCE, parity, to_onnx, with_reading

QUICK = {"mlp", "reference cnn"}


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in STUDIES]
)
def test_onnxruntime_reads_what_pytorch_reads(name):
    study = STUDIES[name]()
    network = build(study)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    data = to_onnx(with_reading(network, study), study, {"study_digest": "ab" * 32})
    records = 2.0 * torch.rand(7, *study.contract.input_shape()) - 1.0
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (channels,) = session.run(["channels"], {"records": records.numpy()})
    np.testing.assert_allclose(channels, readings(network, records, study), atol=MOST_DIFFERENCE)
    stored = onnx.load_from_string(data)
    assert {p.key: p.value for p in stored.metadata_props} == {"study_digest": "ab" * 32}


def test_another_networks_file_fails_the_parity_check():
    study = STUDIES["mlp"]()
    network = build(study)
    data = to_onnx(with_reading(network, study), study, {})
    with torch.no_grad():
        next(network.parameters()).add_(0.5)
    other = with_reading(network, study)
    assert parity(other, data, study.contract.input_shape()) > 100 * MOST_DIFFERENCE


def test_a_difference_is_refused(monkeypatch):
    monkeypatch.setattr("wardround.models.onnx_export.MOST_DIFFERENCE", -1.0)
    study = STUDIES["logistic regression"]()
    with pytest.raises(VerificationFailed, match="differs from PyTorch"):
        to_onnx(with_reading(build(study), study), study, {})


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    study = STUDIES["logistic regression"]()
    with pytest.raises(BadInput, match=r"install wardround\[onnx\]"):
        to_onnx(with_reading(build(study), study), study, {})
