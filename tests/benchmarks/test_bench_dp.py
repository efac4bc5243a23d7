"""The benchmark of gradients measures one and the same gradient, or says that it does not."""

import json

import pytest
import torch
from tests.benchmarks import bench_dp
from tests.benchmarks.dp_methods import METHODS, prepared
from tests.benchmarks.dp_models import WORKLOADS

RECORDS = 34  # PyTorch's per-sample convolutions fail below 32
WORKLOADS_BY_MODEL = {workload.model: workload for workload in reversed(WORKLOADS)}


def test_the_benchmark_runs_and_prints_one_line_for_a_model(capsys):
    assert bench_dp.main(["--models", "mlp", "--repeats", "2", "--quick"]) == 0
    printed = capsys.readouterr()
    (line,) = map(json.loads, printed.out.splitlines())
    assert (line["bench"], line["model"], line["batch"]) == ("dp", "mlp", 256)
    assert line["refused"] == {}
    assert set(line["milliseconds"]) == set(METHODS)
    assert line["ratio_to_plain"] > 0
    assert line["speedup_over_opacus"] > 0
    assert line["opacus_mode"] in line["milliseconds"]
    assert "mlp" in printed.err


@pytest.mark.parametrize("model", ["mlp", "gru", "reference_cnn"])
def test_every_method_leaves_the_same_clipped_gradient(model):
    workload = WORKLOADS_BY_MODEL[model]
    gradients = {}
    for method in METHODS:
        with prepared(method, workload, batch=RECORDS) as ready:
            ready.run()
            gradients[method] = ready.gradient()
    mean = gradients.pop("plain")
    assert bench_dp.disagreeing(gradients) == {}
    # Some gradients were clipped: otherwise a method that clips nothing would pass as well.
    assert (mean * RECORDS - gradients["vmap"]).norm() > 0.01 * gradients["vmap"].norm()


def test_a_method_with_another_gradient_is_named():
    right = torch.linspace(-1, 1, 100)
    found = bench_dp.disagreeing({"vmap": right, "hooks": right.clone(), "ew": right * 1.001})
    assert set(found) == {"ew"}


def test_the_reference_cnn_has_its_122_570_parameters():
    network = WORKLOADS_BY_MODEL["reference_cnn"].network()
    assert sum(parameter.numel() for parameter in network.parameters()) == 122_570


def test_an_unknown_model_is_refused(capsys):
    with pytest.raises(SystemExit):
        bench_dp.main(["--models", "mpl"])
    assert "mpl" in capsys.readouterr().err
