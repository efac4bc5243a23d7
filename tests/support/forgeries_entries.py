"""Dishonest parties, entry by entry: each field of each entry type of both logs, changed or gone.

Whoever lies holds a key: it chains its log anew and signs it, and the report follows from the lie.
`not-seen` are lies that the verifier cannot see; BUNDLE.md names them.
"""

import json
from collections.abc import Callable, Iterator

from tests.support.federation_evidence import Federation, Party
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

from wardround.audit.bodies import COORDINATOR_TYPES, HOSPITAL_TYPES
from wardround.audit.evidence import hospital_place
from wardround.canonical import Json
from wardround.evidence.entry import Entry

NOT_SEEN = "not-seen"
WORDS = {"F64": "f" * 64, "N32": "9" * 32, "E32": "ef" * 16, "H64": "11" * 32, "H128": "11" * 64}
LOST_TYPES = ("hospital-missed", "attempt-void")

# entry type [which one], field, the lie (JSON, or one of WORDS), verdict, code, log where it shows
COORDINATOR_LIES = """
study-opened         study_digest         F64          complete    other-study        coordinator
study-opened         run                  N32          authentic   run-key-signature  coordinator
study-opened         software             "0.0.9"      complete    history-differs    bergen
hospital-joined      hospital             "coimbra"    authentic   run-key-signature  coordinator
hospital-joined      session              E32          complete    join-missing       coordinator
hospital-joined      run_key.hospital     "zurich"     authentic   run-key-signature  coordinator
hospital-joined      run_key.run          N32          authentic   run-key-signature  coordinator
hospital-joined      run_key.session      N32          authentic   run-key-signature  coordinator
hospital-joined      run_key.public_key   H64          authentic   directory-differs  coordinator
hospital-joined      run_key.signature    H128         authentic   run-key-signature  coordinator
round-opened         transcript           F64          complete    entry-contradicts  coordinator
round-opened         spec.extra           1            complete    entry-contradicts  coordinator
round-opened         spec.scale           3            complete    entry-contradicts  coordinator
update-received      transcript           F64          complete    entry-contradicts  coordinator
update-received      hospital             "coimbra"    complete    entry-contradicts  coordinator
update-received      hospital             "oslo"       complete    entry-contradicts  coordinator
update-received      header.hospital      "coimbra"    authentic   update-signature   coordinator
update-received      header.transcript    F64          authentic   update-signature   coordinator
update-received      header.update_digest F64          complete    update-differs     bergen
update-received      header.extra         1            authentic   update-signature   coordinator
update-received      signature            H128         authentic   update-signature   coordinator
update-received      bytes                1            complete    history-differs    bergen
round-closed         transcript           F64          complete    entry-contradicts  coordinator
round-closed         sum_digest           F64          complete    history-differs    bergen
round-closed         model_before         F64          complete    model-differs      coordinator
round-closed         model_after          F64          complete    model-differs      coordinator
evaluation-closed    transcript           F64          complete    entry-contradicts  coordinator
evaluation-closed    sum_digest           F64          recomputed  counts-differ      coordinator
evaluation-closed    counts               []           recomputed  counts-differ      coordinator
run-closed           rounds               9            complete    end-differs        coordinator
run-closed           hospitals_completed  []           complete    end-differs        coordinator
run-closed           hospitals_completed  ["oslo"]     complete    end-differs        coordinator
run-closed           model                F64          complete    model-differs      coordinator
checkpoint-witnessed actor                "zurich"     complete    history-differs    bergen
checkpoint-witnessed size                 1            complete    history-differs    coordinator
checkpoint-witnessed size                 99           complete    history-shortened  coordinator
checkpoint-witnessed head                 F64          complete    history-differs    coordinator
hospital-missed      transcript           F64          complete    entry-contradicts  coordinator
hospital-missed      transcript           null         complete    absence-unnamed    coordinator
hospital-missed      hospital             "zurich"     complete    entry-contradicts  coordinator
hospital-missed      reason               "it is late" complete    history-differs    bergen
attempt-void         transcript           F64          complete    entry-contradicts  coordinator
attempt-void         reason               "a fault"    complete    history-differs    bergen
"""

# A spec is hashed into every mask: all logs are told the new transcript.
SPEC_LIES = """
purpose            "evaluate"                              complete  entry-contradicts
run                N32                                     complete  spec-differs
session            N32                                     authentic directory-differs
study_digest       F64                                     complete  spec-differs
round              1                                       complete  round-order
round              7                                       complete  spec-differs
attempt            2                                       authentic update-signature
cohort             ["bergen","coimbra","zurich"]           complete  entry-contradicts
cohort             ["bergen","coimbra","leiden","oslo"]    complete  entry-contradicts
directory_digest   F64                                     authentic directory-differs
model_digest       F64                                     complete  model-differs
lanes              30                                      authentic update-signature
scale              2.0                                     complete  spec-differs
limit              9                                       complete  spec-differs
minimum            2                                       complete  spec-differs
"""

HOSPITAL_LIES = """
study-approved      study_digest            F64       complete   not-approved      leiden
study-approved      officer                 "nobody"  complete   history-differs   coordinator
study-approved      policy_digest           F64       complete   history-differs   coordinator
engine-audit-registered run                     N32       recomputed audit-unregistered leiden
engine-audit-registered session                 N32       recomputed audit-unregistered leiden
engine-audit-registered rule.noise_multiplier   9.0       recomputed audit-rule-differs leiden
engine-audit-registered rule.sampling_rate      0.01      recomputed audit-rule-differs leiden
engine-audit-registered rule.steps              1         recomputed audit-rule-differs leiden
engine-audit-registered rule.canaries           20        recomputed audit-rule-differs leiden
engine-audit-registered rule.named              3         recomputed audit-rule-differs leiden
engine-audit-registered coins_commitment        F64       recomputed audit-differs     leiden
engine-audited      run                     N32       recomputed audit-unregistered leiden
engine-audited      session                 N32       recomputed audit-unregistered leiden
engine-audited      units                   "patients" intact     body-malformed    leiden
engine-audited      seed                    F64       recomputed audit-differs     leiden
engine-audited      named_in                "00"      recomputed audit-differs     leiden
engine-audited      named_out               "00"      recomputed audit-differs     leiden
engine-audited      right                   150       recomputed audit-differs     leiden
engine-audited      delta                   0.01      recomputed audit-differs     leiden
engine-audited      epsilon_claimed         1.0       recomputed audit-differs     leiden
engine-audited      epsilon_f_dp            0.01      recomputed audit-differs     leiden
engine-audited      epsilon_steinke         0.01      recomputed audit-differs     leiden
engine-audited      p_of_claim              0.0001    recomputed audit-differs     leiden
engine-audited      power                   1.0       recomputed audit-differs     leiden
engine-audited      verdict                 "PASS"    recomputed audit-differs     leiden
noise-measured      run                     N32       recomputed noise-measured-differs leiden
noise-measured      coordinates             1000000000 recomputed noise-measured-differs leiden
noise-measured      sum_of_squares_over_variance 500.0     recomputed noise-measured-differs leiden
noise-measured      sigma_ratio             1.2       recomputed noise-measured-differs leiden
noise-measured      sigma_ratio_low         0.999     recomputed noise-measured-differs leiden
noise-measured      sigma_ratio_high        1.001     recomputed noise-measured-differs leiden
noise-measured      p_value                 0.5       recomputed noise-measured-differs leiden
noise-measured      shortfall_seen          0.001     recomputed noise-measured-differs leiden
noise-measured      verdict                 "PASS"    recomputed noise-measured-differs leiden
run-joined          run                     N32       complete   join-missing      leiden
run-joined          session                 N32       complete   join-missing      coordinator
run-joined          study_digest            F64       complete   other-study       leiden
run-joined          epsilon_planned         0.5       complete   history-differs   coordinator
release-reserved    release                 N32       complete   entry-contradicts leiden
release-reserved    transcript              F64       complete   entry-contradicts leiden
release-reserved    purpose                 "evaluate" complete   purpose-differs   leiden
release-reserved    mechanism               "exact"   complete   history-differs   coordinator
release-sent        release                 N32       complete   entry-contradicts leiden
release-sent        transcript              F64       complete   entry-contradicts leiden
release-sent        update_digest           F64       complete   update-differs    leiden
release-sent        engine.mechanism        "distributed" complete   entry-contradicts leiden
release-sent        engine.noise_multiplier 0.9       recomputed engine-weaker     leiden
release-sent        engine.noise_multiplier 9.0       complete   history-differs   coordinator
release-sent        engine.clip_norm_l2     2.0       recomputed engine-weaker     leiden
release-sent        engine.sampling_rate    0.5       recomputed engine-weaker     leiden
release-sent        engine.steps            40        recomputed epsilon-over-ceiling leiden
release-sent        engine.records_per_patient 7         recomputed engine-weaker     leiden
release-sent        engine.batches_commitment F64       complete   history-differs   coordinator
release-sent        engine.clipping         "per-layer" recomputed engine-weaker     leiden
release-sent        engine.truncation       0.5       recomputed epsilon-over-ceiling leiden
release-sent        engine.patients         40        complete   entry-contradicts leiden
checkpoint-witnessed actor                   "zurich"  complete   history-differs   coordinator
checkpoint-witnessed size                    2         complete   history-differs   leiden
checkpoint-witnessed size                    9999      complete   history-shortened leiden
checkpoint-witnessed head                    F64       complete   history-differs   leiden
checkpoint-witnessed[3] head                    F64       complete   history-differs   leiden
run-ended           run                     N32       complete   end-missing       leiden
run-ended           coordinator_head        F64       complete   history-differs   leiden
run-ended           epsilon                 0.1       recomputed epsilon-under-reported leiden
run-ended           delta                   0.1       recomputed delta-differs     leiden
run-ended           delta                   null      recomputed delta-differs     leiden
run-ended           epsilon_dataset         0.1       recomputed epsilon-under-reported leiden
run-ended           epsilon_budget          1.0       recomputed budget-overrun    leiden
run-ended           epsilon                 null      not-seen   -                 leiden
run-ended           epsilon                 9.0       not-seen   -                 leiden
run-ended           epsilon_dataset         null      not-seen   -                 leiden
run-ended           epsilon_dataset         9.0       not-seen   -                 leiden
run-ended           epsilon_budget          99.0      not-seen   -                 leiden
run-ended           epsilon_budget          null      not-seen   -                 leiden
"""

# what was done to the first entry of this type, by whose log
MOVED = """
dropped coordinator study-opened            complete   evidence-contradicts bundle
dropped coordinator hospital-joined         authentic  directory-differs    coordinator
dropped coordinator round-opened            complete   entry-contradicts    coordinator
dropped coordinator update-received         complete   sum-without-hospital coordinator
dropped coordinator checkpoint-witnessed    complete   history-shortened    bergen
dropped coordinator round-closed            complete   attempt-open         coordinator
dropped coordinator evaluation-closed       complete   attempt-open         coordinator
dropped coordinator run-closed              complete   end-missing          coordinator
dropped coordinator hospital-missed         complete   absence-unnamed      coordinator
dropped coordinator attempt-void            complete   attempt-open         coordinator
doubled coordinator study-opened            complete   history-differs      bergen
doubled coordinator hospital-joined         authentic  directory-differs    coordinator
doubled coordinator round-opened            complete   entry-contradicts    coordinator
doubled coordinator update-received         complete   entry-contradicts    coordinator
doubled coordinator checkpoint-witnessed    complete   history-differs      bergen
doubled coordinator round-closed            complete   entry-contradicts    coordinator
doubled coordinator evaluation-closed       complete   entry-contradicts    coordinator
doubled coordinator run-closed              complete   after-the-end        coordinator
doubled coordinator hospital-missed         complete   entry-contradicts    coordinator
doubled coordinator attempt-void            complete   entry-contradicts    coordinator
delayed coordinator study-opened            complete   history-differs      bergen
delayed coordinator hospital-joined         complete   spec-differs         coordinator
delayed coordinator round-opened            complete   entry-contradicts    coordinator
delayed coordinator update-received         complete   history-differs      bergen
delayed coordinator checkpoint-witnessed    complete   history-differs      bergen
delayed coordinator round-closed            complete   history-differs      bergen
delayed coordinator evaluation-closed       complete   history-differs      bergen
delayed coordinator hospital-missed         complete   history-differs      bergen
delayed coordinator attempt-void            complete   history-differs      bergen
dropped leiden      study-approved          complete   not-approved         leiden
dropped leiden      engine-audit-registered recomputed audit-unregistered   leiden
dropped leiden      engine-audited          complete   history-differs      coordinator
dropped leiden      run-joined              complete   join-missing         leiden
dropped leiden      checkpoint-witnessed    complete   history-differs      coordinator
dropped leiden      release-reserved        complete   entry-contradicts    leiden
dropped leiden      release-sent            complete   release-missing      coordinator
dropped leiden      run-ended               complete   end-missing          leiden
dropped leiden      noise-measured          not-seen   -                    leiden
doubled leiden      study-approved          complete   history-differs      coordinator
doubled leiden      engine-audit-registered complete   history-differs      coordinator
doubled leiden      engine-audited          recomputed audit-unregistered   leiden
doubled leiden      run-joined              complete   history-differs      coordinator
doubled leiden      checkpoint-witnessed    complete   history-differs      coordinator
doubled leiden      release-reserved        complete   entry-contradicts    leiden
doubled leiden      release-sent            complete   entry-contradicts    leiden
doubled leiden      noise-measured          not-seen   -                    leiden
doubled leiden      run-ended               not-seen   -                    leiden
delayed leiden      study-approved          complete   not-approved         leiden
delayed leiden      engine-audit-registered recomputed audit-unregistered   leiden
delayed leiden      engine-audited          complete   history-differs      coordinator
delayed leiden      run-joined              complete   never-witnessed      leiden
delayed leiden      checkpoint-witnessed    complete   history-differs      coordinator
delayed leiden      release-reserved        complete   entry-contradicts    leiden
delayed leiden      release-sent            complete   history-differs      coordinator
delayed leiden      noise-measured          not-seen   -                    leiden
"""

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
    """Set one field of a body, by its dotted path."""

    def change(body: Json) -> None:
        *above, last = path.split(".")
        for key in above:
            body = body[key]
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
