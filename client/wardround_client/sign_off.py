"""An officer decides about a run's report, with the hospital's key, after the hospital checked it.

The decision stands in the hospital's evidence log before its signature exists, and it is the
only one: what is signed again later is what the log says.
"""

from dataclasses import dataclass
from datetime import datetime

from wardround.audit.bodies import ReportSignedOff
from wardround.audit.bundle import Bundle, bundle_of
from wardround.audit.check_authentic import Pins
from wardround.audit.container import manifest_faults, unpack
from wardround.audit.sign_off import Decision, SignedBytes, SignOff, sign_off
from wardround.audit.verdicts import Verdicts
from wardround.audit.verify import verify_bytes
from wardround.errors import BadInput, VerificationFailed
from wardround.evidence.entry import Entry, time_text
from wardround.evidence.log import EvidenceLog
from wardround.identity import fingerprint
from wardround.study.files import checked, read_signed_study
from wardround.study.manifest import Study
from wardround_client.home import HospitalHome

SIGNED_OFF = ReportSignedOff.TYPE


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What the officer says. `remark` is due unless the decision is to approve."""

    officer: str
    decision: Decision
    remark: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """The decision, the signature file, and what the hospital's own verification said before."""

    decided: SignOff
    file: bytes
    verdicts: Verdicts


def sign_report(home: HospitalHome, content: bytes, word: Word, *, now: datetime) -> Signed:
    """Check the bundle against this hospital's own keys and log, log the decision, sign it.

    A report that fails to verify, or whose bundle holds another log of ours than we do, can be
    refused and not approved; a bundle that is not what its manifest says cannot be decided about,
    since the signature would hold for another copy as well. The same decision again signs
    the same. Raises VerificationFailed, or BadInput when this report was decided otherwise before.
    """
    member = home.membership()
    pins = Pins(coordinator=fingerprint(home.coordinator_key()))
    verdicts = verify_bytes(content, pins=pins)
    bundle = _whole_bundle(content)
    study = read_signed_study(bundle.parts.signed_study, signer=home.coordinator_key())
    if word.decision is not Decision.REFUSE and not verdicts.ok:
        failed = ", ".join(verdict.name for verdict in verdicts.four if not verdict.ok)
        raise VerificationFailed(f"bundle: not {failed}: it can be refused, not approved")
    if member.identity.public_key != bundle.parts.hospital_keys.get(member.hospital):
        raise VerificationFailed(f"bundle: the key of {member.hospital} in it is not ours")
    about = SignedBytes.of(bundle.report, bundle.manifest)
    with home.log(study.digest) as log:
        _check_own_log(bundle, member.hospital, log, word)
        decided = _logged(log, study, about, word, now)
    return Signed(
        decided=decided, file=sign_off(member.identity, decided, about), verdicts=verdicts
    )


def _whole_bundle(content: bytes) -> Bundle:
    members = unpack(content)
    for name, reason in manifest_faults(members):
        raise VerificationFailed(f"bundle: member {name} {reason}: ask for a whole copy")
    return bundle_of(members)


def _check_own_log(bundle: Bundle, hospital: str, log: EvidenceLog, word: Word) -> None:
    carried = bundle.parts.hospitals.get(hospital)
    if carried is None or log.export().startswith(carried.entries):
        return
    if word.decision is not Decision.REFUSE:
        raise VerificationFailed("bundle: its log of this hospital is not the one that we hold")


def _logged(
    log: EvidenceLog, study: Study, about: SignedBytes, word: Word, now: datetime
) -> SignOff:
    """The decision as the log has it, written now unless it was before."""
    body = {
        "study_digest": study.digest,
        "report": about.report,
        "manifest": about.manifest,
        "officer": word.officer,
        "decision": word.decision.value,
        "remark": word.remark,
    }
    before = [entry for entry in log.entries() if _is_about(entry, about)]
    if before and before[-1].body != body:
        raise BadInput(
            f"report: {before[-1].body['officer']} has decided already: "
            f"{before[-1].body['decision']}; a report is decided once"
        )
    decided = _sign_off(log.actor, body, before[-1].time if before else now)  # before it is logged
    if not before:
        log.append(SIGNED_OFF, body, time=now)
    return decided


def _is_about(entry: Entry, about: SignedBytes) -> bool:
    return entry.type == SIGNED_OFF and entry.body["manifest"] == about.manifest


def _sign_off(hospital: str, body: dict[str, str | None], moment: datetime) -> SignOff:
    value = {name: body[name] for name in ("officer", "decision", "remark")}
    return checked(
        SignOff, {**value, "hospital": hospital, "signed_at": time_text(moment)}, what="sign-off"
    )
