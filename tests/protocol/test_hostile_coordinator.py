"""A coordinator that lies is refused by its hospitals, or exposed by `audit verify`, or both.

Real bytes and real keys: the coordinator's own loop over hospitals in memory, bent on its way.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from tests.support.federation_evidence import Party
from tests.support.hospitals import NAMES, Ward
from tests.support.hostile_coordinator import (
    TwoFaced,
    codes,
    edited,
    in_its_log,
    lying,
    retold,
    sealed,
    under,
)
from tests.support.memory_runs import Federation

from wardround.audit.bundle import LogExport, RunEvidence, evidence_of
from wardround.audit.compare import compare_bundles
from wardround.audit.countersign import Countersignature
from wardround.audit.derive import derive_report
from wardround.audit.verify import verify_bytes
from wardround.canonical import Json, canonical_bytes
from wardround.errors import QuorumMissed, Refused
from wardround.evidence.entry import Entry
from wardround.protocol.messages import Close, Closed, Open, Survivors, Work
from wardround.study.files import sign_study
from wardround_server.rounds import run as coordinator_run
from wardround_server.rounds.record import RunRecord
from wardround_server.rounds.uploads import UploadStore

HARBOUR, LAKESIDE, NORTHSIDE = NAMES
HIS = f"hospitals/{NORTHSIDE}"
HISTORY = "coordinator-history-differs"


@dataclass
class Finished:
    """An honest run of two rounds, and what its parties handed over."""

    ward: Ward
    federation: Federation
    parts: RunEvidence


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    ward = Ward.make(tmp_path_factory.mktemp("ward"))
    federation = Federation(ward)
    model, session = federation.run().train_and_evaluate()
    yield Finished(ward, federation, federation.close(model, session))
    ward.close()


@pytest.fixture
def ward(tmp_path) -> Iterator[Ward]:
    ward = Ward.make(tmp_path)
    yield ward
    ward.close()


def test_the_run_that_is_lied_about_was_honest(finished: Finished):
    assert verify_bytes(sealed(finished.ward, finished.parts)).ok


# --- it rewrites a round ---


def test_a_coordinator_that_rewrites_a_round_is_exposed_by_every_hospitals_log(finished: Finished):
    forged = retold(finished.ward, finished.parts, edited("round-closed", sum_digest="5" * 64))
    found = codes(sealed(finished.ward, forged))
    assert {place for place, names in found.items() if "history-differs" in names} == {
        f"hospitals/{name}" for name in NAMES
    }


def test_a_coordinator_that_rewrites_a_round_in_mid_run_is_refused_by_every_hospital(ward: Ward):
    """What they saw when the second round began, the first one's end, is another in the third."""
    federation = Federation(ward, rounds__count=3)

    def bend(name, body, vector):
        if not isinstance(body, Work) or body.spec["round"] != 2:
            return body, vector
        change = edited("round-closed", sum_digest="5" * 64)
        return under(body, in_its_log(ward, change(federation.log.entries()))), vector

    liar = lying(federation, bend)
    with pytest.raises(QuorumMissed):
        federation.run().train_and_evaluate()
    assert liar.refusals == [(name, HISTORY) for name in NAMES]
    assert len(federation.entries("round-closed")) == 2


# --- it lies about whose updates are in a sum ---


def test_a_coordinator_that_names_other_survivors_than_were_signed_is_exposed_by_everybody(
    finished: Finished,
):
    parts = retold(
        finished.ward, finished.parts, edited("survivors-agreed", survivors=[HARBOUR, LAKESIDE])
    )
    found = codes(sealed(finished.ward, parts))
    assert {"survivor-signature", "survivors-differ", "below-threshold"} <= found["coordinator"]
    for name in NAMES:
        assert "survivors-differ" in found[f"hospitals/{name}"]


def test_a_coordinator_that_asks_for_two_sets_of_survivors_opens_no_sum(ward: Ward):
    """Two hospitals hear that the third is in the sum, and it hears that it is alone with one."""
    federation = Federation(ward, rounds__count=1, rounds__quorum=3)

    def bend(name, body, vector):
        if isinstance(body, Survivors) and name == NORTHSIDE:
            survivors = (LAKESIDE, NORTHSIDE)
            headers = {each: body.headers[each] for each in survivors}
            shares = {LAKESIDE: body.shares[LAKESIDE]}
            body = body.model_copy(
                update={"survivors": survivors, "headers": headers, "shares": shares}
            )
        return body, vector

    liar = lying(federation, bend)
    with pytest.raises(QuorumMissed):
        federation.run().train_and_evaluate()
    assert set(liar.refusals) == {(NORTHSIDE, "survivors-not-valid")}
    assert federation.survivors() == []
    assert federation.entries("round-closed") == []


# --- it truncates its log ---


@pytest.mark.parametrize("left_out", [1, 2, 9])
def test_a_coordinator_that_truncates_its_log_is_exposed_by_every_hospitals_log(
    finished: Finished, left_out: int
):
    forged = retold(finished.ward, finished.parts, lambda entries: entries[:-left_out])
    found = codes(sealed(finished.ward, forged))
    for name in NAMES:
        assert {"history-shortened", "history-differs"} & found[f"hospitals/{name}"]
    assert "end-missing" in found["coordinator"]


def test_a_coordinator_that_truncates_its_log_in_mid_run_is_refused_by_every_hospital(ward: Ward):
    federation = Federation(ward)

    def bend(name, body, vector):
        if not isinstance(body, Work) or body.spec["round"] != 1:
            return body, vector
        return under(body, in_its_log(ward, federation.log.entries()[:3])), vector

    liar = lying(federation, bend)
    with pytest.raises(QuorumMissed):
        federation.run().train_and_evaluate()
    assert liar.refusals == [(name, HISTORY) for name in NAMES]


# --- it shows two hospitals two histories ---


@dataclass
class Split:
    """Two bundles: of harbour and lakeside, and of northside, each without the others."""

    ward: Ward
    left: RunEvidence
    right: RunEvidence


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Split]:
    ward = Ward.make(tmp_path_factory.mktemp("split"))
    federation = Federation(ward, rounds__count=1)
    other = ward.new_log()
    federation.log = TwoFaced(federation.log, other)
    liar = lying(
        federation,
        lambda name, body, vector: (under(body, other) if name == NORTHSIDE else body, vector),
    )
    model, session = federation.run().train_and_evaluate()
    told = federation.close(model, session)
    assert liar.refusals == []
    # It countersigned the other history: here its word does not fit, and it is left out by name.
    assert sorted(told.hospitals) == [HARBOUR, LAKESIDE]
    yield Split(ward, told, northsides(ward, other.entries(), told, *liar.closed[NORTHSIDE]))
    ward.close()


def northsides(
    ward: Ward, entries: list[Entry], told: RunEvidence, note: str, closed: Closed
) -> RunEvidence:
    """What the coordinator hands to northside: its history, and the others lost in it."""
    end = next(entry for entry in entries if entry.type == "run-closed")
    party = Party("coordinator", ward.coordinator.identity())
    party.rewrite(entries[: end.seq + 1])
    for name in (HARBOUR, LAKESIDE):
        body = {"transcript": None, "hospital": name, "reason": "did not countersign: deadline"}
        party.append("hospital-missed", body, at=end.time)
    word = Countersignature(checkpoint=note, signature=closed.countersignature)
    return replace(
        told,
        coordinator=party.export(),
        hospitals={NORTHSIDE: LogExport.read(closed.log, closed.checkpoint)},
        countersignatures={NORTHSIDE: word},
    )


def test_a_coordinator_that_shows_two_hospitals_two_histories_is_exposed_by_both_bundles(
    split: Split,
):
    """Each bundle holds, and says loudly who was lost; together they show the two histories."""
    left, right = sealed(split.ward, split.left), sealed(split.ward, split.right)
    assert verify_bytes(left).ok
    assert verify_bytes(right).ok
    assert NORTHSIDE in report_of(split.left)["participation"]["headline"]
    verdict = compare_bundles([("left", left), ("right", right)])
    places = {(failure.code, failure.log, failure.seq) for failure in verdict.failures}
    assert places == {("history-split", "coordinator", 0)}


def test_a_coordinator_that_shows_two_hospitals_two_histories_is_exposed_in_one_bundle(
    split: Split,
):
    """Where it hands out one bundle with both logs, one of them does not fit."""
    both = replace(
        split.left,
        hospitals={**split.left.hospitals, **split.right.hospitals},
        countersignatures={**split.left.countersignatures, **split.right.countersignatures},
    )
    assert "history-differs" in codes(sealed(split.ward, both))[HIS]


# --- it drops a hospital silently ---


def test_a_coordinator_that_drops_a_hospital_silently_is_exposed(finished: Finished):
    parts = without(finished.parts, NORTHSIDE)
    assert codes(sealed(finished.ward, parts)) == {HIS: {"log-missing"}}


def test_a_coordinator_that_drops_a_hospital_from_the_rounds_is_exposed_by_the_others(
    finished: Finished,
):
    """Its updates are gone from the log, and the cohorts still name it."""
    parts = retold(
        finished.ward,
        without(finished.parts, NORTHSIDE),
        lambda entries: [entry for entry in entries if entry.body.get("hospital") != NORTHSIDE],
    )
    found = codes(sealed(finished.ward, parts))
    assert "sum-without-hospital" in found["coordinator"]
    assert "history-differs" in found[f"hospitals/{HARBOUR}"]


def test_a_hospital_that_is_left_out_with_a_word_is_named_on_the_first_page(finished: Finished):
    """Not silently: the bundle holds, and the report says who is missing and in which words."""
    parts = retold(
        finished.ward,
        without(finished.parts, NORTHSIDE),
        lambda entries: [*entries, missed(entries)],
    )
    assert verify_bytes(sealed(finished.ward, parts)).ok
    participation = report_of(parts)["participation"]
    assert participation["verdict"] != "everybody"
    assert NORTHSIDE in participation["headline"]
    (absent,) = participation["absent"]
    assert (absent["hospital"], absent["reason"]) == (NORTHSIDE, "it was late")


# --- it under-reports epsilon ---


def test_a_coordinator_that_under_reports_epsilon_is_exposed_with_both_numbers(finished: Finished):
    report = report_of(finished.parts)
    honest = report["guarantee"]["epsilon"]["value"]
    report["guarantee"]["epsilon"]["value"] = 0.5
    bundle = sealed(finished.ward, finished.parts, canonical_bytes(report))
    reasons = [failure.reason for failure in verify_bytes(bundle).recomputed.failures]
    assert any("0.5" in reason and f"{honest:g}" in reason for reason in reasons)
    assert "report-differs" in codes(bundle)["report.json"]


def test_a_coordinator_that_bundles_a_stricter_study_than_it_ran_is_exposed(finished: Finished):
    study = finished.ward.study(privacy__epsilon=0.5)
    signed = sign_study(study, finished.ward.coordinator.identity())
    found = codes(sealed(finished.ward, replace(finished.parts, signed_study=signed)))
    assert "other-study" in found["coordinator"]
    assert "other-study" in found[HIS]


def test_a_coordinator_that_raises_epsilon_after_approval_is_refused_by_every_hospital(ward: Ward):
    federation = Federation(ward, rounds__deadline_s=1.0)
    weaker = ward.study(privacy__epsilon=9.0, rounds__deadline_s=1.0)
    signed = json.loads(sign_study(weaker, ward.coordinator.identity()))

    def bend(name, body, vector):
        return (
            body.model_copy(update={"signed_study": signed}) if isinstance(body, Open) else body
        ), vector

    liar = lying(federation, bend)
    with pytest.raises(Refused):
        federation.run().train_and_evaluate()
    assert set(liar.refusals) == {(name, "study-not-approved") for name in NAMES}


# --- it swaps the model ---


def test_a_coordinator_that_swaps_the_model_of_a_round_is_refused_by_every_hospital(ward: Ward):
    federation = Federation(ward)

    def bend(name, body, vector):
        swapped = isinstance(body, Work) and body.spec["round"] == 1
        return body, vector + np.float32(1) if swapped else vector

    liar = lying(federation, bend)
    with pytest.raises(QuorumMissed):
        federation.run().train_and_evaluate()
    assert [name for name, _ in liar.refusals] == list(NAMES)


def test_a_coordinator_that_swaps_the_final_model_is_countersigned_by_nobody(ward: Ward):
    federation = Federation(ward, rounds__count=1)

    def bend(name, body, vector):
        return body, vector + np.float32(1) if isinstance(body, Close) else vector

    liar = lying(federation, bend)
    model, session = federation.run().train_and_evaluate()
    parts = federation.close(model, session)
    assert liar.refusals == [(name, HISTORY) for name in NAMES]
    assert parts.countersignatures == {}
    assert {each["hospital"] for each in report_of(parts)["participation"]["absent"]} == set(NAMES)


def test_a_coordinator_that_goes_on_with_another_model_than_it_logged_is_exposed(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
):
    """It closes a round with one model and opens the next with another."""
    honest = RunRecord.round_closing

    def closing(self, kind, body, *, before, after):
        first = not any(entry.type == kind for entry in self.log.entries())
        return honest(self, kind, body, before=before, after="5" * 64 if first else after)

    monkeypatch.setattr(RunRecord, "round_closing", closing)
    federation = Federation(ward)
    parts = federation.close(*federation.run().train_and_evaluate())
    assert codes(sealed(ward, parts)) == {"coordinator": {"model-differs"}}


def test_a_coordinator_that_swaps_the_model_everywhere_is_exposed_by_the_masked_uploads(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
):
    """Its log agrees with itself: only the sums, where the bundle has them, show another step."""
    honest = coordinator_run.step
    monkeypatch.setattr(coordinator_run, "step", lambda *given: honest(*given) + np.float32(1))
    federation = Federation(ward)
    run = federation.run()
    run.uploads = UploadStore(ward.folder / "uploads", 1 << 20)
    parts = federation.close(*run.train_and_evaluate())
    assert verify_bytes(sealed(ward, parts)).ok
    replayed = replace(parts, uploads=run.uploads.read())
    assert codes(sealed(ward, replayed)) == {"coordinator": {"step-differs"}}


def without(parts: RunEvidence, name: str) -> RunEvidence:
    """The evidence without a hospital's log and word."""
    return replace(
        parts,
        hospitals={n: log for n, log in parts.hospitals.items() if n != name},
        countersignatures={n: w for n, w in parts.countersignatures.items() if n != name},
    )


def missed(entries: list[Entry]) -> Entry:
    body = {"transcript": None, "hospital": NORTHSIDE, "reason": "it was late"}
    return replace(entries[-1], type="hospital-missed", body=body)


def report_of(parts: RunEvidence) -> Json:
    return json.loads(canonical_bytes(derive_report(evidence_of(parts))))
