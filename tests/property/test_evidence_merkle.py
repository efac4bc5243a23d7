"""Consistency proofs for every pair of sizes, inclusion proofs for every leaf, damaged ones."""

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.evidence.faults import LogFault
from wardround.evidence.merkle import (
    consistency_proof,
    inclusion_proof,
    inclusion_proofs,
    root,
    verify_consistency,
    verify_inclusion,
)

MOST = 40
LEAVES = [bytes([at]) * (at % 5) for at in range(MOST)]


@functools.cache
def root_at(size):
    return root(LEAVES[:size])


def test_every_pair_of_sizes_up_to_40_has_a_proof_that_verifies():
    for new in range(MOST + 1):
        for old in range(new + 1):
            proof = consistency_proof(LEAVES, old, new)
            verify_consistency(old, root_at(old), new, root_at(new), proof)


def test_no_pair_of_sizes_up_to_40_verifies_for_a_rewritten_log():
    rewritten = [b"rewritten", *LEAVES[1:]]
    for new in range(2, MOST + 1):
        other = root(rewritten[:new])
        for old in range(1, new):
            proof = consistency_proof(rewritten, old, new)
            with pytest.raises(LogFault):
                verify_consistency(old, root_at(old), new, other, proof)


def damaged(data, proof):
    """A proof that is not this one."""
    kind = data.draw(st.sampled_from(["flip", "drop", "add", "swap"]))
    at = data.draw(st.integers(0, len(proof) - 1))
    if kind == "flip":
        flipped = int.from_bytes(proof[at], "big") ^ (1 << data.draw(st.integers(0, 255)))
        return [*proof[:at], flipped.to_bytes(32, "big"), *proof[at + 1 :]]
    if kind == "drop":
        return proof[:at] + proof[at + 1 :]
    if kind == "swap" and (turned := [*proof[1:], proof[0]]) != proof:
        return turned
    return [*proof[:at], data.draw(st.binary(min_size=32, max_size=32)), *proof[at:]]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_proof_never_verifies(data):
    new = data.draw(st.integers(2, MOST))
    old = data.draw(st.integers(1, new - 1))
    proof = consistency_proof(LEAVES, old, new)
    with pytest.raises(LogFault):
        verify_consistency(old, root_at(old), new, root_at(new), damaged(data, proof))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, MOST), st.integers(1, MOST), st.integers(1, MOST))
def test_a_proof_for_other_sizes_never_verifies(old, new, other):
    if not old < new or other in (old, new) or other > new:
        return
    proof = consistency_proof(LEAVES, old, new)
    with pytest.raises(LogFault):
        verify_consistency(other, root_at(other), new, root_at(new), [*proof, root_at(1)])


def test_every_leaf_of_trees_up_to_40_has_a_proof_that_verifies_at_its_place_alone():
    for size in range(1, MOST + 1):
        proofs = inclusion_proofs(LEAVES[:size])
        assert len(proofs) == size
        for index, proof in enumerate(proofs):
            assert inclusion_proof(LEAVES[:size], index) == proof
            verify_inclusion(LEAVES[index], index, size, proof, root_at(size))
            for other in {index - 1, index + 1, size - 1, 0} & set(range(size)) - {index}:
                with pytest.raises(LogFault, match="not-included"):
                    verify_inclusion(LEAVES[index], other, size, proof, root_at(size))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_inclusion_proof_leaf_or_root_never_verifies(data):
    size = data.draw(st.integers(2, MOST))
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(LEAVES[:size], index)
    wrong = damaged(data, proof)
    with pytest.raises(LogFault, match="not-included"):
        verify_inclusion(LEAVES[index], index, size, wrong, root_at(size))
    with pytest.raises(LogFault, match="not-included"):
        verify_inclusion(LEAVES[index] + b"x", index, size, proof, root_at(size))
    with pytest.raises(LogFault, match="not-included"):
        verify_inclusion(LEAVES[index], index, size, proof, root_at(size - 1))
