"""Dishonest parties, entry by entry: each field of each entry type of both logs, changed or gone.

Whoever lies holds a key: it chains its log anew and signs it, and the report follows from the lie.
`not-seen` are lies that the verifier cannot see; BUNDLE.md names them.
"""

import json
from collections.abc import Callable, Iterator

from tests.support.federation_evidence import NAMES, Federation, Party
from tests.support.forgeries import (
    VICTIM,
    Change,
    Forgery,
    honest,
    honest_report,
    of_type,
    respecified,
    rewritten,
    sealed,
)
from tests.support.forgeries_lies import COORDINATOR_LIES, HOSPITAL_LIES, MOVED, SPEC_LIES

from wardround.audit.bodies import COORDINATOR_TYPES, HOSPITAL_TYPES
from wardround.audit.evidence import hospital_place
from wardround.canonical import Json
from wardround.evidence.entry import Entry

NOT_SEEN = "not-seen"
WORDS: Json = {
    "F64": "f" * 64,
    "N32": "9" * 32,
    "E32": "ef" * 16,
    "H64": "11" * 32,
    "H128": "11" * 64,
    "WITHOUT": [name for name in NAMES if name != VICTIM],
    "TURNED": list(reversed(NAMES)),
    "OSLO": sorted([*NAMES, "oslo"]),
    "GROUPS": [list(NAMES), ["oslo"]],
    "TWICE": ["an outcome is rare", "an outcome is rare"],
    "STOPPING": ["unit or scale", "an outcome is rare"],
    "SCORED": {"patients": 3, "value": 0.8, "low": 0.7, "high": 0.9},
    "APART": ["an outcome is rare", "differs from the others"],
}
LOST_TYPES = ("hospital-missed", "attempt-void", "hospital-vanished", "share-rejected")

MOVES: dict[str, Callable[[list[Entry], int], list[Entry]]] = {
    "dropped": lambda entries, at: entries[:at] + entries[at + 1 :],
    "doubled": lambda entries, at: entries[: at + 1] + entries[at:],
    "delayed": lambda entries, at: entries[:at] + entries[at + 1 :] + entries[at : at + 1],
}


def rows(table: str) -> Iterator[list[str]]:
    """The lines of a table; a value keeps its spaces."""
    for line in table.strip().splitlines():
        words = line.split()
        yield [*words[:2], " ".join(words[2:-3]), *words[-3:]]


def put(path: str, value: object) -> Change:
    """Set one field of a body, by its dotted path; a number is a place in a list."""

    def change(body: Json) -> None:
        *above, last = path.split(".")
        for key in above:
            body = body[int(key) if isinstance(body, list) else key]
        body[last] = value

    return change


def place_of(word: str) -> str:
    return word if word in {"coordinator", "bundle"} else hospital_place(word)


def party_of(fed: Federation, who: str) -> Party:
    return fed.coordinator if who == "coordinator" else fed.hospitals[who]


def handed_out(fed: Federation, *, lost: bool) -> bytes:
    return sealed(fed.parts(without=frozenset({VICTIM}) if lost else frozenset()))


def lie(who: str, row: list[str]) -> Forgery:
    kind, path, text, verdict, code, place = row
    kind, _, nth = kind.rstrip("]").partition("[")
    value = WORDS[text] if text in WORDS else json.loads(text)
    lost = kind in LOST_TYPES

    def forge(fed: Federation) -> bytes:
        rewritten(party_of(fed, who), kind, put(path, value), int(nth or 0))
        return handed_out(fed, lost=lost)

    name = f"{who}/{row[0]}/{path}={text}"
    return Forgery(name, forge, verdict, code, lost, place_of(place))


def spec_lie(path: str, text: str, verdict: str, code: str) -> Forgery:
    value = WORDS[text] if text in WORDS else json.loads(text)

    def forge(fed: Federation) -> bytes:
        respecified(fed, 0, **{path: value})
        return sealed(fed.parts())

    name = f"coordinator/round-opened/spec.{path}={text}"
    return Forgery(name, forge, verdict, code, place="coordinator")


def moved(what: str, who: str, kind: str, verdict: str, code: str, place: str) -> Forgery:
    lost = kind in LOST_TYPES

    def forge(fed: Federation) -> bytes:
        party = party_of(fed, who)
        party.rewrite(MOVES[what](list(party.entries), of_type(party, kind)))
        return handed_out(fed, lost=lost)

    return Forgery(f"{who}/{kind}/{what}", forge, verdict, code, lost, place_of(place))


def malformed(who: str, kind: str, field: str, change: Change) -> Forgery:
    """A body that is none of its type: the log is not read any further."""
    lost = kind in LOST_TYPES

    def forge(fed: Federation) -> bytes:
        rewritten(party_of(fed, who), kind, change)
        gone = frozenset({VICTIM}) if lost else frozenset[str]()
        return sealed(fed.parts(without=gone), report=honest_report())

    name = f"{who}/{kind}/{field}"
    return Forgery(name, forge, "intact", "body-malformed", lost, place_of(who))


def malformed_bodies() -> Iterator[Forgery]:
    """Each field that is due left out, one of another kind, and one too many; by type."""
    for who, known in (("coordinator", COORDINATOR_TYPES), (VICTIM, HOSPITAL_TYPES)):
        for kind, body in known.items():
            if not any(entry.type == kind for lost in (False, True) for entry in logged(who, lost)):
                continue
            for name, field in body.model_fields.items():
                if field.is_required():
                    yield malformed(who, kind, f"{name} left out", lambda b, n=name: b.pop(n))
            yield malformed(who, kind, "one too many", put("patient_id", "p-17"))
            first = next(iter(body.model_fields))
            yield malformed(who, kind, f"{first} of another kind", put(first, [None]))


def logged(who: str, lost: bool) -> list[Entry]:
    return party_of(honest(lost), who).entries


def other_type(who: str, kind: str) -> Forgery:
    """An entry that only the other side writes."""

    def forge(fed: Federation) -> bytes:
        party = party_of(fed, who)
        body = next(
            e.body
            for p in (fed.coordinator, fed.hospitals[VICTIM])
            for e in p.entries
            if e.type == kind
        )
        party.append(kind, body, at=fed.tick())
        return sealed(fed.parts(), report=honest_report())

    return Forgery(
        f"{who}/{kind}/of another party", forge, "intact", "body-malformed", place=place_of(who)
    )


LIES = (
    *(lie("coordinator", row) for row in rows(COORDINATOR_LIES)),
    *(lie(VICTIM, row) for row in rows(HOSPITAL_LIES)),
    *(moved(*line.split()) for line in MOVED.strip().splitlines()),
)
SEEN_LIES = (
    *(each for each in LIES if each.verdict != NOT_SEEN),
    *(
        spec_lie(*spec_row)
        for spec_row in (line.split() for line in SPEC_LIES.strip().splitlines())
    ),
    *malformed_bodies(),
    *(other_type("coordinator", kind) for kind in ("run-ended", "release-sent")),
    *(other_type(VICTIM, kind) for kind in ("run-closed", "round-closed")),
)
UNSEEN_LIES = tuple(each for each in LIES if each.verdict == NOT_SEEN)
