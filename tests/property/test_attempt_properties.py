"""The state machine of an attempt, in any order of events; and what a run does after it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.errors import QuorumMissed
from wardround_server.rounds.attempt import Absence, Attempt, Outcome, Progress, cohort_for

NAMES = st.lists(st.sampled_from([f"h{n}" for n in range(8)]), min_size=2, max_size=8, unique=True)
EVENTS = st.data()


def attempt(cohort, number=1):
    return Attempt(round=2, number=number, cohort=tuple(sorted(cohort)))


@settings(max_examples=200)
@given(NAMES, st.data())
def test_an_attempt_is_complete_only_with_all_and_void_as_soon_as_one_is_lost(cohort, data):
    state = attempt(cohort)
    for hospital in data.draw(st.permutations(cohort)):
        reason = data.draw(st.none() | st.sampled_from(list(Absence)))
        before = state
        state = state.with_answer(hospital) if reason is None else state.without(hospital, reason)
        assert hospital in before.waiting_for
        assert hospital not in state.waiting_for
        assert state.answered | state.absent.keys() | state.waiting_for == set(cohort)
        assert not state.answered & state.absent.keys()
        if state.absent:
            assert state.outcome is Outcome.VOID
        else:
            complete = state.answered == set(cohort)
            assert state.outcome is (Outcome.COMPLETE if complete else Outcome.OPEN)
    assert state.outcome is not Outcome.OPEN


@settings(max_examples=60)
@given(NAMES, st.data())
def test_nobody_answers_twice_or_after_being_given_up_or_from_outside(cohort, data):
    hospital = data.draw(st.sampled_from(cohort))
    once = data.draw(
        st.sampled_from(
            [
                attempt(cohort).with_answer(hospital),
                attempt(cohort).without(hospital, Absence.DEADLINE),
            ]
        )
    )
    for name in (hospital, "stranger"):
        with pytest.raises(ValueError, match=f"round 2, attempt 1: not waiting for {name}"):
            once.with_answer(name)
        with pytest.raises(ValueError, match="not waiting"):
            once.without(name, Absence.FAILED)


@settings(max_examples=100)
@given(st.integers(0, 5), st.lists(st.booleans(), max_size=20))
def test_spare_attempts_count_down_and_never_come_back(spare, completes):
    """Over a whole run: rounds x 1 + spare attempts bound what is asked, as epsilon assumes."""
    progress, asked = Progress(round=0, attempt=1, spare_attempts=spare), []
    for complete in completes:
        asked.append((progress.round, progress.attempt))
        if complete:
            progress = progress.after_complete()
            continue
        void = attempt(["h0", "h1"]).without("h1", Absence.DEADLINE)
        if not progress.spare_attempts:
            with pytest.raises(QuorumMissed, match=r"missing h1 \(deadline\); .*no spare attempt"):
                progress.after_void(void)
            break
        progress = progress.after_void(void)
    assert asked == sorted(set(asked))
    assert len(asked) <= progress.round + spare + 1


@given(st.sets(st.sampled_from(["a", "b", "c", "d"])), st.integers(2, 4))
def test_everybody_who_is_there_is_asked_or_the_missing_are_named(present, quorum):
    absent = dict.fromkeys(sorted({"a", "b", "c", "d"} - present), "disconnected")
    if len(present) >= quorum:
        chosen = cohort_for(frozenset(present), quorum=quorum, round_number=4, absent=absent)
        assert chosen == tuple(sorted(present))
        return
    with pytest.raises(QuorumMissed) as caught:
        cohort_for(frozenset(present), quorum=quorum, round_number=4, absent=absent)
    text = str(caught.value)
    assert f"round 4: {len(present)} hospitals are there, the quorum is {quorum}" in text
    assert all(f"{name} (disconnected)" in text for name in absent)
