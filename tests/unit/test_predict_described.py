"""New patients of a described file: a fault is its patient's alone, whatever the records are."""

import io

import numpy as np
import pytest
from PIL import Image
from tests.support.described_data import contract, description, write
from tests.support.study_plans import BINARY, MANY, MOLECULE

from wardround.errors import BadInput
from wardround_client.prediction.described import read_described

AGE = {"name": "age", "kind": "continuous", "description": "x", "unit": "a", "range": [0, 100]}
WARD = {
    "name": "ward",
    "kind": "categorical",
    "description": "x",
    "categories": ["a", "b"],
    "may_be_missing": True,
}
CRP = AGE | {"name": "crp", "unit": "mg/L", "may_be_missing": True}
TABLE = contract(BINARY, [AGE, WARD, CRP])
SOURCES = [
    {"column": "age", "source": "age", "unit": "a"},
    {"column": "ward", "source": "ward", "missing": ["-"]},
    {"column": "crp", "source": "crp", "unit": "mg/L", "missing": ["-"]},
]


def test_a_table_is_parted_into_patients_within_and_outside(tmp_path):
    rows = [
        "good,50,a,1",
        "none,50,-,-",
        "odd-ward,50,z,1",
        "no-number,50,a,much",
        "too-old,101,a,1",
        "two,40,a,1",
        "two,,a,1",
        "high,50,b,300",
    ]
    write(tmp_path, main_csv="\n".join(["id,age,ward,crp", *rows]) + "\n")
    found = read_described(description(None, SOURCES), TABLE, tmp_path)
    assert found.encoded.patients == ("good", "none")
    assert found.encoded.features.shape == (2, len(TABLE.features()))
    assert found.outside == {
        "odd-ward": ("ward: cannot be read",),
        "no-number": ("crp: cannot be read",),
        "too-old": ("age: outside 0 to 100 a",),
        "two": ("age: missing, or cannot be read; it is due",),
        "high": ("crp: outside 0 to 100 mg/L",),
    }


def test_a_file_whose_patients_are_all_outside_has_none_within(tmp_path):
    write(tmp_path, main_csv="id,age,ward,crp\np,999,a,1\n")
    found = read_described(description(None, SOURCES), TABLE, tmp_path)
    assert found.encoded.patients == ()
    assert found.encoded.features.shape == (0, len(TABLE.features()))
    assert found.outside == {"p": ("age: outside 0 to 100 a",)}


def test_a_label_that_the_file_has_is_not_read(tmp_path):
    write(tmp_path, main_csv="id,age,ward,crp,y\np,50,a,1,nonsense\n")
    rule = {"source": "y", "positive_when": "> 0"}
    found = read_described(description(rule, SOURCES), TABLE, tmp_path)
    assert found.encoded.patients == ("p",)
    assert found.encoded.labels.shape == (1, 0)


PULSE = {"name": "pulse", "kind": "series", "description": "x", "unit": "/min", "range": [0, 200]}
SERIES = contract(BINARY, [PULSE, AGE], grid={"steps": 4, "step": 2.0, "unit": "h"})
LONG = {
    "path": "long.csv",
    "key": "id",
    "record": "id",
    "time": "t",
    "variable": "what",
    "value": "v",
}


def test_a_measurement_that_does_not_fit_is_its_records_alone(tmp_path):
    sources = [{"column": "pulse", "source": "HR", "unit": "/min"}, SOURCES[0]]
    patients = [f"p{number}" for number in range(9)]
    main = ["id,age", *(f"{key},50" for key in patients), "unmeasured,50"]
    lines = ["id,t,what,v", *(f"{key},1,HR,{60 + n}" for n, key in enumerate(patients))]
    lines += ["p3,2,HR,900", "p7,3,HR,fast", "p8,soon,HR,70"]
    write(tmp_path, main_csv="\n".join(main) + "\n", long_csv="\n".join(lines) + "\n")
    found = read_described(description(None, sources, series=LONG), SERIES, tmp_path)
    assert found.encoded.patients == ("p0", "p1", "p2", "p4", "p5", "p6", "unmeasured")
    assert set(found.outside) == {"p3", "p7", "p8"}
    assert "outside 0..200" in found.outside["p3"][0]
    assert "not numbers" in found.outside["p7"][0]
    assert "times" in found.outside["p8"][0]
    assert not any("900" in why or "fast" in why for (why,) in found.outside.values())
    pulse = found.encoded.features[3, 0, 0]  # p4: 64 of 200
    assert pulse == pytest.approx(2 * 64 / 200 - 1)


def test_text_that_is_no_molecule_is_its_patients_alone(tmp_path):
    write(tmp_path, main_csv='id,smiles\ngood,CCO\nbad,"C C !"\n')
    described = description(None, [{"column": "smiles", "source": "smiles"}])
    found = read_described(described, contract(MANY, MOLECULE), tmp_path)
    assert found.encoded.patients == ("good",)
    assert found.outside == {"bad": ("smiles: no SMILES",)}


SCAN = {
    "name": "scan",
    "kind": "image",
    "description": "x",
    "range": [0, 255],
    "shape": [1, 4, 4],
}


def png(value):
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), value, dtype=np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def test_an_image_that_is_none_or_cannot_be_decoded_is_its_patients_alone(tmp_path):
    whole = png(200)
    (tmp_path / "good.png").write_bytes(whole)
    (tmp_path / "text.png").write_bytes(b"no picture")
    start = whole.index(b"IDAT")
    (tmp_path / "broken.png").write_bytes(
        whole[: start + 4] + bytes(len(whole) - start - 20) + whole[-16:]
    )
    rows = ["good,good.png", "text,text.png", "broken,broken.png", "gone,gone.png", "both,good.png"]
    rows.append("both,text.png")
    write(tmp_path, main_csv="\n".join(["id,file", *rows]) + "\n")
    described = description(None, [{"column": "scan", "source": "file"}])
    found = read_described(described, contract(BINARY, [SCAN]), tmp_path)
    assert found.encoded.patients == ("good",)
    assert set(found.outside) == {"text", "broken", "gone", "both"}
    assert found.encoded.features == pytest.approx(np.full((1, 1, 4, 4), 2 * 200 / 255 - 1))


def test_what_the_description_lacks_refuses_the_file(tmp_path):
    write(tmp_path, main_csv="id,age,ward\np,50,a\n")
    with pytest.raises(BadInput, match="crp"):
        read_described(description(None, SOURCES[:2]), TABLE, tmp_path)
