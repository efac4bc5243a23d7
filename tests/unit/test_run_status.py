"""What a person sees of a run: its round, and who is missing and why."""

from datetime import UTC, datetime, timedelta
from io import StringIO

from rich.console import Console
from rich.live import Live

from wardround.ticket import format_time
from wardround_server.rehearsal import view as views
from wardround_server.rehearsal.view import HospitalState, PlainView, Snapshot, render
from wardround_server.status import status_line

TWO = {"harbour": "disconnected", "lakeside": "refused: policy"}
BOTH = "harbour (disconnected), lakeside (refused: policy)"


def running(**more):
    return {"study": "fever", "digest": "ab" * 32, "state": "train", "round": 2, **more}


def snapshot(**status):
    hospitals = [HospitalState("harbour", True, {}, 3.0)]
    return Snapshot("Fever", 5, {"state": "train", "round": 2, **status}, hospitals, 8.0)


def shown(what):
    text = StringIO()
    Console(file=text, width=200).print(what)
    return text.getvalue()


def test_a_study_that_runs_is_listed_with_its_round_and_who_is_missing():
    assert status_line(running()).endswith("train, round 3")
    assert status_line(running(missing={})).endswith("train, round 3")
    assert status_line(running(missing=TWO)).endswith(f"train, round 3; missing: {BOTH}")
    evaluating = running(missing=TWO) | {"state": "evaluate"}
    assert status_line(evaluating).endswith(f"evaluate; missing: {BOTH}")


def test_a_study_that_waits_or_has_ended_is_listed_without_them():
    waiting = {"study": "fever", "digest": "ab" * 32, "state": "waiting"}
    assert status_line(waiting).endswith("waiting")
    ended = running(missing=TWO, result={"exit_code": 8}) | {"state": "done"}
    assert status_line(ended).endswith("done")


def test_a_study_that_did_not_end_as_planned_says_so_in_its_line():
    why = {"exit_code": 6, "message": "2 hospitals joined, the quorum is 3"}
    failed = running(result=why) | {"state": "failed"}
    assert status_line(failed).endswith("failed: 2 hospitals joined, the quorum is 3")
    counted = {"exit_code": 8, "hospitals_planned": 3, "hospitals_completed": ["east", "west"]}
    fewer = running(result=counted) | {"state": "done"}
    assert status_line(fewer).endswith("done; 2 of 3 hospitals to the end: east, west")
    everybody = running(result=counted | {"hospitals_planned": 2}) | {"state": "done"}
    assert status_line(everybody).endswith("done")


def test_while_a_session_opens_who_has_said_no_is_told_from_who_is_waited_for():
    joining = running(
        hospitals={"east": "refused: data-not-ready", "west": "refused: study-not-approved"},
        waiting_for={"west": "refused: study-not-approved"},
        waiting_since="2026-01-02T03:04:05Z",
    ) | {"state": "joining"}
    line = status_line(joining)
    assert "waiting for: west (refused: study-not-approved)" in line
    assert line.endswith("out: east (refused: data-not-ready)")
    assert "out:" not in status_line(joining | {"state": "train"})


def test_the_live_view_names_who_is_missing_and_the_pooled_loss_where_there_is_one():
    assert "missing" not in shown(render(snapshot()))
    text = shown(render(snapshot(missing=TWO, training_loss=0.4321)))
    assert f"missing: {BOTH}" in text
    assert "pooled training loss 0.432" in text


def test_the_live_view_keeps_its_words_at_80_columns():
    text = StringIO()
    console = Console(file=text, width=80, height=40, force_terminal=True, color_system=None)
    with Live(render(snapshot(missing=TWO, training_loss=0.4321)), console=console):
        pass
    words = " ".join(text.getvalue().split())
    assert "pooled training loss 0.432" in words
    assert BOTH.split(", ")[1] in words


def test_the_plain_view_says_at_once_that_somebody_is_missing():
    text = StringIO()
    view = PlainView(Console(file=text, width=200))
    for status in ({}, {}, {"missing": TWO}, {"missing": TWO}, {"missing": {}}):
        view.show(snapshot(**status))
    lines = text.getvalue().splitlines()
    assert len(lines) == 3
    assert [BOTH in line for line in lines] == [False, True, False]


def test_who_is_suspected_is_shown_beside_who_is_missing_as_soon_as_it_is_known():
    why = {"lakeside": "its group lay far off in 7 of 7 rounds"}
    told = "suspected: lakeside (its group lay far off in 7 of 7 rounds)"
    assert status_line(running(suspected=why)).endswith(f"train, round 3; {told}")
    both = status_line(running(missing={"harbour": "disconnected"}, suspected=why))
    assert both.endswith(f"missing: harbour (disconnected); {told}")
    assert told in shown(render(snapshot(suspected=why)))
    text = StringIO()
    view = PlainView(Console(file=text, width=200))
    for status in ({}, {"suspected": why}, {"suspected": why}):
        view.show(snapshot(**status))
    assert [told in line for line in text.getvalue().splitlines()] == [False, True]


def waiting(seconds):
    since = format_time(datetime.now(UTC) - timedelta(seconds=seconds))
    return {
        "state": "joining",
        "round": 0,
        "waiting_for": {"harbour": "disconnected", "lakeside": "refused: study-not-approved"},
        "waiting_since": since,
    }


WAITS = "waiting for: harbour (disconnected), lakeside (refused: study-not-approved), for 4"


def test_while_hospitals_join_it_is_told_for_whom_the_run_waits_and_how_long():
    assert WAITS in status_line(running() | waiting(44))
    assert WAITS in shown(render(snapshot(**waiting(44))))
    assert "waiting" not in status_line(running(waiting_for={}))
    assert "waiting" not in shown(render(snapshot(waiting_for={})))


def test_the_plain_view_says_again_now_and_then_that_it_waits(monkeypatch):
    text, now = StringIO(), [0.0]
    monkeypatch.setattr(views.time, "monotonic", lambda: now[0])
    view = PlainView(Console(file=text, width=300))
    for moment in (0.0, 1.0, 20.0, 29.0, 31.0, 40.0):
        now[0] = moment
        view.show(snapshot(**waiting(44)))
    assert len(text.getvalue().splitlines()) == 2
    assert text.getvalue().count(WAITS) == 2


def test_people_count_rounds_from_one_in_the_view_and_in_the_status():
    assert "round 3 of 5, train" in shown(render(snapshot()))
    assert "5 of 5 rounds done, evaluate" in shown(render(snapshot(state="evaluate")))
    assert "0 of 5 rounds done, joining" in shown(render(snapshot(state="joining", round=0)))
    assert status_line(running()).endswith("round 3")
