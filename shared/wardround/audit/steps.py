"""Training rounds that moved the model: of one sum, or of the sums of groups."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from wardround.audit.attempts import Attempt
from wardround.audit.bodies import RoundClosed
from wardround.audit.body_groups import RoundCombined
from wardround.audit.evidence import Record
from wardround.robust.suspicion import GroupedRound


@dataclass(frozen=True, slots=True)
class Step:
    """One move of the model: the attempts whose sums it is made of, and the entry that says so."""

    attempts: tuple[Attempt, ...]
    end: Record[RoundClosed] | Record[RoundCombined]

    @property
    def survivors(self) -> frozenset[str]:
        """Whose updates are in it."""
        return frozenset(name for attempt in self.attempts for name in attempt.survivors)


def steps_of(attempts: Iterable[Attempt]) -> tuple[Step, ...]:
    """Every step of the model, in the order of the coordinator's log."""
    found: dict[int, Step] = {}
    for attempt in attempts:
        end = attempt.combined
        if end is not None:
            before = found[end.seq].attempts if end.seq in found else ()
            found[end.seq] = Step((*before, attempt), end)
        elif attempt.end is not None and isinstance(attempt.end.body, RoundClosed):
            closed = attempt.end
            record = Record(closed.log, closed.seq, closed.time, attempt.end.body)
            found[closed.seq] = Step((attempt,), record)
    return tuple(found[seq] for seq in sorted(found))


def members_of_sums(attempts: Sequence[Attempt]) -> Iterator[frozenset[str]]:
    """Whose updates are in each result: a step of the model, statistics, or an evaluation."""
    for step in steps_of(attempts):
        yield frozenset(name for a in step.attempts for name in a.survivors if a.has_summed(name))
    for attempt in attempts:
        if attempt.counted and not attempt.trains:
            yield frozenset(name for name in attempt.survivors if attempt.has_summed(name))


def grouped_rounds(attempts: Sequence[Attempt]) -> tuple[GroupedRound, ...]:
    """The steps that groups made, as the test of who is behind flagged ones reads them."""
    found = []
    for step in steps_of(attempts):
        if isinstance(step.end.body, RoundCombined):
            flagged = frozenset(
                at
                for at, attempt in enumerate(step.attempts)
                if attempt.transcript in step.end.body.flagged
            )
            found.append(GroupedRound(tuple(a.survivors for a in step.attempts), flagged))
    return tuple(found)
