"""Forgeries about whose updates are in a sum, and about sums that were opened twice."""

from dataclasses import replace

from tests.support.federation_evidence import Federation, federation, spec_of
from tests.support.forgeries import (
    VICTIM,
    edited,
    of_type,
    respecified,
    rewritten,
    sealed,
    set_to,
)
from tests.support.honest_rounds import UNREVEALED, Absences, digest_of, logged_attempt

from wardround.canonical import Json
from wardround.masking.quantise import largest_limit
from wardround.masking.round_spec import Purpose
from wardround.masking.survivors import SurvivorSet

OTHERS = ("bergen", "coimbra", "zurich")
WITHOUT_NOISE = {"privacy": {"mechanism": "none", "epsilon": None, "delta": None}}


def second_set(fed: Federation) -> None:
    """The hospital signed without itself too, so that its update is the difference."""
    party = fed.hospitals[VICTIM]
    seq = of_type(party, "survivors-signed")
    other = edited(party.entries[seq], set_to(survivors=list(OTHERS)))
    party.rewrite([*party.entries[: seq + 1], other, *party.entries[seq + 1 :]])


def one_trip_instead(fed: Federation) -> None:
    respecified(fed, 0, profile="one-trip", threshold=4)


def narrower_lanes(fed: Federation) -> None:
    respecified(fed, 0, bits=24, limit=largest_limit(4, 24))


def few_signatures(fed: Federation) -> None:
    def keep_two(body: Json) -> None:
        body["signatures"] = {name: body["signatures"][name] for name in OTHERS[:2]}

    rewritten(fed.coordinator, "survivors-agreed", keep_two)


def one_signature_less(fed: Federation) -> None:
    rewritten(fed.coordinator, "survivors-agreed", lambda body: body["signatures"].pop(VICTIM))


def few_who_answered(fed: Federation) -> None:
    """Two of the four vanished before they revealed: two cannot open a sum."""
    log = fed.coordinator
    at = of_type(log, "survivors-agreed")
    agreed = log.entries[at]
    about = {"transcript": agreed.body["transcript"], "stage": UNREVEALED}
    gone = [
        replace(agreed, type="hospital-vanished", body={**about, "hospital": name})
        for name in OTHERS[:2]
    ]
    log.rewrite([*log.entries[:at], *gone, *log.entries[at:]])


def foreign_signature(fed: Federation) -> None:
    """Agreed without one hospital, which signed all the same."""
    rewritten(fed.coordinator, "survivors-agreed", set_to(survivors=list(OTHERS)))


def opened_without_one(fed: Federation) -> None:
    """Three hospitals and the coordinator say that the fourth was not in the sum; it had sent."""
    at = of_type(fed.coordinator, "survivors-agreed")
    survivors = SurvivorSet(fed.coordinator.entries[at].body["transcript"], OTHERS)
    signatures = {n: survivors.sign(fed.hospitals[n].identity, n).hex() for n in OTHERS}
    changed = set_to(survivors=list(OTHERS), signatures=signatures)
    rewritten(fed.coordinator, "survivors-agreed", changed)
    for name in OTHERS:
        rewritten(fed.hospitals[name], "survivors-signed", set_to(survivors=list(OTHERS)))


def other_code(_: Federation) -> bytes:
    """The study pins the code, and a hospital says that it ran other code."""
    pinned = {"wardround": "c" * 64}
    fed = federation(rounds=1, changes={"software": pinned}, code=pinned)
    changed = set_to(code_digest={"wardround": "d" * 64})
    rewritten(fed.hospitals[VICTIM], "run-joined", changed)
    return sealed(fed.parts())


def second_opening(_: Federation) -> bytes:
    """The exact counts of an evaluation are opened twice, the second time without one hospital."""
    fed = federation(rounds=1, changes=WITHOUT_NOISE)
    end = of_type(fed.coordinator, "run-closed")
    rest = fed.coordinator.entries[end:]
    fed.coordinator.entries = fed.coordinator.entries[:end]
    spec = spec_of(fed, Purpose.EVALUATE, 1, 2, fed.study.names(), digest_of("model", 1))
    found = logged_attempt(fed, spec, Absences())
    assert found is not None
    closed = {
        "transcript": spec.transcript().hex(),
        "sum_digest": found[0],
        "counts": found[1].tolist(),
    }
    fed.coordinator.append("evaluation-closed", closed, at=fed.tick())
    fed.coordinator.rewrite([*fed.coordinator.entries, *rest])
    return sealed(fed.parts())


def signed_attempt_again(_: Federation) -> bytes:
    """Two hospitals had signed for a sum without noise when it was called void and tried again."""
    return sealed(federation(rounds=1, changes=WITHOUT_NOISE, void=(0,)).parts())
