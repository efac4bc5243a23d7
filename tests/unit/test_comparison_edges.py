"""Hospitals at the edge: one class, five patients, 40 % missing, another unit, nobody held out."""

import numpy as np
import pytest
from tests.support.masked_hospitals import seeded
from tests.support.small_federation import DESCRIPTION, write_rows, write_study

from wardround.errors import BadInput
from wardround_client.comparison.result import compared
from wardround_client.comparison.sites import gather
from wardround_client.comparison.ways import score, ways_of
from wardround_client.data.check import Verdict, check
from wardround_client.data.description import read_description

NAMES = ("alpha", "beta", "delta", "odd")


@pytest.fixture
def small(tmp_path):
    write_study(tmp_path, NAMES)
    return tmp_path


def rows(folder):
    return (folder / "data" / "odd.csv").read_text().splitlines()


def put(folder, lines):
    (folder / "data" / "odd.csv").write_text("\n".join(lines) + "\n")


def played(folder, *overrides):
    """Every way of the study, and what a data check says of the odd hospital."""
    gathered = gather(folder / "study", folder / "data", overrides)
    sites = gathered.sites()
    scored = [score(gathered.plan, sites, way, seeded("x")) for way in ways_of(gathered.plan)]
    seen = check(
        read_description(folder / "study" / "hospitals" / "odd.toml"),
        gathered.plan.contract,
        folder / "data",
    )
    lines = {line.way: line for line in compared(gathered.plan, scored).lines}
    return lines, seen


def finite(lines):
    return all(
        own.value is None or 0 <= own.value <= 1
        for line in lines.values()
        for own in (line.whole, *line.hospitals.values())
    )


@pytest.mark.parametrize("ill", [0, 1])
def test_a_hospital_with_one_class_has_na_and_the_others_keep_their_numbers(small, ill):
    write_rows(small / "data" / "odd.csv", seed=3, ill=ill)
    lines, seen = played(small)
    assert seen.verdict is Verdict.READY_WITH_REMARKS
    assert any("one class only" in remark for remark in seen.remarks)
    for line in lines.values():
        assert line.hospitals["odd"].value is None
        assert line.hospitals["odd"].patients > 0
        assert line.whole.value is not None
        assert line.hospitals["alpha"].value is not None
    assert finite(lines)


def test_a_hospital_with_five_patients_trains_and_is_scored_with_an_honest_width(small):
    put(small, rows(small)[:6])
    lines, seen = played(small)
    assert seen.verdict is not Verdict.NOT_READY
    assert finite(lines)
    own = lines["leave one hospital out"].hospitals["odd"]
    assert own.patients == 5
    if own.value is not None:
        assert own.high - own.low > 0.4
    assert lines["pooled"].whole.value > 0.8


def test_a_hospital_with_nobody_held_out_has_na_and_the_pooled_number_stays(small):
    """One patient: on one side of the split, so the other side is empty."""
    put(small, rows(small)[:2])
    lines, _ = played(small)
    held = {line.hospitals["odd"].patients for line in lines.values()}
    assert held <= {0, 1}
    assert all(line.hospitals["odd"].value is None for line in lines.values())
    assert lines["federated"].whole.value is not None


def test_with_40_percent_missing_the_model_trains_and_says_so(small):
    header, *body = rows(small)
    draw = np.random.default_rng(1)
    cut = []
    for line in body:
        patient, age, marker, smoker, ill = line.split(",")
        cut.append(",".join([patient, age, "" if draw.random() < 0.4 else marker, smoker, ill]))
    put(small, [header, *cut])
    lines, seen = played(small)
    assert seen.verdict is not Verdict.NOT_READY
    missing = next(column for column in seen.columns if column.column == "marker").missing
    assert 45 <= int(missing) <= 85
    assert finite(lines)
    assert lines["federated"].hospitals["odd"].value > 0.6


def test_another_unit_without_a_word_is_refused_in_counts_and_with_one_it_is_converted(small):
    """Ages in months: outside the range, refused; declared, the same features as in years."""
    before = gather(small / "study", small / "data").encoded["odd"]
    header, *body = rows(small)
    parts = [line.split(",") for line in body]
    put(small, [header, *(",".join([p[0], f"{float(p[1]) * 12:.1f}", *p[2:]]) for p in parts)])
    with pytest.raises(BadInput, match="age: 160 of 160 values outside 18") as caught:
        gather(small / "study", small / "data")
    assert "key-" not in str(caught.value)
    text = DESCRIPTION.format(hospital="odd", dataset="small-odd", path="odd.csv")
    years = 'source = "age"\nunit = "a"\n'
    months = 'source = "age"\nunit = "mo"\nconvert = { to = "a", scale = 0.08333333333333333 }\n'
    assert years in text
    (small / "study" / "hospitals" / "odd.toml").write_text(text.replace(years, months))
    after = gather(small / "study", small / "data").encoded["odd"]
    assert after.patients == before.patients
    np.testing.assert_allclose(after.features, before.features, atol=1e-5)


def test_a_marker_on_another_scale_that_a_hospital_does_not_know_of_is_missing_there(small):
    """Another machine whose values all lie outside: the description says missing, and the check."""
    header, *body = rows(small)
    parts = [line.split(",") for line in body]
    put(small, [header, *(",".join([*p[:2], f"{float(p[2]) + 50:.1f}", *p[3:]]) for p in parts)])
    lines, seen = played(small)
    assert any("160 of 160 values out of range, taken as missing" in r for r in seen.remarks)
    assert finite(lines)
    assert lines["federated"].hospitals["alpha"].value > 0.8
