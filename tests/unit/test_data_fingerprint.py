"""Molecules as hashed runs of symbols: the same everywhere, and nothing else is a molecule."""

import hashlib

import numpy as np
import pytest
from tests.support.described_data import contract, description, encoded, refusal, write
from tests.support.study_plans import BINARY, MOLECULE

from wardround.study.contract import Grams
from wardround_client.data.fingerprint import fingerprint, symbols

SOURCE = {"column": "smiles", "source": "smiles"}
RULE = {"source": "y", "positive_when": ">0"}


def place(*run, size):
    digest = hashlib.sha256("\0".join(run).encode()).hexdigest()
    return int(digest[:16], 16) % size


def test_every_run_up_to_the_longest_has_its_place_and_no_other_is_set():
    got = fingerprint("CClC", Grams(size=4096, longest=2))
    due = {("C",), ("Cl",), ("C", "Cl"), ("Cl", "C")}
    assert set(np.flatnonzero(got)) == {place(*run, size=4096) for run in due}
    assert set(got.tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("text", ["", "C C", "C[", "caf\u00e9", "C" * 5001, "C\n"])
def test_text_that_is_no_smiles_has_no_symbols(text):
    assert symbols(text) is None


def test_molecules_of_the_public_sets_are_read():
    long = "CC1:O:N:C(C2:C:C:C:C:C:2Cl):C:1C(=O)N[C@@H]1C(=O)N2[C@@H](C(=O)O)C(C)(C)S[C@H]12"
    assert "".join(symbols(long)) == long
    assert symbols("F/C=C\\Br%12") == ("F", "/", "C", "=", "C", "\\", "Br", "%12")


def test_a_column_of_molecules_is_encoded_and_its_faults_are_counted(tmp_path):
    agreed = contract(BINARY, MOLECULE)
    write(tmp_path, main_csv="id,smiles,y\np1,CCO,1\np2,CCN,0\n")
    found = encoded(description(RULE, [SOURCE]), agreed, tmp_path)
    assert found.features.shape == (2, 32)
    np.testing.assert_array_equal(found.features[0], fingerprint("CCO", Grams(size=32, longest=3)))
    assert len(agreed.features()) == 32
    write(tmp_path, main_csv="id,smiles,y\np1,C C secret,1\np2,,0\n")
    said = refusal(description(RULE, [SOURCE]), agreed, tmp_path)
    assert "column smiles: 1 of 2 values are not SMILES" in said
    assert "column smiles: 1 of 2 values are missing" in said
    assert "secret" not in said
