"""Series that lie in the rows of the main table; joined files with names of their own."""

import numpy as np
import pytest
from tests.support.described_data import contract, description, encoded, refusal, write
from tests.support.study_plans import BINARY

from wardround.errors import BadInput
from wardround_client.data.description import CsvFormat, DatasetDescription
from wardround_client.data.sources import ColumnSource

LEAD = {"name": "lead", "kind": "series", "description": "x", "unit": "mV", "range": [-2, 2]}
HEAT = {"name": "heat", "kind": "series", "description": "x", "unit": "Cel", "range": [30, 50]}
AGE = {"name": "age", "kind": "continuous", "description": "x", "unit": "a", "range": [0, 100]}
GRID = {"steps": 3, "step": 4.0, "unit": "ms"}
RULE = {"source": "y", "positive_when": ">0"}
SAMPLED = {"column": "lead", "unit": "mV", "samples": ["v0", "v2", "v1"]}
AGE_SOURCE = {"column": "age", "source": "age", "unit": "a"}
AGREED = contract(BINARY, [LEAD, AGE], grid=GRID)
MAIN = "id,v0,v1,v2,age,y\nb,0,1,2,100,1\na,-2,,1,0,0\n"


def test_samples_stand_on_the_grid_in_the_order_that_names_them(tmp_path):
    write(tmp_path, main_csv=MAIN)
    found = encoded(description(RULE, [SAMPLED, AGE_SOURCE]), AGREED, tmp_path)
    assert found.features.shape == (2, 3, 3)
    first, second = found.features  # patients a and b
    assert first[:, 0].tolist() == [-1, 0.5, 0.5]  # the last one was not measured
    assert first[:, 1].tolist() == [0, 0, 1]
    assert second[:, 0].tolist() == [0, 1, 0.5]
    assert second[:, 2].tolist() == [1, 1, 1]


def test_samples_stand_beside_a_table_of_measurements_and_beside_none(tmp_path):
    both = contract(BINARY, [LEAD, HEAT, AGE], grid=GRID | {"step": 1.0, "unit": "h"})
    long = {"path": "long.csv", "key": "id", "record": "id"}
    long |= {"time": "t", "variable": "what", "value": "v"}
    heat = {"column": "heat", "source": "T", "unit": "Cel"}
    write(tmp_path, main_csv=MAIN, long_csv="id,t,what,v\na,1,T,40\n")
    described = description(RULE, [SAMPLED, heat, AGE_SOURCE], series=long)
    found = encoded(described, both, tmp_path)
    assert found.features[0, :, 0].tolist() == [-1, 0.5, 0.5]
    assert found.features[0, :, 3].tolist() == [1, 0, 1]
    absent = {"column": "heat", "absent": True}
    found = encoded(description(RULE, [SAMPLED, absent, AGE_SOURCE]), both, tmp_path)
    assert (found.features[:, :, 3] == 1).all()
    assert found.features[1, :, 0].tolist() == [0, 1, 0.5]


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        (["v0", "v1"], "2 `samples` came, the contract's grid has 3 steps"),
        (["v0", "v1", "v9"], "the file has no column 'v9'"),
        (["v0", "v1", "age"], "1 of 6 measurements outside -2..2 mV"),
        (["v0", "v1", "id"], "2 of 6 measurements are not numbers"),
    ],
)
def test_samples_that_do_not_fit_are_refused_in_counts(tmp_path, samples, why):
    write(tmp_path, main_csv=MAIN)
    described = description(RULE, [SAMPLED | {"samples": samples}, AGE_SOURCE])
    assert why in refusal(described, AGREED, tmp_path)


def test_samples_belong_to_series_and_stand_for_a_source():
    with pytest.raises(ValueError, match="twice"):
        ColumnSource(**SAMPLED | {"samples": ["v0", "v0"]})
    with pytest.raises(ValueError, match="not both"):
        ColumnSource(**SAMPLED | {"source": "v0"})
    of_a_number = description(RULE, [SAMPLED | {"column": "age"}, SAMPLED])
    assert any("belong to series columns" in fault for fault in of_a_number.faults(AGREED))
    assert "samples" not in ColumnSource(column="age", source="age").model_dump()
    assert description(RULE, [SAMPLED, AGE_SOURCE]).sources() >= {"v0", "v1", "v2"}


TWO = contract(BINARY, [AGE | {"name": "one"}, AGE | {"name": "other"}])
RESPONSES, GENES = ",7,y\nb,1,1\na,2,0\n", ",7\na,30\nb,40\n"


def joined(**more: object) -> DatasetDescription:
    join = {"path": "genes.csv", "csv": {"unnamed": "line"}, "key": "line", "prefix": "gene "}
    sources = [{"column": "one", "source": "7", "unit": "a"}]
    sources += [{"column": "other", "source": "gene 7", "unit": "a"}]
    parts = {"csv": {"unnamed": "line"}, "join": [join | more], "patient": {"source": "line"}}
    return description(RULE, sources, **parts)


def test_two_files_may_use_one_name_where_a_prefix_tells_them_apart(tmp_path):
    write(tmp_path, main_csv=RESPONSES, genes_csv=GENES)
    found = encoded(joined(), TWO, tmp_path)
    assert found.patients == ("a", "b")
    np.testing.assert_allclose(found.features, [[-0.96, -0.4], [-0.98, -0.2]], atol=1e-6)
    with pytest.raises(BadInput, match="7 is a column of both files"):
        encoded(joined(prefix=""), TWO, tmp_path)


def test_an_empty_name_is_named_only_where_there_is_one(tmp_path):
    write(tmp_path, main_csv=RESPONSES, genes_csv=GENES.replace(",7", "line,7", 1))
    with pytest.raises(BadInput, match="every field of the header has a name"):
        encoded(joined(), TWO, tmp_path)
    write(tmp_path, main_csv=RESPONSES, genes_csv=",,7\na,0,30\nb,0,40\n")
    with pytest.raises(BadInput, match="names a column twice"):
        encoded(joined(), TWO, tmp_path)
    with pytest.raises(ValueError, match="here is none"):
        CsvFormat(header=False, columns=("a",), unnamed="b")
    assert "unnamed" not in CsvFormat().model_dump()
