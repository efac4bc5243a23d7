"""Several bundles of one run beside each other: whether the coordinator told one history.

A coordinator that shows two hospitals two histories can leave each of them out of the other's
bundle as lost: then each bundle holds by itself, and only the two together expose it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from wardround.audit.bodies import StudyOpened
from wardround.audit.bundle import bundle_of
from wardround.audit.check_authentic import Pins
from wardround.audit.check_intact import read_logs
from wardround.audit.container import read_file, unpack
from wardround.audit.evidence import COORDINATOR, Log
from wardround.audit.verdicts import Failure, Verdict, Verdicts
from wardround.audit.verify import verify_bytes
from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.identity import fingerprint

ONE_HISTORY = "one history"


@dataclass(frozen=True, slots=True)
class _Told:
    """What one bundle says happened: its name, the party who tells it, and all logs."""

    name: str
    coordinator: str
    study: str
    run: str
    logs: dict[str, Log]


@dataclass(frozen=True, slots=True)
class SeveralVerdicts:
    """The verdicts of each bundle by its name, and whether all tell one history."""

    each: tuple[tuple[str, Verdicts], ...]
    one_history: Verdict

    @property
    def ok(self) -> bool:
        """Whether every bundle holds, and no two contradict each other."""
        return self.one_history.ok and all(verdicts.ok for _, verdicts in self.each)

    def lines(self) -> Iterator[str]:
        """Bundle by bundle for a terminal, then what all of them say together."""
        for name, verdicts in self.each:
            yield f"{name}:"
            yield from (f"  {line}" for line in verdicts.lines())
        yield f"{ONE_HISTORY:<11} {'ok' if self.one_history.ok else 'FAILED'}"
        yield from (f"    {failure}" for failure in self.one_history.failures)

    def to_json(self) -> Json:
        """The JSON object of `--json`."""
        bundles = [{"bundle": name, **verdicts.to_json()} for name, verdicts in self.each]
        return {"bundles": bundles, "one_history": self.one_history.to_json(), "ok": self.ok}


def verify_bundles(paths: Sequence[Path], *, pins: Pins) -> Verdicts | SeveralVerdicts:
    """`verify_bundle` of one, or of several of one run with a comparison of what they say.

    Raises BadInput only when a file cannot be read at all.
    """
    contents = [(str(path), read_file(path)) for path in paths]
    each = [(name, verify_bytes(content, pins=pins)) for name, content in contents]
    if len(each) == 1:
        return each[0][1]
    return SeveralVerdicts(tuple(each), compare_bundles(contents))


def compare_bundles(bundles: Sequence[tuple[str, bytes]]) -> Verdict:
    """Compare (name, content) of bundles, each of which is verified elsewhere; never raises.

    Ok exactly when all are of one run of one coordinator, and of every log that is in two of them
    one is the start of the other: a later bundle may know more, never something else.
    """
    found: list[Failure] = []
    told = []
    for name, content in bundles:
        try:
            told.append(_told(name, content))
        except BadInput as error:
            found.append(Failure("not-comparable", name, None, str(error)))
    for first, second in combinations(told, 2):
        found += _contradictions(first, second)
    return Verdict(ONE_HISTORY, tuple(found))


def _told(name: str, content: bytes) -> _Told:
    bundle = bundle_of(unpack(content))
    coordinator, hospitals, damage = read_logs(bundle)
    if coordinator is None or damage:
        raise BadInput("; ".join(str(failure) for failure in damage))
    opened = next(coordinator.of(StudyOpened), None)
    if opened is None:
        raise BadInput("coordinator's log: no study-opened entry")
    return _Told(
        name=name,
        coordinator=fingerprint(bundle.parts.coordinator_key),
        study=opened.body.study_digest,
        run=opened.body.run,
        logs={COORDINATOR: coordinator, **{log.party: log for log in hospitals.values()}},
    )


def _contradictions(first: _Told, second: _Told) -> Iterator[Failure]:
    if (first.coordinator, first.study, first.run) != (
        second.coordinator,
        second.study,
        second.run,
    ):
        reason = f"{first.name} and {second.name} are of two runs, studies or coordinators"
        yield Failure("other-run", second.name, None, reason)
        return
    for party in sorted(set(first.logs) & set(second.logs)):
        seq = _parts_at(first.logs[party].heads, second.logs[party].heads)
        if seq is not None:
            reason = (
                f"{first.name} and {second.name} hold two histories of it, which part here; both "
                "are signed with its key"
            )
            yield Failure("history-split", party, seq, reason)


def _parts_at(first: Sequence[str], second: Sequence[str]) -> int | None:
    """The first entry in which two logs differ; None when one is the start of the other."""
    shared = min(len(first), len(second))
    if first[shared - 1] == second[shared - 1]:
        return None
    return next(at for at in range(shared) if first[at + 1] != second[at + 1])
