"""A witness demands a proof that a log grew from every head that it saw."""

from datetime import UTC, datetime

import pytest
from tests.support.identities import identity_of

from wardround.errors import ProtocolViolation
from wardround.evidence.checkpoint import checkpoint_of, sign_checkpoint
from wardround.evidence.entry import Entry, head_of
from wardround.evidence.faults import LogFault
from wardround.evidence.log import EvidenceLog
from wardround.evidence.merkle import consistency_proof
from wardround.evidence.witness import MAX_UNPROVEN, Witness
from wardround_server.rounds.heads import HeadsShown

IDENTITY = identity_of(bytes(range(32)))
NOW = datetime(2026, 3, 2, tzinfo=UTC)
ACTOR = "coordinator"


def log_of(count: int, *, other_from: int = 10**6) -> list[Entry]:
    """Entries, those from `other_from` on with another body than in the log of the same count."""
    entries: list[Entry] = []
    for seq in range(count):
        body = {"number": seq, "other": seq >= other_from}
        entry = Entry(
            seq=seq, time=NOW, type="event", actor=ACTOR, body=body, previous=head_of(entries)
        )
        entries.append(entry)
    return entries


def note(entries: list[Entry]) -> str:
    return sign_checkpoint(IDENTITY, checkpoint_of(entries, actor=ACTOR))


def proofs(entries: list[Entry], *sizes: int) -> dict[int, list[bytes]]:
    leaves = [entry.to_bytes() for entry in entries]
    return {size: consistency_proof(leaves, size, len(leaves)) for size in sizes}


def witness(*sizes: int, log: list[Entry] | None = None) -> Witness:
    """A witness that saw the log at these sizes."""
    made = Witness(ACTOR, IDENTITY.public_key)
    for size in sizes:
        made.check(note((log or log_of(size))[:size]))
    return made


@pytest.mark.parametrize(("old", "new"), [(0, 5), (1, 5), (4, 7), (5, 5), (8, 9), (3, 64)])
def test_growth_that_is_proven_is_believed_and_the_new_head_waits(old: int, new: int):
    watching = witness(old)
    entry = watching.check(note(log_of(new)), proofs(log_of(new), old))
    assert entry is not None
    assert entry[1]["size"] == new
    assert watching.unproven == (new,)


def test_a_missing_proof_is_refused():
    for given in ({}, proofs(log_of(7), 3)):
        with pytest.raises(ProtocolViolation, match="no proof that its 7 entries begin with the 4"):
            witness(4).check(note(log_of(7)), given)


def test_a_longer_log_that_was_rewritten_is_refused_whatever_it_proves():
    """Sizes only grow and no head came twice: nothing but the proof shows it."""
    rewritten = log_of(9, other_from=2)
    own = proofs(rewritten, 4)[4]
    for given in (own, own[:-1], [*own, bytes(32)], [], [bytes(32)] * len(own)):
        with pytest.raises(LogFault, match="not-consistent"):
            witness(4).check(note(rewritten), {4: given})


def test_a_log_rewritten_behind_the_head_that_was_seen_is_believed():
    """What nobody has seen yet is the coordinator's to write."""
    assert witness(4).check(note(log_of(9, other_from=4)), proofs(log_of(9, other_from=4), 4))


def test_every_head_that_waits_needs_its_proof():
    watching = witness(2, 5)
    assert watching.unproven == (2, 5)
    with pytest.raises(ProtocolViolation, match="begin with the 2"):
        watching.check(note(log_of(6)), proofs(log_of(6), 5))
    watching.check(note(log_of(6)), proofs(log_of(6), 2, 5))
    assert watching.unproven == (6,)


def test_a_refused_head_leaves_the_witness_as_it_was():
    watching = witness(4)
    with pytest.raises(LogFault):
        watching.check(note(log_of(9, other_from=2)), proofs(log_of(9, other_from=2), 4))
    assert (watching.unproven, watching.seen) == ((4,), {})
    watching.check(note(log_of(9)), proofs(log_of(9), 4))


def test_heads_without_proof_are_not_collected_for_ever():
    whole = log_of(MAX_UNPROVEN + 1)
    watching = witness(*range(MAX_UNPROVEN), log=whole)
    with pytest.raises(ProtocolViolation, match=f"{MAX_UNPROVEN} heads, no proof"):
        watching.check(note(whole))
    watching.check(note(whole), proofs(whole, *range(MAX_UNPROVEN)))
    assert len(watching.unproven) == 1


def test_the_coordinator_proves_what_its_hospitals_may_have_seen_and_no_more(tmp_path):
    with EvidenceLog.open(tmp_path / "log.sqlite", ACTOR, IDENTITY) as log:
        shown = HeadsShown(log)

        def grow(count: int) -> None:
            log.append_many([("event", {})] * count, time=NOW)

        def sizes(*cohort: str) -> list[int]:
            return [proof.size for proof in shown.proofs(cohort)]

        grow(3)
        shown.joined("harbour", [0, 3])
        shown.joined("lakeside", [2, 99])
        assert sizes("harbour", "lakeside", "stranger") == [0, 2, 3]
        assert sizes("lakeside") == [2]
        shown.sent(["harbour", "lakeside"])
        shown.answered("harbour")
        grow(4)
        assert sizes("harbour") == [3]
        assert sizes("lakeside") == [2, 3]
        (proof,) = shown.proofs(["harbour"])
        assert [bytes.fromhex(h) for h in proof.hashes] == log.consistency_proof(3)


def test_a_witness_that_gets_no_proofs_sees_any_number_of_heads_and_still_a_rewritten_one():
    """The coordinator's of a hospital: more rounds than heads that could wait for a proof."""
    watching = Witness(ACTOR, IDENTITY.public_key, proven=False)
    log = log_of(MAX_UNPROVEN + 3)
    for size in range(1, len(log) + 1):
        entry = watching.check(note(log[:size]))
        assert entry is not None
        watching.logged([entry])
    assert watching.unproven == ()
    with pytest.raises(ProtocolViolation, match="another head at the same size"):
        watching.check(note(log_of(len(log), other_from=2)))
