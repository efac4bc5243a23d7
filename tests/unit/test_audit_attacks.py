"""Verdicts of attacks in a hospital's log: checked for what follows from them, study and place."""

import pytest
from tests.support.federation_evidence import RUN, Federation
from tests.support.forgeries import VICTIM, honest, of_type, only, sealed

from wardround.audit.verify import verify_bytes
from wardround.canonical import Json


def attacked(**changes: object) -> Json:
    final = [e for e in honest().coordinator.entries if e.type == "run-closed"][-1].body["model"]
    body = {
        "run": RUN,
        "model": final,
        "model_sha256": "0" * 64,
        "epsilon_claimed": 2.5,
        "delta": 1e-4,
        "alpha": 0.05,
        "tests": 11,
        "shadows": 4,
        "noise": "none",
        "verdicts": {"membership: loss threshold": "PASS", "canaries: engine": "INCONCLUSIVE"},
        "verdict": "INCONCLUSIVE",
    }
    return body | changes


def with_attack(body: Json, *, before: str) -> Federation:
    """The hospital's log with this entry before the last of a type."""
    fed = honest().fork()
    party = fed.hospitals[VICTIM]
    party.append("attack-tested", body, at=fed.tick())
    *others, entry = party.entries
    place = max(each.seq for each in others if each.type == before)
    party.rewrite([*others[:place], entry, *others[place:]])
    return fed


@pytest.mark.parametrize("before", ["noise-measured", "run-ended"])
def test_an_attack_at_the_end_of_the_run_verifies(before: str):
    found = verify_bytes(sealed(with_attack(attacked(), before=before).parts()))
    assert found.ok, list(found.lines())


def test_a_hospital_may_say_that_there_was_no_time():
    body = attacked(verdicts={}, shadows=0, skipped="no time")
    assert verify_bytes(sealed(with_attack(body, before="run-ended").parts())).ok


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"verdict": "PASS"}, "its attacks give INCONCLUSIVE"),
        ({"verdict": "VIOLATION"}, "its attacks give INCONCLUSIVE"),
        ({"verdicts": {}}, "that none was run, or neither"),
        ({"skipped": "failed"}, "that none was run, or neither"),
        ({"epsilon_claimed": 2.6}, "another claim"),
        ({"epsilon_claimed": None, "delta": None}, "another claim"),
        ({"delta": 2e-4}, "another claim"),
        ({"model": "5" * 64}, "not the one that the run ended with"),
        ({"model": None}, "does not say which model"),
    ],
)
def test_a_forged_attack_is_named(change: Json, reason: str):
    fed = with_attack(attacked(**change), before="run-ended")
    failure = only(verify_bytes(sealed(fed.parts())), "recomputed", "attack-differs")
    assert reason in failure.reason
    place = (f"hospitals/{VICTIM}", of_type(fed.hospitals[VICTIM], "attack-tested"))
    assert (failure.log, failure.seq) == place


def test_an_attack_before_the_last_release_was_not_on_the_final_model():
    fed = with_attack(attacked(), before="release-reserved")
    failure = only(verify_bytes(sealed(fed.parts())), "recomputed", "attack-differs")
    assert "the run went on" in failure.reason
