"""Ring scaffolds of molecules, and rows that are dealt out by them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.described_data import contract, description, encoded, refusal, write
from tests.support.study_plans import BINARY, MOLECULE

from wardround.errors import BadInput
from wardround_client.data.fingerprint import LONGEST_SMILES
from wardround_client.data.scaffold import scaffold
from wardround_client.data.table import in_part

RULE = {"source": "y", "positive_when": ">0"}
SMILES = {"column": "smiles", "source": "s"}
BENZENES = ["c1ccccc1", "Cc1ccccc1", "C1=CC=CC=C1CCO", "OC1:C:C:C:C:C:1", "c1ccc(C(F)(F)F)cc1"]
SAME = [
    (BENZENES[0], BENZENES[1]),
    (BENZENES[0], BENZENES[2]),
    (BENZENES[0], BENZENES[3]),
    (BENZENES[0], BENZENES[4]),
    ("c1ccc2ccccc2c1", "c1cccc2c1cccc2"),
    ("C%12CCCC%12", "C1CCCC1"),
    ("[nH]1cccc1", "n1(C)cccc1"),
    ("c1ccccc1CCc1ccncc1", "c1cc(CCc2ccccc2)ccn1"),
    ("c1ccccc1.[Cl-]", "[Na+].c1ccccc1"),
]
DIFFERENT = [
    ("c1ccccc1", "c1ccncc1"),
    ("c1ccccc1", "C1CCCC1"),
    ("c1ccccc1Cc1ccccc1", "c1ccccc1CCc1ccccc1"),
    ("c1ccccc1-c1ccccc1", "c1ccc2ccccc2c1"),
    ("c1ccccc1", "CCCCCC"),
    ("C1CC2CCC1CC2", "C1CCC2CCCC2C1"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_side_chains_order_and_bonds_do_not_change_a_scaffold(one, other):
    assert scaffold(one) == scaffold(other) != ""


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_other_rings_links_or_elements_are_another_scaffold(one, other):
    assert scaffold(one) != scaffold(other)


@pytest.mark.parametrize("chain", ["C", "CCO", "[NH4+]", "C(C)(C)C", "CC.O"])
def test_a_molecule_without_a_ring_has_the_empty_scaffold(chain):
    assert scaffold(chain) == ""


@pytest.mark.parametrize(
    "text", ["", "C1CC", "C(C", "C)C", "CxC", "not a smiles", "1C", "C" * (LONGEST_SMILES + 1)]
)
def test_text_that_is_no_smiles_has_no_scaffold(text):
    assert scaffold(text) is None


@given(st.text(alphabet="CNOcn()[]12%=#.:Hl", max_size=40))
def test_no_text_makes_it_fail(text):
    found = scaffold(text)
    assert found is None or found == "" or len(found) == 16


@given(st.integers(3, 9), st.integers(0, 8), st.integers(0, 5))
def test_where_a_ring_is_begun_and_what_hangs_on_it_does_not_matter(size, start, chain):
    """One nitrogen in a ring of carbons, written from every atom on."""
    atoms = ["N", *["C"] * (size - 1)]
    place = start % size
    turned = atoms[place:] + atoms[:place]
    written = f"{turned[0]}1{''.join(turned[1:])}1{'C' * chain}"
    assert scaffold(written) == scaffold(f"N1{'C' * (size - 1)}1")


def test_molecules_of_one_scaffold_go_to_one_laboratory(tmp_path):
    molecules = [*BENZENES, "c1ccncc1", "Cc1ccncc1", "C1CCCC1", "CCO", "CCCCO"]
    write(tmp_path, main_csv="s,y\n" + "".join(f"{smiles},1\n" for smiles in molecules))
    seen = {}
    for part in range(3):
        rows = [{"source": "s", "scaffold": True, "parts": {"of": 3, "own": [part]}}]
        described = description(RULE, [SMILES], patient={"source": "s"}, rows=rows)
        try:
            own = encoded(described, contract(BINARY, MOLECULE), tmp_path).patients
        except BadInput:  # a part may be empty
            assert "no row is what `rows` wants" in refusal(
                described, contract(BINARY, MOLECULE), tmp_path
            )
            own = ()
        seen[part] = set(own)
        assert all(in_part(scaffold(smiles) or "", 3) == part for smiles in own)
    assert sorted(smiles for own in seen.values() for smiles in own) == sorted(molecules)
    homes = {part for part, own in seen.items() for smiles in own if smiles in BENZENES}
    assert len(homes) == 1


def test_a_scaffold_without_parts_is_refused():
    with pytest.raises(BadInput, match="belongs to `parts`"):
        description(RULE, [SMILES], rows=[{"source": "s", "scaffold": True, "values": ["C"]}])
