"""SCAFFOLD in the evidence: of one attempt all hospitals kept their control, or all began anew."""

import pytest
from tests.support.federation_evidence import Federation, federation
from tests.support.forgeries import only, sealed
from tests.support.forgeries_control import KEPT, keeping, shown_two
from tests.support.forgeries_survivors import WITHOUT_NOISE
from tests.support.honest_rounds import UNREVEALED

from wardround.audit.verify import verify_bytes


def said(fed: Federation, name: str = "bergen") -> list[str | None]:
    entries = fed.hospitals[name].entries
    return [e.body.get("control") for e in entries if e.type == "release-reserved"]


def test_a_run_that_kept_its_controls_verifies():
    assert said(keeping()) == ["begun", "kept", None]
    found = verify_bytes(sealed(keeping().parts()))
    assert found.ok, list(found.lines())


@pytest.mark.parametrize(
    ("rounds", "absent", "due"),
    [
        (2, {"void": (0,)}, ["begun", "begun", "kept", None]),
        (3, {"lost": {"leiden": (1, "deadline")}}, ["begun", "kept", "begun", None]),
        (3, {"vanished": {"zurich": (1, UNREVEALED)}}, ["begun", "kept", "kept", None]),
    ],
    ids=["an attempt repeated", "one lost", "one gone after it had signed"],
)
def test_a_run_in_which_all_began_anew_together_verifies(rounds, absent, due):
    quick = KEPT if "void" in absent else {**KEPT, **WITHOUT_NOISE}
    fed = federation(rounds=rounds, changes=quick, witnessed=True, **absent)
    assert said(fed) == due
    found = verify_bytes(sealed(fed.parts(without=frozenset(absent.get("lost", ())))))
    assert found.ok, list(found.lines())


def test_hospitals_that_were_shown_different_attempts_are_named():
    """Nothing else of this run is wrong: each is right by its own log."""
    assert verify_bytes(sealed(shown_two({"evaluation": {"bins": 10}}).parts())).ok
    fed = shown_two(KEPT)
    assert (said(fed), said(fed, "zurich")) == (
        ["begun", "kept", None],
        ["begun", "begun", "begun", None],
    )
    found = verify_bytes(sealed(fed.parts()))
    failure = only(found, "complete", "control-differs")
    assert "bergen kept a control, and coimbra, leiden, zurich began anew" in failure.reason
    assert [len(verdict.failures) for verdict in found.four] == [0, 0, 1, 0]
