"""What tells one laboratory's molecules from another's: a few numbers of each SMILES.

A fingerprint here is made of the text (`wardround_client.data.fingerprint`), so how a laboratory
writes its molecules matters as much as which ones it has: aromatic rings in lower case or with
double bonds, charges and hydrogens in brackets, salts left in or stripped.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from wardround.statistics.cells import (
    DOUBLE_BONDS,
    HEAVY_ATOMS,
    IN_BRACKETS,
    LOWER_CASE,
    SEVERAL_PARTS,
)
from wardround_client.data.fingerprint import symbols
from wardround_client.data.scaffold import elements

Floats = npt.NDArray[np.float64]
MOLECULE_NUMBERS = (HEAVY_ATOMS, LOWER_CASE, DOUBLE_BONDS, IN_BRACKETS, SEVERAL_PARTS)
_LIGHT = {"H", "*"}


def molecule_numbers(smiles: str) -> tuple[float, ...]:
    """In the order of MOLECULE_NUMBERS.

    Heavy atoms are all but hydrogen and `*`, NaN where the text has no structure: a ring or branch
    is open, or a letter is no atom. The others need the text alone: of its atoms the share in lower
    case, double bonds for each, the share in brackets; and 1 where a dot parts the molecule.

    >>> molecule_numbers("c1ccccc1C(=O)[O-].[Na+]")
    (10.0, 0.6, 0.1, 0.2, 1.0)
    >>> molecule_numbers("C1CC")
    (nan, 0.0, 0.0, 0.0, 0.0)
    """
    text, structure = symbols(smiles) or (), elements(smiles)
    atoms = [symbol for symbol in text if symbol[0].isalpha() or symbol[0] in "[*"]
    lower = sum(atom.strip("[0123456789")[:1].islower() for atom in atoms)
    brackets = sum(atom.startswith("[") for atom in atoms)
    every = max(len(atoms), 1)
    heavy = np.nan if structure is None else sum(element not in _LIGHT for element in structure)
    return (
        float(heavy),
        lower / every,
        min(text.count("=") / every, 1.0),
        brackets / every,
        float("." in text),
    )


def numbers_of_molecules(smiles: Iterable[object]) -> Floats:
    """[molecules, numbers], one row a molecule."""
    rows = [molecule_numbers(str(one)) for one in smiles]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(MOLECULE_NUMBERS))


def without_structure(smiles: Iterable[object]) -> int:
    """How many of these texts have no structure."""
    return sum(elements(str(one)) is None for one in smiles)
