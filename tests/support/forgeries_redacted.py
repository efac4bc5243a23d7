"""Redacted bundles that a dishonest coordinator hands out instead of the whole one."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.support.federation_evidence import Federation
from tests.support.forgeries import (
    VICTIM,
    edited,
    honest,
    honest_report,
    of_type,
    rewritten,
    sealed,
    set_to,
    swapped_signature,
)
from tests.support.forgeries_members import resealed

from wardround.audit.container import MANIFEST, MANIFEST_SIGNATURE, pack, unpack
from wardround.audit.evidence import hospital_place
from wardround.audit.redact import REDACTED, redact, withheld_line
from wardround.canonical import Json
from wardround.evidence.export import write_export

HIS = hospital_place(VICTIM)
SIGNED = (MANIFEST, MANIFEST_SIGNATURE)
LOG = f"logs/hospitals/{VICTIM}"


@dataclass(frozen=True)
class RedactedForgery:
    """A name, what is handed out, and the verdict, code and place that must come."""

    name: str
    forge: Callable[[], bytes]
    verdict: str
    code: str
    place: str


def rewriting(act: Callable[[Federation], None]) -> Callable[[], bytes]:
    """A log that was written like this from the start: no hospital had seen another."""

    def forge() -> bytes:
        fed = honest().fork()
        act(fed)
        return redact(sealed(forgotten(fed)))

    return forge


def forgotten(fed: Federation):
    """All logs without what anybody had witnessed, and without countersignatures."""
    for party in (fed.coordinator, *fed.hospitals.values()):
        party.rewrite([e for e in party.entries if e.type != "checkpoint-witnessed"])
    return replace(fed.parts(), countersignatures={})


def whole_beside() -> bytes:
    """One log is there in full, and is not the one that its hospital signed."""
    party = honest().hospitals[VICTIM]
    entries, at = list(party.entries), of_type(party, "run-ended")
    entries[at] = edited(entries[at], set_to(epsilon=0.1))
    whole = dict(unpack(sealed(honest().parts())))
    forged = unpack(resealed({**whole, f"{LOG}.jsonl": write_export(entries)}))
    shown = dict(unpack(redact(pack(whole))))
    del shown[LOG + REDACTED]
    return pack({**shown, **{name: forged[name] for name in (*SIGNED, f"{LOG}.jsonl")}})


def shortened() -> bytes:
    """The end of the coordinator's log is cut off; nobody's countersignature is there."""
    fed = honest().fork()
    fed.coordinator.entries = fed.coordinator.entries[:-3]
    return redact(sealed(replace(fed.parts(), countersignatures={})))


def foreign_run_key(fed: Federation) -> None:
    rewritten(fed.coordinator, "hospital-joined", foreign)


def foreign(body: Json) -> None:
    body["run_key"] = {**body["run_key"], "signature": "11" * 64}


def foreign_survivors(fed: Federation) -> None:
    def change(body: Json) -> None:
        body["signatures"]["zurich"] = "11" * 64

    rewritten(fed.coordinator, "survivors-agreed", change)


def of_no_form() -> bytes:
    """A body that is none of its type: `redact` itself would refuse it."""
    fed = honest().fork()
    found = dict(unpack(redact(sealed(forgotten(fed)))))
    rewritten(fed.hospitals[VICTIM], "release-sent", set_to(transcript=[["x"]]))
    whole = dict(unpack(sealed(forgotten(fed), report=honest_report())))
    lines = write_export(fed.hospitals[VICTIM].entries).split(b"\n")[:-1]
    hidden = [b'"type":"release-sent"' not in line for line in lines]
    log = [withheld_line(x) if gone else x for x, gone in zip(lines, hidden, strict=True)]
    same = {name: whole[name] for name in found if name in whole}
    return pack({**found, **same, LOG + REDACTED: b"".join(line + b"\n" for line in log)})


def other_update(fed: Federation) -> None:
    """What the hospital says that it sent is not what the coordinator says that it received."""
    rewritten(fed.hospitals[VICTIM], "release-sent", set_to(update_digest="f" * 64))


REDACTED_FORGERIES = (
    RedactedForgery("a whole log beside", whole_beside, "intact", "member-differs", f"{LOG}.jsonl"),
    RedactedForgery("history cut", shortened, "complete", "history-shortened", "hospitals/bergen"),
    RedactedForgery(
        "update signed by another",
        rewriting(swapped_signature),
        "authentic",
        "update-signature",
        "coordinator",
    ),
    RedactedForgery(
        "run key signed by nobody",
        rewriting(foreign_run_key),
        "authentic",
        "run-key-signature",
        "coordinator",
    ),
    RedactedForgery(
        "survivors signed by nobody",
        rewriting(foreign_survivors),
        "authentic",
        "survivor-signature",
        "coordinator",
    ),
    RedactedForgery("a body of no form", of_no_form, "intact", "body-malformed", HIS),
    RedactedForgery("another update", rewriting(other_update), "complete", "update-differs", HIS),
)
