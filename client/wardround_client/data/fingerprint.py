"""A molecule's SMILES as numbers: which runs of symbols it has, hashed to a fixed size.

No chemistry is computed, so no library is needed; two spellings of one molecule differ. Symbols are
those of the grammar: a bracket atom, Cl and Br count as one. (Weininger 1988)
"""

import hashlib
import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from wardround.study.contract import Grams

LONGEST_SMILES = 5000
_SYMBOL = re.compile(r"\[[^\[\]]{1,100}\]|Cl|Br|%\d\d|[A-Za-z0-9@+\-=#$:/\\.()*~]")


def symbols(smiles: str) -> tuple[str, ...] | None:
    """The symbols of a SMILES; None for text that is none, or is too long.

    >>> symbols("CCl")
    ('C', 'Cl')
    >>> symbols("C[NH4+]1")
    ('C', '[NH4+]', '1')
    """
    if not 0 < len(smiles) <= LONGEST_SMILES:
        return None
    found = _SYMBOL.findall(smiles)
    return tuple(found) if "".join(found) == smiles else None


def fingerprint(smiles: str, grams: Grams) -> npt.NDArray[np.float32]:
    """[size]: 1 at the place of every run of 1 to `longest` symbols, 0 elsewhere.

    A place is the first 64 bits of SHA-256 over the run, modulo `size`. Text that is no SMILES
    gives zeros; `wardround data check` counts it.
    """
    vector = np.zeros(grams.size, dtype=np.float32)
    found = symbols(smiles) or ()
    for length in range(1, grams.longest + 1):
        for start in range(len(found) - length + 1):
            vector[_place(found[start : start + length], grams.size)] = 1.0
    return vector


def fingerprints(smiles: Iterable[str], grams: Grams) -> npt.NDArray[np.float32]:
    """[records, size], one row a record."""
    rows = [fingerprint(one, grams) for one in smiles]
    return np.stack(rows) if rows else np.zeros((0, grams.size), dtype=np.float32)


def _place(run: tuple[str, ...], size: int) -> int:
    digest = hashlib.sha256("\0".join(run).encode()).digest()
    return int.from_bytes(digest[:8], "big") % size
