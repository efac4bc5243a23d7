"""RFC 6962 known answers."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from wardround.errors import BadInput
from wardround.evidence.faults import LogFault
from wardround.evidence.merkle import (
    CompactRange,
    consistency_proof,
    inclusion_proof,
    inclusion_proofs,
    leaf_hash,
    node_hash,
    root,
    verify_consistency,
    verify_inclusion,
)

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/evidence_merkle.json").read_text())
LEAVES = [bytes.fromhex(leaf) for leaf in VECTORS["leaves"]]
ROOTS = [bytes.fromhex(value) for value in VECTORS["roots"]]


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_the_reference_implementation(size):
    assert root(LEAVES[:size]) == ROOTS[size]


def test_a_growing_range_has_the_reference_root_at_every_size():
    grown = CompactRange()
    for size, leaf in enumerate(LEAVES):
        assert grown.root() == ROOTS[size]
        grown.append(leaf)
    assert grown.root() == ROOTS[8]


@pytest.mark.parametrize("case", VECTORS["consistency"])
def test_consistency_proofs_are_those_of_the_reference_implementation(case):
    proof = consistency_proof(LEAVES, case["old"], case["new"])
    assert [item.hex() for item in proof] == case["proof"]
    verify_consistency(case["old"], ROOTS[case["old"]], case["new"], ROOTS[case["new"]], proof)


def test_every_node_of_the_tree_of_eight_is_the_published_one():
    nodes = [[bytes.fromhex(value) for value in level] for level in VECTORS["nodes"]]
    assert [leaf_hash(leaf) for leaf in LEAVES] == nodes[0]
    for below, level in pairwise(nodes):
        assert [node_hash(*below[at : at + 2]) for at in range(0, len(below), 2)] == level
    assert nodes[3] == [ROOTS[8]]


@pytest.mark.parametrize("case", VECTORS["inclusion"])
def test_inclusion_proofs_are_the_published_ones(case):
    leaf, size = case["leaf"], case["size"]
    proof = inclusion_proof(LEAVES[:size], leaf)
    assert [item.hex() for item in proof] == case["proof"]
    assert inclusion_proofs(LEAVES[:size])[leaf] == proof
    verify_inclusion(LEAVES[leaf], leaf, size, proof, ROOTS[size])


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_a_proof_of_an_entry_that_is_not_there_is_refused(index, size):
    with pytest.raises(BadInput, match=f"entry {index} of a tree of {size}"):
        inclusion_proof(LEAVES[:size], index)
    with pytest.raises(LogFault, match="not-included"):
        verify_inclusion(b"", index, size, [], ROOTS[size])


def test_an_empty_tree_has_no_proofs():
    assert inclusion_proofs([]) == []


@pytest.mark.parametrize("proof", [[b"short"], [b"\x00" * 32] * 65, [], [ROOTS[3]] * 9])
def test_an_inclusion_proof_of_another_shape_is_refused(proof):
    with pytest.raises(LogFault, match="not-included"):
        verify_inclusion(LEAVES[5], 5, 8, proof, ROOTS[8])


def test_a_node_does_not_pass_for_a_leaf():
    left, right = (leaf_hash(leaf) for leaf in LEAVES[:2])
    with pytest.raises(LogFault, match="not-included"):
        verify_inclusion(left + right, 0, 1, [], ROOTS[2])


@pytest.mark.parametrize(("old", "new"), [(-1, 3), (4, 3), (2, 9)])
def test_a_proof_for_sizes_that_do_not_fit_is_refused(old, new):
    with pytest.raises(BadInput):
        consistency_proof(LEAVES, old, new)


def test_a_shrunken_log_is_not_consistent():
    with pytest.raises(LogFault, match="not-consistent"):
        verify_consistency(8, ROOTS[8], 6, ROOTS[6], [])


def test_two_roots_for_one_size_are_not_consistent():
    with pytest.raises(LogFault, match="two roots"):
        verify_consistency(8, ROOTS[8], 8, ROOTS[7], [])


def test_a_wrong_root_of_the_empty_log_is_not_consistent():
    with pytest.raises(LogFault, match="empty log"):
        verify_consistency(0, ROOTS[1], 8, ROOTS[8], [])


@pytest.mark.parametrize("proof", [[b"short"], [b"\x00" * 32] * 65, [], [ROOTS[3]] * 9])
def test_a_proof_of_another_shape_is_refused(proof):
    with pytest.raises(LogFault, match="not-consistent"):
        verify_consistency(6, ROOTS[6], 8, ROOTS[8], proof)
