"""Complete, where a study keeps a control (SCAFFOLD): in an attempt all hospitals kept it, or none.

What is kept never leaves a hospital. The corrections of a sum cancel only where all of them begin
anew together: one that does so alone misleads the model for good. So each logs which it did before
it computes. That has to follow from its own log, and to be the same at all: each could be right by
its own log where a coordinator had shown one of them an attempt that it hid from another. (decision
0021)
"""

from collections.abc import Iterator, Mapping
from typing import Literal

from wardround.audit.attempts import Attempt, Release
from wardround.audit.check_survivors import signed_by_hospital
from wardround.audit.evidence import Evidence
from wardround.audit.verdicts import Failure

CODE = "control-differs"

Standing = Literal["begun", "kept"]
Releases = Mapping[str, tuple[Release, ...]]


def check_control(
    evidence: Evidence, attempts: tuple[Attempt, ...], releases: Releases
) -> Iterator[Failure]:
    """Each hospital's word on its control is the one due, and all of one attempt say the same."""
    if evidence.study.training.control == "none":
        for found in releases.values():
            yield from _without_control(found)
        return
    by_transcript = {attempt.transcript: attempt for attempt in attempts}
    signed = {
        name: {record.body.transcript: record.body.survivors for record in found}
        for name, found in signed_by_hospital(evidence, attempts).items()
    }
    for name, found in releases.items():
        yield from _as_due(found, by_transcript, signed[name])
    for attempt in attempts:
        yield from _all_alike(attempt, releases)


def _without_control(releases: tuple[Release, ...]) -> Iterator[Failure]:
    for release in releases:
        record = release.reserved
        if record.body.control is not None:
            reason = "it says what became of its control, and the study has none"
            yield Failure(CODE, record.log, record.seq, reason)


def _as_due(
    releases: tuple[Release, ...],
    attempts: Mapping[str, Attempt],
    signed: Mapping[str, tuple[str, ...]],
) -> Iterator[Failure]:
    """One hospital's word, by the attempt before in its own log and whom it signed as survivors."""
    for before, release in zip((None, *releases), releases, strict=False):
        attempt = attempts.get(release.transcript)
        if attempt is None:
            continue  # `attempt-hidden` names it
        last = attempts.get(before.transcript) if before else None
        due = _due(attempt, last, signed) if attempt.trains else None
        record, said = release.reserved, release.reserved.body.control
        if said != due:
            reason = f"its control: {said or 'no word'} came, {due or 'no word'} was due"
            yield Failure(CODE, record.log, record.seq, reason)


def _due(attempt: Attempt, last: Attempt | None, signed: Mapping[str, tuple[str, ...]]) -> Standing:
    """As `wardround_client.kept_control` decides it."""
    if last is None or not last.trains or last.spec.session != attempt.spec.session:
        return "begun"
    follows = attempt.spec.attempt == 1 and attempt.spec.round == last.spec.round + 1
    everybody = signed.get(last.transcript) == last.spec.cohort == attempt.spec.cohort
    return "kept" if follows and everybody else "begun"


def _all_alike(attempt: Attempt, releases: Releases) -> Iterator[Failure]:
    said: dict[str, list[str]] = {}
    for name, found in releases.items():
        for release in found:
            word = release.reserved.body.control
            if release.transcript == attempt.transcript and word is not None:
                said.setdefault(word, []).append(name)
    if len(said) > 1:
        kept, begun = ", ".join(said["kept"]), ", ".join(said["begun"])
        reason = f"{kept} kept a control, and {begun} began anew: their corrections do not cancel"
        yield Failure(CODE, attempt.opened.log, attempt.opened.seq, reason)
