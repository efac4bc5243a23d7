"""The benchmark of methods measures what it says: the same patients and noise, another way."""

import json

import numpy as np
import pytest
from tests.benchmarks import bench_methods as bench


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(bench, "ROUNDS", 2)
    monkeypatch.setattr(bench, "LOCAL_STEPS", 3)
    return bench.skew(bench.DATA)


def test_every_line_has_its_settings_and_they_make_the_way(short):
    due = {(name, noised) for name in bench.CASES for noised in (False, True)}
    assert bench.SETTINGS.keys() == due
    for (_, noised), chosen in bench.SETTINGS.items():
        level = 8.0 if noised else None
        assert tuple(chosen) == tuple(m for m in bench.METHODS if m not in bench.SAME_AS)
        for method in bench.METHODS:
            choice = chosen[bench.SAME_AS.get(method, method)]
            study = bench.study_for(short, level, method, choice)
            training = study.training
            assert study.privacy.epsilon == level or level is None
            assert (training.proximal > 0) == (method == "fedprox")
            assert (training.control == "scaffold") == (method == "scaffold")
            own_server = method in {"fedadam", "fedyogi"}
            assert training.server.name == (method if own_server else "fedavg")
            assert choice[0] in bench.RATES
            assert choice[1] in bench.OWN.get(bench.SAME_AS.get(method, method), (None,))


def test_hospitals_of_the_generated_study_see_other_diagnoses(short):
    shares = [
        np.bincount(site.train.labels.long().numpy(), minlength=bench.DIAGNOSES)
        / site.train.patients
        for site in short.sites(0).values()
    ]
    assert all(np.sort(share)[-2:].sum() > 0.8 for share in shares)
    assert np.sum(shares, axis=0).min() > 0.3
    assert not np.array_equal(
        short.sites(0)["hospital-0"].train.features, short.sites(1)["hospital-0"].train.features
    )


def test_lines_and_table_say_what_was_measured(short):
    lines = list(bench.measure(short, (0, 1), (None,)))
    assert [line["method"] for line in lines] == list(bench.METHODS)
    # In two rounds FedYogi scores as FedAdam does.
    assert len({tuple(line["each"]) for line in lines[:4]}) == 4
    assert [line["training"].get("server", {}).get("name") for line in lines[3:]] == [
        "fedadam",
        "fedyogi",
    ]
    assert lines[0]["over_fedavg"] == 0
    for line in lines:
        gains = np.subtract(line["each"], lines[0]["each"])
        assert line["over_fedavg"] == pytest.approx(gains.mean(), abs=2e-4)
        assert line["value"] == pytest.approx(np.mean(line["each"]), abs=2e-4)
        low, high = line["over_fedavg_interval"]
        assert low <= line["over_fedavg"] <= high
        assert json.loads(json.dumps(line)) == line
    written = bench.table(lines)
    assert "| scaffold | " in written
    assert f"{lines[2]['value']:.3f}" in written
