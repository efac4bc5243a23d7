"""The state machine of an attempt, in any order of events; and what a run does after it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.errors import QuorumMissed
from wardround_server.rounds.attempt import (
    Absence,
    Attempt,
    Outcome,
    Progress,
    Stage,
    blamed_in,
    cohort_for,
)

NAMES = st.lists(st.sampled_from([f"h{n}" for n in range(8)]), min_size=2, max_size=8, unique=True)
PAIRS = st.sets(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")).filter(lambda p: p[0] != p[1])
)


def attempt(cohort, number=1, threshold=None):
    return Attempt(
        round=2,
        number=number,
        cohort=tuple(sorted(cohort)),
        threshold=len(cohort) if threshold is None else threshold,
    )


def play(state, order, data):
    """Every hospital of `order` answers or is lost; the state after each is checked."""
    for hospital in order:
        reason = data.draw(st.none() | st.sampled_from(list(Absence)))
        before = state
        state = state.with_answer(hospital) if reason is None else state.without(hospital, reason)
        assert hospital in before.waiting_for
        assert hospital not in state.waiting_for
        assert not state.answered & state.absent.keys()
        assert state.answered | state.waiting_for | (state.absent.keys() & state.asked) == (
            state.asked
        )
        check_outcome(state)
    assert state.outcome is not Outcome.OPEN
    return state


def check_outcome(state):
    may_come = len(state.asked - state.absent.keys())
    if may_come < state.threshold:
        assert state.outcome is Outcome.VOID
    else:
        assert state.outcome is (Outcome.OPEN if state.waiting_for else Outcome.COMPLETE)


@settings(max_examples=200)
@given(NAMES, st.data())
def test_a_stage_is_complete_with_a_threshold_of_answers_and_void_as_soon_as_fewer_can_come(
    cohort, data
):
    threshold = data.draw(st.integers(1, len(cohort)))
    state = play(attempt(cohort, threshold=threshold), data.draw(st.permutations(cohort)), data)
    assert (state.outcome is Outcome.COMPLETE) == (len(state.answered) >= threshold)
    assert state.answered | state.absent.keys() == set(cohort)


@settings(max_examples=100)
@given(NAMES, st.data())
def test_with_one_trip_the_first_that_is_lost_voids_the_attempt(cohort, data):
    state = play(attempt(cohort), data.draw(st.permutations(cohort)), data)
    assert (state.outcome is Outcome.VOID) == bool(state.absent)


@settings(max_examples=200)
@given(NAMES, st.data())
def test_later_stages_ask_survivors_only_and_nobody_who_was_lost_before(cohort, data):
    state = attempt(cohort, threshold=data.draw(st.integers(1, len(cohort))))
    for stage in (Stage.SIGNED, Stage.REVEALED, Stage.REVEALED):
        assert state.asked_to_sign == (state.stage is not Stage.UPDATE)
        state = play(state, data.draw(st.permutations(sorted(state.waiting_for))), data)
        if state.outcome is Outcome.VOID:
            break
        after = state.asking(stage, state.cohort)
        assert after.asked == after.waiting_for == frozenset(cohort) - state.absent.keys()
        assert not after.answered
        state = after


@settings(max_examples=300)
@given(PAIRS)
def test_after_a_dispute_no_two_are_left_of_whom_one_must_be_at_fault(disputes):
    blamed = blamed_in(disputes)
    assert all(set(pair) & blamed for pair in disputes)
    assert blamed <= {name for pair in disputes for name in pair}
    assert blamed == blamed_in({(named, accuser) for accuser, named in disputes})


@given(st.sampled_from("abcdef"), st.sets(st.sampled_from("abcdef"), min_size=2))
def test_one_liar_among_honest_hospitals_goes_alone(liar, others):
    others = others - {liar}
    disputes = {(name, liar) for name in others}
    due = {liar} if len(others) > 1 else others | ({liar} if others else set())
    assert blamed_in(disputes) == due


def test_who_refused_because_of_another_is_in_the_next_attempt_and_the_liar_is_not():
    state = attempt("abcd", threshold=3)
    for name in "abcd":
        state = state.with_answer(name)
    state = state.asking(Stage.SIGNED, "abcd").with_answer("a")
    for name in "bc":
        state = state.disputed(name, "a").without(name, Absence.REFUSED)
    state = state.without("d", Absence.DISCONNECTED)
    assert state.outcome is Outcome.VOID
    assert state.lost() == {"a": Absence.REJECTED, "d": Absence.DISCONNECTED}


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
        with pytest.raises(ValueError, match=f"round 3, attempt 1: not waiting for {name}"):
            once.with_answer(name)
        with pytest.raises(ValueError, match="not waiting"):
            once.without(name, Absence.FAILED)


@settings(max_examples=100)
@given(st.integers(0, 5), st.lists(st.booleans(), max_size=20), st.booleans())
def test_spare_attempts_count_down_and_never_come_back(spare, completes, noised):
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
                progress.after_void(void, noised=noised)
            break
        progress = progress.after_void(void, noised=noised)
    assert asked == sorted(set(asked))
    assert len(asked) <= progress.round + spare + 1


@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9))
def test_after_a_stop_no_attempt_is_asked_again_and_each_that_was_is_spent(attempt, spare, opened):
    progress = Progress(round=3, attempt=attempt, spare_attempts=spare)
    after = progress.after_stop(opened)
    assert after.attempt > opened
    assert after.attempt >= attempt
    assert spare - after.spare_attempts == min(spare, after.attempt - attempt)
    assert after.after_stop(opened) == after


def test_without_noise_an_attempt_that_was_void_once_somebody_was_asked_to_sign_is_the_last():
    progress = Progress(round=4, attempt=1, spare_attempts=5)
    state = attempt("abc", threshold=3)
    for name in "abc":
        state = state.with_answer(name)
    state = state.asking(Stage.SIGNED, "abc").without("b", Absence.DISCONNECTED)
    assert progress.after_void(state, noised=True).attempt == 2
    with pytest.raises(QuorumMissed, match=r"missing b \(disconnected\); .* without noise"):
        progress.after_void(state, noised=False)


@given(st.sets(st.sampled_from(["a", "b", "c", "d"])), st.integers(2, 4))
def test_everybody_who_is_there_is_asked_or_the_missing_are_named(present, quorum):
    absent = dict.fromkeys(sorted({"a", "b", "c", "d"} - present), "disconnected")
    if len(present) >= quorum:
        chosen = cohort_for(frozenset(present), quorum=quorum, where="round 5", absent=absent)
        assert chosen == tuple(sorted(present))
        return
    with pytest.raises(QuorumMissed) as caught:
        cohort_for(frozenset(present), quorum=quorum, where="round 5", absent=absent)
    text = str(caught.value)
    assert f"round 5: {len(present)} hospitals are there, the quorum is {quorum}" in text
    assert all(f"{name} (disconnected)" in text for name in absent)
