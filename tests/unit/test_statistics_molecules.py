"""Statistics of molecules: what is counted of a SMILES, what one adds, and who differs."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.described_data import contract as agreed
from tests.support.described_data import description, refusal, write
from tests.support.patient_table import plan_of
from tests.support.quality_wards import DATA, described, judged, plan_with
from tests.support.study_plans import MOLECULE

from wardround.quality.verdict import Reason, Verdict
from wardround.statistics.cells import ONE
from wardround.statistics.layout import StatisticsLayout
from wardround.statistics.released import ReleasedStatistics
from wardround.statistics.tally import tally
from wardround.study.contract import Column, ColumnKind, Contract, Grams, Label
from wardround_client.data.check import check
from wardround_client.data.molecules import MOLECULE_NUMBERS, molecule_numbers
from wardround_client.data.reading import Records
from wardround_client.quality_view import QualityView
from wardround_client.statistics import patient_rows

SMILES = Column(
    name="smiles",
    kind=ColumnKind.FINGERPRINT,
    description="m",
    grams=Grams(size=16, longest=2),
)
CONTRACT = Contract(
    patient_key="patient",
    label=Label(name="toxic", description="toxic", positive="yes"),
    columns=(SMILES,),
)
LAYOUT = StatisticsLayout.of(CONTRACT, plan_of(bins=10))
KNOWN = [
    ("CC(=O)Oc1ccccc1C(=O)O", 13),  # aspirin
    ("Cn1cnc2c1c(=O)n(C)c(=O)n2C", 14),  # caffeine
    ("CN1CCC[C@H]1c1cccnc1", 12),  # nicotine
    ("[2H]C([2H])([2H])Cl", 2),
    ("[NH4+].[Cl-]", 2),
    ("[H][H]", 0),
    ("*C", 1),
]


def records(patients, molecules):
    return Records(
        patients=tuple(patients),
        values=pd.DataFrame({"smiles": list(molecules)}),
        labels=np.zeros(len(molecules), dtype=np.int8),
        folder=DATA,
    )


def sums(patients, molecules):
    found = patient_rows(records(patients, molecules), LAYOUT, by_record=False)
    return tally(found, LAYOUT).values


@pytest.mark.parametrize(("smiles", "heavy"), KNOWN)
def test_heavy_atoms_are_those_of_known_molecules(smiles, heavy):
    assert molecule_numbers(smiles)[0] == heavy


@pytest.mark.parametrize("smiles", ["C1CC", "C(C", "C)C", "CxC"])
def test_what_has_letters_and_no_form_has_no_heavy_atoms(smiles):
    assert np.isnan(molecule_numbers(smiles)[0])


def test_every_spelling_of_a_ring_has_its_own_numbers():
    """Benzene: its ring in lower case, by Kekule, and by bonds that say what they are."""
    found = [molecule_numbers(one)[:3] for one in ("c1ccccc1", "C1=CC=CC=C1", "C1:C:C:C:C:C:1")]
    assert found == [(6.0, 1.0, 0.0), (6.0, 0.0, 0.5), (6.0, 0.0, 0.0)]


@pytest.mark.skipif(not DATA.is_dir(), reason="skipped: ../shared/data not present")
def test_the_heavy_atoms_of_real_molecules_are_counted_as_an_expression_counts_them():
    listed = pd.read_csv(DATA / "moleculenet" / "BBBP.csv")["smiles"].dropna()
    atom = re.compile(r"\[\d*(?:Cl|Br|[A-Z][a-z]?|[a-z])|Cl|Br|[BCNOPSFI]|[bcnops]")
    for smiles in listed[:500]:
        due = [one for one in atom.findall(smiles.strip()) if one.lstrip("[0123456789") != "H"]
        assert molecule_numbers(smiles.strip())[0] == len(due), smiles


def test_each_molecule_counts_once_and_one_without_a_structure_is_missing():
    molecules = ["CCO", "CC(=O)Oc1ccccc1C(=O)O", "C1CC", "[Na+].[Cl-]", "CCCC"]
    layout_sums = sums("aabcd", molecules)
    found = ReleasedStatistics(LAYOUT, layout_sums, 1, 1).estimates(0.0)
    assert [column.name for column in found.columns] == [
        f"smiles: {what}" for what in MOLECULE_NUMBERS
    ]
    heavy, lower, double, brackets, parts = found.columns
    assert (heavy.missing.value, heavy.present.value) == (1, 3)
    assert heavy.mean.value == pytest.approx((8 + 2 + 4) / 3, abs=50 / ONE)
    assert [each.value for each in heavy.bins] == [3, *[0] * 9]
    assert lower.mean.value == pytest.approx(6 / 13 / 2 / 4, abs=1 / ONE)
    assert double.mean.value == pytest.approx(2 / 13 / 2 / 4, abs=1 / ONE)
    assert brackets.mean.value == parts.mean.value == pytest.approx(1 / 4, abs=1 / ONE)


TEXTS = st.text(alphabet="CNOcn()[]12%=#.:Hl", min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=4), st.lists(TEXTS, min_size=1, max_size=3))
def test_one_patients_molecules_move_the_vector_by_no_more_than_is_claimed(others, own):
    before = [str(place) for place in range(len(others))]
    change = sums([*before, *["z"] * len(own)], [*others, *own]) - sums(before, others)
    assert 0 < int((change**2).sum()) <= LAYOUT.sensitivity_squared


def test_a_molecule_at_all_bounds_moves_the_vector_by_exactly_what_is_claimed():
    """A claim that is too large would be paid for in noise. One label cell, too, is its own."""
    worst = ".".join(["[cH]"] * 100)
    no_double_bond = molecule_numbers(worst)
    assert no_double_bond == (100.0, 1.0, 0.0, 1.0, 1.0)
    assert int((sums("a", [worst]) ** 2).sum()) == LAYOUT.sensitivity_squared


PLAN = plan_with("molecules", epsilon=3.0) if DATA.is_dir() else None
OTHER = "fourth"


def in_lower_case(smiles: str) -> str:
    """The aromatic atoms of BBBP's spelling (C1:C:C...), written as most tools write them."""
    ring = re.sub(r"([BCNOPS])(?=\d*:)|(?<=:)([BCNOPS])(?![a-z])", lambda m: m[0].lower(), smiles)
    return ring.replace(":", "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """800 of the study's molecules, once as they are and once with rings in lower case."""
    found = tmp_path_factory.mktemp("respelled")
    listed = pd.read_csv(DATA / "moleculenet" / "BBBP.csv")
    listed = listed.dropna(subset="smiles").drop_duplicates("smiles")[:800]
    listed["spelled"] = listed["smiles"].map(in_lower_case)
    listed.to_csv(found / "BBBP.csv", index=False)
    return found


def wards(folder, spelling):
    """Four laboratories, dealt out by a hash, of which the last one has a spelling of its own."""
    found = {}
    for place, name in enumerate(("first", "second", "third", OTHER)):
        rows = [{"source": "smiles", "parts": {"of": 4, "own": [place]}}]
        source = spelling if name == OTHER else "smiles"
        columns = [{"column": "smiles", "source": source}]
        found[name] = described("molecules", name, rows=rows, columns=columns), folder
    return found


@pytest.mark.slow
@pytest.mark.skipif(PLAN is None, reason="skipped: ../shared/data not present")
def test_a_laboratory_that_writes_its_rings_in_another_way_is_told_so_and_only_it(folder):
    found = judged(PLAN, wards(folder, "spelled"))
    other = found.pop(OTHER)
    same = judged(PLAN, wards(folder, "smiles"))
    verdicts = {looked.assessment.verdict for looked in (*found.values(), *same.values())}
    assert verdicts == {Verdict.READY}
    assert other.assessment.verdict is Verdict.READY_WITH_REMARKS
    assert set(other.assessment.reasons) == {Reason.DIFFERS}
    assert {each.column for each in other.assessment.findings} == {"smiles: atoms in lower case"}
    assert all("another way to write SMILES" in each.advice for each in other.assessment.findings)
    view = QualityView("fourth", "molecules", other, "verdict").to_json()
    assert view["unread"] == {"smiles": 0.0}


def test_smiles_without_a_structure_are_a_remark_and_text_that_is_none_a_fault(tmp_path):
    label = {"name": "toxic", "description": "x", "positive": "y > 0"}
    own = description(
        {"source": "y", "positive_when": ">0"}, ({"column": "smiles", "source": "s"},)
    )
    write(tmp_path, main_csv="id,s,y\na,CCO,1\nb,C1CC,0\nc,c1ccccc1,1\n")
    found = check(own, agreed(label, MOLECULE), tmp_path)
    (remark,) = (each for each in found.remarks if "structure" in each)
    assert remark.startswith("column smiles: 1 of 3 SMILES have no structure")
    assert "C1CC" not in remark
    write(tmp_path, main_csv="id,s,y\na,CCO,1\nb,not one,0\n")
    assert "1 of 2 values are not SMILES" in refusal(own, agreed(label, MOLECULE), tmp_path)
