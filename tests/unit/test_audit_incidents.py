"""Section D: what a hospital refused stands in the report, whoever wrote it down."""

import pytest
from tests.support.federation_evidence import Federation, federation

from wardround.audit.bundle import evidence_of
from wardround.audit.derive import derive_report
from wardround.audit.words import words_of
from wardround.canonical import Json

CODE = "second-survivor-set"


@pytest.fixture
def fed() -> Federation:
    return federation(rounds=1).fork()


def incidents(fed: Federation) -> list[Json]:
    found: list[Json] = derive_report(evidence_of(fed.parts()))["incidents"]
    return found


def refuses(fed: Federation, name: str, transcript: str | None) -> None:
    body = {"transcript": transcript, "code": CODE}
    fed.hospitals[name].append("round-refused", body, at=fed.tick())


def opened(fed: Federation) -> str:
    found = [e.body["transcript"] for e in fed.coordinator.entries if e.type == "round-opened"]
    return str(found[0])


def test_what_only_a_hospitals_log_says_was_refused_is_in_the_report(fed: Federation) -> None:
    assert incidents(fed) == []
    for _ in range(3):
        refuses(fed, "leiden", opened(fed))
    refuses(fed, "bergen", "0" * 64)
    assert [(each["party"], each["what"], each["reason"]) for each in incidents(fed)] == [
        ("bergen", "refused in an attempt that was never opened; only its own log says so", CODE),
        ("leiden", "refused in round 1; only its own log says so", f"{CODE}, 3 times"),
    ]


def test_a_message_that_is_no_round_is_told_in_both_languages(fed: Federation) -> None:
    refuses(fed, "leiden", None)
    (told,) = incidents(fed)
    what = "refused in a message that is no round; only its own log says so"
    assert (told["what"], told["party"], told["reason"]) == (what, "leiden", CODE)
    german = words_of("de").sentence(what)
    assert german == (
        "abgelehnt: eine Nachricht, die keine Runde ist; nur das eigene Protokoll sagt es"
    )


def test_what_the_coordinator_tells_too_is_told_once(fed: Federation) -> None:
    refuses(fed, "leiden", opened(fed))
    body = {"hospital": "leiden", "code": CODE}
    fed.coordinator.append("hospital-refused", body, at=fed.tick())
    (told,) = incidents(fed)
    assert (told["what"], told["party"], told["reason"]) == ("refused", "leiden", CODE)


def test_it_is_said_in_german_too() -> None:
    words = words_of("de")
    told = words.sentence("refused in round 2; only its own log says so")
    assert told == "abgelehnt: Runde 2; nur das eigene Protokoll sagt es"
    assert words.sentence(f"{CODE}, 3 times") == f"{CODE}, 3-mal"
