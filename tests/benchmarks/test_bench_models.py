"""The models benchmark: its lines, its page, its picture, on the study whose data are here."""

import json
import xml.etree.ElementTree as ET

import pytest
from tests.benchmarks import bench_models
from tests.benchmarks.bench_models_page import page, picture
from tests.benchmarks.bench_models_studies import DATA, STUDIES, BenchedStudy

DUE = {"bench", "study", "mechanism", "epsilon", "metric", "value", "interval", "pooled"}
LINE = {
    "study": "heart",
    "mechanism": "none",
    "epsilon": None,
    "metric": "AUROC",
    "value": 0.8,
    "interval": [0.7, 0.9],
    "pooled": 0.81,
    "pooled_interval": [0.7, 0.9],
    "local_only": 0.6,
    "local_only_interval": [0.4, 0.8],
    "seeds": 5,
    "goal": None,
    "reached": None,
    "left_out": None,
    "rehearsal": None,
}
PRIVATE = LINE | {
    "mechanism": "distributed",
    "epsilon": 3.0,
    "value": 0.75,
    "goal": "0.76 or more",
    "reached": False,
    "left_out": {"each": {"north": 0.7, "south": None}, "next_hospital": None},
    "rehearsal": {"epsilon": 2.9, "value": 0.74, "in_one_process": [0.72, 0.77], "seconds": 9.6},
}


@pytest.mark.skipif(not DATA.is_dir(), reason="skipped: ../shared/data not present")
def test_a_study_is_measured_with_and_without_its_noise(capsys):
    assert bench_models.main(["--studies", "heart_disease_flamby", "--seeds", "2"]) == 0
    none, private = map(json.loads, capsys.readouterr().out.splitlines())
    assert none.keys() == private.keys() >= DUE | {"local_only", "seeds"}
    assert (none["mechanism"], none["epsilon"]) == ("none", None)
    assert (private["mechanism"], private["epsilon"]) == ("distributed", 3.0)
    for line in (none, private):
        assert line["seeds"] == 2
        assert 0.65 < line["value"] < 0.95
        assert line["interval"][0] <= line["value"] <= line["interval"][1]
    assert none["pooled"] == private["pooled"]
    assert none["value"] != private["value"]
    assert none["left_out"] is None
    assert set(private["left_out"]["each"]) == {"cleveland", "hungarian", "switzerland", "va"}


def test_a_goal_that_is_missed_stays_in_the_table_beside_what_was_measured():
    text = page([LINE, PRIVATE], cpus=2)
    assert (
        "| heart | AUROC | distributed | 3 | 0.750 (0.700 to 0.900) | 0.810 (0.700 to 0.900) "
        "| 0.600 (0.400 to 0.800) | 5 | 0.76 or more: **missed** |" in text
    )
    assert "| heart | AUROC | none | - | 0.800 (0.700 to 0.900)" in text
    assert "| heart | north 0.700, south NA | NA |" in text
    assert "own training loop" not in text
    beside = {"plain_pytorch": {"value": 0.7, "interval": [0.6, 0.8], "seeds": 2}}
    assert "in one place: 0.700 (0.600 to 0.800), 2 seeds." in page([LINE | beside], cpus=2)
    assert "| heart | 2.900 | 0.740 | 0.720 to 0.770 | 10 |" in text


def test_a_study_that_is_measured_again_takes_the_place_of_its_lines(tmp_path, monkeypatch):
    for name in ("LINES", "PAGE", "PICTURE"):
        monkeypatch.setattr(bench_models, name, tmp_path / name)
    one, other = LINE | {"study": "molecules"}, LINE | {"study": "heart_disease"}
    bench_models.write([one, other, one | {"value": 0.7}])
    kept = [json.loads(line) for line in (tmp_path / "LINES").read_text().splitlines()]
    assert [(line["study"], line["value"]) for line in kept] == [
        ("heart_disease", 0.8),
        ("molecules", 0.7),
    ]
    assert "| molecules | AUROC | none | - | 0.700" in (tmp_path / "PAGE").read_text()


def test_goals_are_compared_with_means():
    near = BenchedStudy(name="x", data="x", metric="C-index", at_least={}, of_pooled=0.02)
    assert near.reached("none", [0.6, 0.62], [0.62, 0.63]) is True
    assert near.reached("none", [0.6, 0.62], [0.64, 0.65]) is False
    assert near.reached("local", [0.1], [0.6]) is None
    least = BenchedStudy(name="x", data="x", metric="AUROC", at_least={"local": 0.7})
    assert (least.reached("local", [0.69, 0.72], []), least.goal("local")) == (True, "0.7 or more")
    assert (least.reached("none", [0.1], []), least.goal("none")) == (None, None)


def test_the_picture_has_every_way_once_and_what_is_off_the_axis_at_its_end():
    drawn = ET.fromstring(picture([LINE, PRIVATE]))
    texts = [element.text for element in drawn.iter() if element.text]
    for name in ("alone", "pooled", "federated", "epsilon 3"):
        assert texts.count(f"heart, AUROC: {name}") == 1
    left = [float(e.get("x1")) for e in drawn.iter() if e.tag.endswith("line")]
    assert min(left) == 380.0


def test_an_unknown_study_is_refused(capsys):
    with pytest.raises(SystemExit):
        bench_models.main(["--studies", "brain"])
    assert f"known are {', '.join(STUDIES)}" in capsys.readouterr().err


def test_classes_are_judged_by_their_balanced_accuracy_where_a_study_says_so():
    auroc = {"value": 0.9, "low": 0.8, "high": 1.0}
    balanced = {"value": 0.5, "low": 0.4, "high": 0.6}
    metrics = {"patients": 30, "macro_auroc": auroc, "balanced_accuracy": balanced}
    lung = STUDIES["lung_ct"]
    assert bench_models.judged(lung, metrics)[0] == 0.5
    assert bench_models.judged(lung, metrics | {"balanced_accuracy": None})[0] is None
    assert bench_models.judged(STUDIES["chest_xray"], metrics)[0] == 0.9
