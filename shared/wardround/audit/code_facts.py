"""Which code ran at each party, by its own word, beside what the study pins."""

from collections.abc import Iterator, Mapping

from wardround.audit.bodies import StudyOpened
from wardround.audit.evidence import COORDINATOR, Evidence, hospital_place, joins
from wardround.audit.report_model import CodeFacts
from wardround.audit.verdicts import Failure
from wardround.code_digest import OF_COORDINATOR, OF_HOSPITAL
from wardround.study.own_model import with_own_model


def code_of(evidence: Evidence) -> tuple[CodeFacts, ...]:
    """Section D: each digest that a party logged of itself, and what the study says of it."""
    parties: dict[tuple[str, str], set[str]] = {}
    for party, _, digests in _logged(evidence):
        for package, digest in (digests or {}).items():
            parties.setdefault((package, digest), set()).add(party)
    pinned = _pinned(evidence)
    return tuple(
        CodeFacts(
            package=package,
            digest=digest,
            parties=tuple(sorted(by)),
            verdict="not pinned"
            if package not in pinned
            else "pinned"
            if pinned[package] == digest
            else "NOT THE PINNED",
        )
        for (package, digest), by in sorted(parties.items())
    )


def code_faults(evidence: Evidence) -> Iterator[Failure]:
    """Complete: each party says that it ran the code that the study pins, as far as it pins one."""
    pinned = _pinned(evidence)
    for party, seq, digests in _logged(evidence):
        own = OF_COORDINATOR if party == COORDINATOR else OF_HOSPITAL
        for package in with_own_model(own, evidence.study.task):
            came, due = (digests or {}).get(package), pinned.get(package)
            if due is not None and came != due:
                said = f"says that it ran {came[:8]}" if came else "does not say which code it ran"
                reason = f"{package}: it {said}, the study pins {due[:8]}"
                yield Failure("code-differs", party, seq, reason)


def _pinned(evidence: Evidence) -> dict[str, str]:
    software, own = evidence.study.software, evidence.study.task.own
    pins = {} if software is None else software.pins()
    return pins if own is None else pins | {own.package: own.digest}


def _logged(evidence: Evidence) -> Iterator[tuple[str, int, Mapping[str, str] | None]]:
    """Whose word stands where: each time the study was opened, and each time it was joined."""
    for record in evidence.coordinator.of(StudyOpened):
        yield COORDINATOR, record.seq, record.body.code_digest
    for name, log in sorted(evidence.hospitals.items()):
        for joined in joins(log, evidence.run):
            yield hospital_place(name), joined.seq, joined.body.code_digest
