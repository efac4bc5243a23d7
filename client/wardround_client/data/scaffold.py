"""The ring scaffold of a molecule: what is left of its SMILES when all side chains are cut off.

Molecules with one scaffold are near relatives, so a study that deals them out by scaffold asks
whether a model holds for chemistry that it has not seen. Atoms and their neighbours count, the
orders of bonds do not: no chemistry is computed. (Bemis and Murcko 1996, Journal of Medicinal
Chemistry 39, 2887; the naming by refined neighbourhoods is Morgan's, 1965)
"""

import hashlib
import re
from dataclasses import dataclass, field

from wardround_client.data.fingerprint import symbols

_ORGANIC = {"B", "C", "N", "O", "P", "S", "F", "I", "Cl", "Br", "*"}
_AROMATIC = {"b", "c", "n", "o", "p", "s"}
_ELEMENT = re.compile(r"\[\d*(?P<element>[A-Z][a-z]?|[a-z][a-z]?|\*)")
_BONDS = frozenset("-=#$:/\\")


@dataclass(slots=True)
class _Molecule:
    elements: list[str] = field(default_factory=list)
    neighbours: list[set[int]] = field(default_factory=list)

    def add(self, element: str) -> int:
        self.elements.append(element)
        self.neighbours.append(set())
        return len(self.elements) - 1

    def join(self, one: int, other: int) -> None:
        self.neighbours[one].add(other)
        self.neighbours[other].add(one)


def scaffold(smiles: str) -> str | None:
    """A name of the rings and what links them, 16 hex digits; "" without a ring.

    The same for every spelling that differs in order, in hydrogens or in how bonds are written.
    None for text that is no SMILES.

    >>> scaffold("Cc1ccccc1") == scaffold("C1=CC=CC=C1CCO"), scaffold("CCO")
    (True, '')
    """
    molecule = _parsed(smiles)
    if molecule is None:
        return None
    core = _without_side_chains(molecule)
    if not core:
        return ""
    names = {atom: molecule.elements[atom] for atom in core}
    for _ in core:
        refined = {atom: _refined(atom, molecule, names) for atom in core}
        if len(set(refined.values())) == len(set(names.values())):
            break
        names = refined
    names = {atom: _refined(atom, molecule, names) for atom in core}
    return _digest(sorted(names.values()))[:16]


def elements(smiles: str) -> tuple[str, ...] | None:
    """The elements of all atoms that are written, in their order; None without a structure.

    >>> elements("Clc1cc[nH]c1"), elements("C1CC")
    (('Cl', 'C', 'C', 'C', 'N', 'C'), None)
    """
    molecule = _parsed(smiles)
    return None if molecule is None else tuple(molecule.elements)


def _without_side_chains(molecule: _Molecule) -> set[int]:
    left = set(range(len(molecule.elements)))
    while ends := {atom for atom in left if len(molecule.neighbours[atom] & left) <= 1}:
        left -= ends
    return left


def _refined(atom: int, molecule: _Molecule, names: dict[int, str]) -> str:
    around = sorted(names[other] for other in molecule.neighbours[atom] if other in names)
    return _digest([names[atom], *around])


def _digest(words: list[str]) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()


@dataclass(slots=True)
class _Reader:
    """Where in a SMILES we are: the last atom, the branches to go back to, the rings still open."""

    molecule: _Molecule = field(default_factory=_Molecule)
    last: int | None = None
    branches: list[int | None] = field(default_factory=list)
    rings: dict[str, int] = field(default_factory=dict)

    def take(self, symbol: str) -> bool:
        """Read one symbol; False for one that has no place here."""
        if symbol == "(":
            self.branches.append(self.last)
        elif symbol == ")" and self.branches:
            self.last = self.branches.pop()
        elif symbol == ".":
            self.last = None
        elif symbol[-1].isdigit() and self.last is not None:
            self._ring(symbol.lstrip("%"), self.last)
        else:
            return symbol in _BONDS or self._atom(symbol)
        return True

    def _ring(self, label: str, atom: int) -> None:
        opened = self.rings.pop(label, None)
        if opened is None:
            self.rings[label] = atom
        elif opened != atom:
            self.molecule.join(opened, atom)

    def _atom(self, symbol: str) -> bool:
        element = _element(symbol)
        if element is None:
            return False
        atom = self.molecule.add(element)
        if self.last is not None:
            self.molecule.join(self.last, atom)
        self.last = atom
        return True


def _parsed(smiles: str) -> _Molecule | None:
    found, reader = symbols(smiles), _Reader()
    if found is None or not all(reader.take(symbol) for symbol in found):
        return None
    return None if reader.branches or reader.rings else reader.molecule


def _element(symbol: str) -> str | None:
    if symbol in _ORGANIC:
        return symbol
    if symbol in _AROMATIC:
        return symbol.upper()
    found = _ELEMENT.match(symbol)
    return found["element"].capitalize() if found else None
