"""A hospital chooses some words of the reason why it is left out: they harm nobody's evidence."""

import json
import time

import pytest
from tests.support.hospitals import LANES, NAMES, Ward
from tests.support.hostile_coordinator import codes, sealed
from tests.support.memory_runs import Federation, in_round, when

from wardround.errors import BadInput
from wardround.protocol.envelope import seal, unseal
from wardround.protocol.messages import Keyed, Open, Refusal, RefusalCode
from wardround.study.files import checked
from wardround_server.rounds.post import Post

HARBOUR, LAKESIDE, NORTHSIDE = NAMES


@pytest.fixture
def ward(tmp_path):
    ward = Ward.make(tmp_path)
    yield ward
    ward.close()


def with_a_field(part, name):
    """The answer with one field more in this part of it, which an error calls by its name."""

    def spoil(content):
        body, vector = unseal(content, lanes=LANES)
        spoilt = {**getattr(body, part), name: 1}
        return seal(body.model_copy(update={part: spoilt}), vector)

    return spoil


def test_two_megabytes_of_words_in_a_run_key_stop_no_session(ward):
    """An entry of an evidence log has at most one."""
    spoil = with_a_field("run_key", "a" * (2 << 20))
    federation = Federation(ward, when(lambda body: isinstance(body, Open), spoil))
    run = federation.run()
    post = Post(federation.grid, lanes=LANES)
    session = run._opener(post).open(frozenset(NAMES), deadline_s=30.0)
    assert session.directory.names == (HARBOUR, LAKESIDE)
    (missed,) = federation.entries("hospital-missed")
    assert missed["hospital"] == NORTHSIDE
    assert missed["reason"].startswith("run key: unknown aaa")


def test_a_coordinators_words_reach_the_terminal_of_a_hospitals_people_as_one_line(ward):
    """What `hospital status` shows of a refusal is part of what came."""
    talk = ward.talk().join().agree()
    spec = {**talk.spec().to_json(), "\x1b[2J\x07" + "a" * 3000: 1}
    answer, _ = ward[HARBOUR].ask(talk.work(spec), talk.model)
    assert answer == Refusal(code=RefusalCode.SPEC)
    shown = json.loads((ward[HARBOUR].home.directory / "status.json").read_bytes())["why"]
    assert shown.startswith("round spec: unknown ?[2J?aaa")
    assert len(shown) == 2000


@pytest.mark.slow
def test_long_and_unprintable_words_in_a_header_leave_a_bundle_that_verifies(ward):
    spoil = with_a_field("header", "\x1b[2J\n" + "a" * 3000)
    federation = Federation(ward, when(in_round(0), spoil), rounds__count=1)
    parts = federation.close(*federation.run().train_and_evaluate())
    (rejected,) = federation.entries("update-rejected")
    assert rejected["hospital"] == NORTHSIDE
    assert rejected["reason"].startswith("update header: unknown ?[2J?aaa")
    assert codes(sealed(ward, parts)) == {}


def test_a_hundred_thousand_unknown_fields_are_counted_and_not_put_into_words():
    """Each took 75 microseconds, and a body has room for eight million."""
    body = {"hospital": NORTHSIDE} | {f"k{number}": 1 for number in range(100_000)}
    started_s = time.process_time()
    with pytest.raises(BadInput, match=r"^message keyed: 100000 faults$"):
        checked(Keyed, body, what="message keyed")
    assert time.process_time() - started_s < 4
    with pytest.raises(BadInput, match="unknown key `k0`; the nearest known one is `hospital`"):
        checked(Keyed, {"hospital": NORTHSIDE, "k0": 1}, what="message keyed")
