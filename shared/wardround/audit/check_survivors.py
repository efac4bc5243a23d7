"""Double masks: whose updates are in a sum, who agreed to that, and what hospitals say of it.

A sum opens only for a set of hospitals that a threshold of them signed, and nobody signs two sets
for one attempt: so no coordinator opens two sums whose difference is one hospital. (PROTOCOL 5;
Bonawitz et al. 2017, Bell et al. 2020)
"""

from collections.abc import Iterator, Mapping
from functools import partial

from wardround.audit.attempts import Attempt, signed_sets
from wardround.audit.bodies import SurvivorsAgreed, SurvivorsSigned
from wardround.audit.evidence import Evidence, Record
from wardround.audit.verdicts import Failure
from wardround.errors import WardroundError
from wardround.masking.round_spec import Profile, Purpose
from wardround.masking.survivors import SurvivorSet
from wardround.study.manifest import Study

SignedSets = Mapping[str, tuple[Record[SurvivorsSigned], ...]]


def signed_by_hospital(evidence: Evidence, attempts: tuple[Attempt, ...]) -> SignedSets:
    """What each hospital whose log is there signed in this run, by name in order."""
    known = frozenset(attempt.transcript for attempt in attempts)
    return {
        name: signed_sets(log, evidence.run, known)
        for name, log in sorted(evidence.hospitals.items())
    }


def check_survivors(evidence: Evidence, attempts: tuple[Attempt, ...]) -> Iterator[Failure]:
    """Complete: every sum is that of survivors on whom enough had agreed, and no second look."""
    signed = signed_by_hospital(evidence, attempts)
    for attempt in attempts:
        yield from _is_of_its_survivors(attempt)
        if attempt.agreed is not None:
            yield from _agreed_rightly(attempt, attempt.agreed)
    for name, found in signed.items():
        yield from _own_word(name, found, attempts)
    for attempt, earlier in second_looks(evidence.study, attempts, signed):
        opened = attempt.opened
        reason = (
            f"its sum carries no noise, and attempt {earlier.spec.attempt} of the same round may "
            "have been opened: its survivors were signed"
        )
        yield Failure("second-attempt", opened.log, opened.seq, reason)


def check_signed_survivors(evidence: Evidence, attempts: tuple[Attempt, ...]) -> Iterator[Failure]:
    """Authentic: every signature under a set of survivors is that of the hospital it names."""
    for attempt in attempts:
        if attempt.agreed is None:
            continue
        record = attempt.agreed
        for name, signature in sorted(record.body.signatures.items()):
            try:
                agreed = SurvivorSet(attempt.transcript, record.body.survivors)
                agreed.check(name, bytes.fromhex(signature), evidence.keys.get(name, b""))
            except WardroundError as error:
                yield Failure("survivor-signature", record.log, record.seq, str(error))


def second_looks(
    study: Study, attempts: tuple[Attempt, ...], signed: SignedSets
) -> Iterator[tuple[Attempt, Attempt]]:
    """Attempts of a round without noise after one whose sum was, or may have been, opened."""
    opened: dict[tuple[Purpose, int], Attempt] = {}
    by_hospitals = {record.body.transcript for found in signed.values() for record in found}
    for attempt in attempts:
        if study.noises(attempt.purpose):
            continue
        key = (attempt.purpose, attempt.spec.round)
        # The groups of one attempt are of different hospitals: no two sums of one.
        if key in opened and opened[key].spec.attempt != attempt.spec.attempt:
            yield attempt, opened[key]
        if attempt.counted or attempt.agreed or attempt.transcript in by_hospitals:
            opened.setdefault(key, attempt)


def _is_of_its_survivors(attempt: Attempt) -> Iterator[Failure]:
    """An opened sum, against the set that was agreed on, the updates and the absences."""
    end, agreed = attempt.end, attempt.agreed
    if end is None or not attempt.counted:
        return
    fail = partial(Failure, log=end.log, seq=end.seq)
    double = attempt.spec.profile is Profile.DOUBLE_MASK
    if double and agreed is None:
        reason = "a sum was opened, and nothing before says whose updates are in it"
        yield fail(code="sum-without-survivors", reason=reason)
    for name in attempt.survivors:
        if name not in attempt.received:
            reason = f"a sum was opened without the update of {name}"
            yield fail(code="sum-without-hospital", reason=reason)
    for name in attempt.spec.cohort if agreed or not double else ():
        if name in attempt.received and name not in attempt.survivors:
            reason = f"an update of {name} was received, and it is not among the survivors"
            yield fail(code="survivors-differ", reason=reason)
        elif name not in {*attempt.received, *attempt.missed, *attempt.rejected}:
            reason = f"{name} was asked, and nothing says why it is not in the sum"
            yield fail(code="absence-unnamed", reason=reason)


def _agreed_rightly(attempt: Attempt, record: Record[SurvivorsAgreed]) -> Iterator[Failure]:
    """The set itself, who signed it, and who was there to open the sum."""
    spec = attempt.spec
    survivors, signers = record.body.survivors, set(record.body.signatures)
    fail = partial(Failure, log=record.log, seq=record.seq)
    if not set(survivors) <= set(spec.cohort) or list(survivors) != sorted(set(survivors)):
        reason = "its survivors are not hospitals of the cohort, each once and in order"
        yield fail(code="survivors-differ", reason=reason)
    answered = set(survivors) - set(attempt.vanished)
    for what, count in (
        ("survivors", len(set(survivors))),
        ("signatures of survivors", len(signers & set(survivors))),
        ("survivors that answered to the end", len(answered)),
    ):
        if count < spec.threshold:
            reason = f"{count} {what}, the threshold is {spec.threshold}"
            yield fail(code="below-threshold", reason=reason)
    for name in sorted(signers - set(survivors)):
        reason = f"{name} signed, and is not among the survivors"
        yield fail(code="survivors-differ", reason=reason)
    for name, record_of in sorted(attempt.vanished.items()):
        if name in signers and record_of.body.stage == "signed":
            reason = f"it holds the signature of {name}, and says that {name} did not sign"
            yield fail(code="survivors-differ", reason=reason)
    for name in sorted(set(survivors) - signers - set(attempt.vanished)):
        reason = f"{name} did not sign the survivors, and nothing says that it vanished"
        yield fail(code="absence-unnamed", reason=reason)


def _own_word(
    name: str, signed: tuple[Record[SurvivorsSigned], ...], attempts: tuple[Attempt, ...]
) -> Iterator[Failure]:
    """A hospital's own log: one set for each attempt, and the one that its signature is under."""
    by_transcript = {attempt.transcript: attempt for attempt in attempts}
    own: dict[str, tuple[str, ...]] = {}
    for record in signed:
        body, attempt = record.body, by_transcript.get(record.body.transcript)
        fail = partial(Failure, log=record.log, seq=record.seq)
        if attempt is None:
            reason = "it signed survivors of an attempt that the coordinator's log does not know"
            yield fail(code="attempt-hidden", reason=reason)
            continue
        if own.setdefault(body.transcript, body.survivors) != body.survivors:
            reason = "it signed a second set of survivors for one attempt"
            yield fail(code="signed-two-sets", reason=reason)
        agreed = attempt.agreed
        if agreed is not None and body.survivors != agreed.body.survivors:
            reason = "it signed other survivors than those that the coordinator's log says"
            yield fail(code="survivors-differ", reason=reason)
    for attempt in attempts:
        agreed = attempt.agreed
        if agreed is None or name not in agreed.body.signatures or attempt.transcript in own:
            continue
        reason = f"{name} signed these survivors, and its own log does not know"
        yield Failure("signature-unknown", agreed.log, agreed.seq, reason)
