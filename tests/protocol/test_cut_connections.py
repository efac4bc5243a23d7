"""Vectors of 25 MB over connections that are cut at random places: whole, and once."""

import hashlib
import os
import socket
import threading
import time

import numpy as np
import pytest
from flwr.app import Message
from tests.support.fleets import (  # fmt: skip
    QUICK,
    collect,
    echo,
    enrol,
    messages,
    new_coordinator,
    running_fleet,
)
from tests.support.tcp_cutter import TcpCutter

from wardround.errors import BadInput, DeadlineMissed, ProtocolViolation
from wardround.vectors import SpooledVector, digest_of
from wardround.wire import WireLimits, pack, unpack
from wardround_client.fleet import FleetConnection
from wardround_client.outbox import Outbox
from wardround_client.tls import HttpsClient
from wardround_server.refusals import (
    BadDigest,
    RequestTooLarge,
    SpoolFull,
    UploadElsewhere,
    WrongOffset,
)
from wardround_server.spool import Spool

ENTRIES = 25_000_000 // 4
MODEL = np.random.default_rng(1).standard_normal(ENTRIES, dtype=np.float32)
DIGEST = digest_of(MODEL)
PACKED = np.random.default_rng(2).integers(0, 256, 25_000_000, dtype=np.uint8)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with running_fleet(new_coordinator(tmp_path_factory.mktemp("coordinator"))) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def member(running, tmp_path_factory):
    return enrol(running, "north", tmp_path_factory.mktemp("north"))


def through(cutter, member):
    return FleetConnection(f"127.0.0.1:{cutter.port}", member.tls, patience=QUICK)


def noted_puts(hospital):
    """The sizes of what it uploads from now on."""
    sent, true_put = [], hospital._https.put

    def put(path, content, **options):
        sent.append(len(content))
        return true_put(path, content, **options)

    hospital._https.put = put
    return sent


def exchange(running, member, cutter):
    """One letter with the model and its answer with another vector; how often it was read."""
    with through(cutter, member) as hospital, running.open_grid() as grid:
        hospital.connect()
        grid.wait_for(["north"], 10)
        waiting = grid.push_messages(messages(grid, ["north"], pack("work", {}, MODEL)))
        question = hospital.receive(60)
        assert digest_of(unpack(question.content).vector) == digest_of(MODEL)
        hospital.reply(Message(pack("update", {}, PACKED), reply_to=question), timeout_s=60)
        assert hospital.receive(0) is None
        (answer,) = collect(grid, waiting).values()
        assert list(grid.pull_messages(waiting)) == []
        arrived = unpack(answer.content).vector
        assert isinstance(arrived, SpooledVector)
        assert (arrived.dtype, arrived.shape) == (np.uint8, PACKED.shape)
        digest = hashlib.sha256()
        for block in arrived.blocks():
            digest.update(block)
        assert digest.hexdigest() == arrived.digest == digest_of(PACKED)
    assert running.stored_objects() == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_vector_arrives_whole_and_once_however_often_its_connection_is_cut(running, member, seed):
    chance = np.random.default_rng(seed)
    # Handshakes, letters, downloads and uploads all lie within the first 60 MB.
    cuts = [int(size) for size in chance.integers(1_000, 12_000_000, size=9)]
    cutter = TcpCutter(running.port, cuts)
    try:
        exchange(running, member, cutter)
        assert cutter.cut >= 5
    finally:
        cutter.close()


def test_what_has_arrived_is_not_sent_again(running, member):
    cutter = TcpCutter(running.port, [20_000_000, 20_000_000])
    try:
        hospital = through(cutter, member)
        sent = noted_puts(hospital)
        with hospital, running.open_grid() as grid:
            hospital.connect()
            grid.wait_for(["north"], 10)
            waiting = grid.push_messages(messages(grid, ["north"], pack("ask", {})))
            hospital.reply(Message(pack("update", {}, PACKED), reply_to=hospital.receive(10)))
            assert len(collect(grid, waiting)) == 1
    finally:
        cutter.close()
    assert sent[0] == len(PACKED)
    # What was under way in the kernel's buffers, some MB, is sent again.
    assert len(PACKED) - 20_000_000 <= sent[1] < 20_000_000


def test_a_connection_that_went_silent_does_not_spoil_the_upload_of_the_next_one(tmp_path):
    spool = Spool(tmp_path, nbytes=6, digest=hashlib.sha256(b"abcdef").hexdigest())
    old = spool.claim(0)
    spool.write(old, [b"ab"])
    assert spool.resume() == 2
    with pytest.raises(UploadElsewhere):
        spool.write(old, [b"xx"])
    with pytest.raises(WrongOffset):
        spool.claim(4)
    new = spool.claim(2)
    spool.write(new, [b"cd", b"ef"])
    assert spool.complete
    assert spool.take("uint8").read().tobytes() == b"abcdef"
    with pytest.raises(RequestTooLarge):
        spool.write(new, [b"g"])
    spool.close()
    with pytest.raises(UploadElsewhere):
        spool.write(new, [b"g"])


def test_other_bytes_than_were_announced_are_thrown_away(tmp_path):
    spool = Spool(tmp_path, nbytes=3, digest=hashlib.sha256(b"abc").hexdigest())
    with pytest.raises(BadDigest):
        spool.write(spool.claim(0), [b"abd"])
    assert not spool.complete
    spool.write(spool.claim(0), [b"abc"])
    assert spool.complete


def test_a_spooled_vector_has_no_name_and_is_nobody_elses(tmp_path):
    spool = Spool(tmp_path, nbytes=4, digest=hashlib.sha256(bytes(4)).hexdigest())
    assert list(tmp_path.iterdir()) == []
    assert os.fstat(spool._file.fileno()).st_mode & 0o777 == 0o600
    spool.write(spool.claim(0), [bytes(4)])
    vector = spool.take("float32")
    spool.close()
    assert vector.size == 1
    assert [bytes(block) for block in vector.blocks(3)] == [bytes(3), bytes(1)]
    vector.close()
    vector.close()
    with pytest.raises(OSError, match="descriptor"):
        vector.read()
    with pytest.raises(BadInput, match="no number of"):
        SpooledVector(os.dup(0), dtype="float32", nbytes=3, digest="")
    with pytest.raises(SpoolFull):
        Spool(tmp_path / "gone", nbytes=4, digest="")


@pytest.fixture
def small(tmp_path):
    limits = WireLimits(body_bytes=1000, vector_bytes=2_000_000)
    with running_fleet(new_coordinator(tmp_path / "c"), limits=limits) as fleet:
        yield fleet


def test_a_vector_over_the_limit_or_a_second_one_is_refused_before_it_is_taken(small, tmp_path):
    member = enrol(small, "a", tmp_path / "a")
    with FleetConnection(member.address, member.tls, patience=QUICK) as hospital:
        hospital.connect()
        with small.open_grid() as grid:
            grid.wait_for(["a"], 5)
            both = messages(grid, ["a", "a"], pack("ask", {}))
            waiting = grid.push_messages(both[:1])
            question = hospital.receive(5)
            large = Message(pack("x", {}, np.zeros(2_000_001, np.uint8)), reply_to=question)
            with pytest.raises(ProtocolViolation, match=r"413 .RequestTooLarge."):
                hospital.reply(large)
            # The quota is the hospital's: half an answer here, and no whole one for another letter.
            fits = np.zeros(2_000_000, np.uint8)
            small._fleet.upload_for("a", waiting[0], nbytes=fits.nbytes, digest="ab" * 32)
            other = grid.push_messages([grid.create_message(pack("ask", {"n": 2}), "train",
                                                            grid.node_of("a"), "1")])  # fmt: skip
            second = hospital.receive(5)
            with pytest.raises(ProtocolViolation, match=r"413 .RequestTooLarge."):
                hospital.reply(Message(pack("x", {}, fits), reply_to=second))
            grid.withdraw(waiting)
            hospital.reply(Message(pack("x", {}, fits), reply_to=second))
            assert set(collect(grid, other)) == {"a"}


def test_an_upload_for_a_withdrawn_letter_ends_at_once(running, member):
    """In the middle: the next bytes are refused, and the file is gone."""
    with FleetConnection(member.address, member.tls, patience=QUICK) as hospital:
        hospital.connect()
        with running.open_grid() as grid:
            grid.wait_for(["north"], 5)
            (letter,) = grid.push_messages(messages(grid, ["north"], pack("ask", {})))
            question = hospital.receive(5)
            spool = running._fleet.upload_for(
                "north", letter, nbytes=len(PACKED), digest=digest_of(PACKED)
            )
            spool.write(spool.claim(0), [PACKED[:1_000_000].tobytes()])
            grid.withdraw([letter])
            with pytest.raises(UploadElsewhere):
                spool.write(spool.claim(1_000_000), [b"more"])
            with pytest.raises(DeadlineMissed):
                hospital.reply(Message(pack("update", {}, PACKED), reply_to=question))


def test_the_same_answer_twice_counts_once_and_another_is_refused(running, member):
    with FleetConnection(member.address, member.tls, patience=QUICK) as hospital:
        hospital.connect()
        with running.open_grid() as grid:
            grid.wait_for(["north"], 5)
            waiting = grid.push_messages(messages(grid, ["north"], pack("ask", {})))
            question = hospital.receive(5)
            answer = Message(pack("update", {}, PACKED), reply_to=question)
            hospital.reply(answer)
            hospital.reply(answer)
            assert answer.content["vector"].vector is not None
            with pytest.raises(ProtocolViolation, match="MalformedRequest"):
                hospital.reply(Message(pack("update", {"n": 2}), reply_to=question))
            assert len(collect(grid, waiting)) == 1
            hospital.reply(answer)
            assert list(grid.pull_messages(waiting)) == []
            with pytest.raises(DeadlineMissed):
                hospital.reply(Message(pack("update", {"n": 2}), reply_to=question))


def test_nobody_else_can_fetch_the_model_of_a_letter_or_send_its_vector(running, member, tmp_path):
    thief = enrol(running, "thief", tmp_path / "thief")
    with FleetConnection(member.address, member.tls, patience=QUICK) as hospital:
        hospital.connect()
        with running.open_grid() as grid:
            grid.wait_for(["north"], 5)
            (letter,) = grid.push_messages(messages(grid, ["north"], pack("work", {}, MODEL)))
            https = HttpsClient(member.address, thief.tls.context(), read_timeout_s=10)
            path = f"/v1/vectors/{letter}"
            stolen = np.empty(MODEL.nbytes, np.uint8)
            put = {"content-range": "bytes 0-3/4", "wardround-vector": "ab" * 32}
            refused = [
                https.get_into(path, stolen.data, headers={"range": "bytes=0-"}, arrived=print),
                https.put(path, memoryview(b"evil"), limit_bytes=1000, headers=put),
            ]
            https.close()
            assert [(each.status, each.content) for each in refused] == [(403, b"NodeNotYours")] * 2
            assert digest_of(unpack(hospital.receive(10).content).vector) == digest_of(MODEL)


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("PUT", {"content-range": "bytes 0-3/4"}),
        ("PUT", {"content-range": "bytes 0-3/4", "wardround-vector": "xy" * 32}),
        ("PUT", {"content-range": "bytes 3-1/4", "wardround-vector": "ab" * 32}),
        ("PUT", {"content-range": "bytes 0-4/4", "wardround-vector": "ab" * 32}),
        ("PUT", {"content-range": "bytes 0-3/*", "wardround-vector": "ab" * 32}),
        ("PUT", {"content-range": "bytes */4", "wardround-vector": "ab" * 32}),
        ("POST", {"content-range": "bytes 0-3/4", "wardround-vector": "ab" * 32}),
        ("POST", {"content-range": "bytes */0", "wardround-vector": "ab" * 32}),
        ("POST", {"content-range": "bytes */" + "9" * 40, "wardround-vector": "ab" * 32}),
        ("GET", {"wardround-vector": DIGEST}),
        ("GET", {"range": "bytes=0-1", "wardround-vector": DIGEST}),
        ("GET", {"range": "bytes=-1", "wardround-vector": DIGEST}),
        ("GET", {"range": "bytes=25000000-", "wardround-vector": DIGEST}),
        ("GET", {"range": "bytes=0-"}),
        ("GET", {"range": "bytes=0-", "wardround-vector": "ab" * 32}),
    ],
)
def test_a_range_that_is_not_exactly_one_of_the_three_is_refused(running, member, method, headers):
    with FleetConnection(member.address, member.tls, patience=QUICK) as hospital:
        hospital.connect()
        with running.open_grid() as grid:
            grid.wait_for(["north"], 5)
            (letter,) = grid.push_messages(messages(grid, ["north"], pack("work", {}, MODEL)))
            connection = hospital._https._connection
            connection.request(method, f"/v1/vectors/{letter}", b"evil", headers)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (400, b"MalformedRequest")


def test_a_full_disk_costs_an_answer_its_second_chance_and_not_its_first(running, member, tmp_path):
    outbox = Outbox(tmp_path / "no-such-folder" / "outbox", 1 << 28)
    with FleetConnection(member.address, member.tls, patience=QUICK, outbox=outbox) as hospital:
        hospital.connect()
        with running.open_grid() as grid:
            grid.wait_for(["north"], 5)
            waiting = grid.push_messages(messages(grid, ["north"], pack("ask", {})))
            hospital.reply(echo(hospital.receive(5)), keep=True)
            assert set(collect(grid, waiting)) == {"north"}
            assert hospital.receive(0) is None


def test_a_model_that_changed_on_its_way_is_refused(running, member):
    model = MODEL.copy()
    with FleetConnection(member.address, member.tls, patience=QUICK) as hospital:
        hospital.connect()
        with running.open_grid() as grid:
            grid.wait_for(["north"], 5)
            content = pack("work", {}, model)
            grid.push_messages(messages(grid, ["north"], content))
            model[-1] += 1
            with pytest.raises(ProtocolViolation, match="not those that the message refers to"):
                hospital.receive(10)
            assert hospital.receive(0) is None


def test_a_letter_that_is_withdrawn_while_its_model_comes_is_forgotten(running, member):
    with FleetConnection(member.address, member.tls, patience=QUICK) as hospital:
        hospital.connect()
        with running.open_grid() as grid:
            grid.wait_for(["north"], 5)
            waiting = grid.push_messages(messages(grid, ["north"], pack("work", {}, MODEL)))
            true_get = hospital._https.get_into

            def get_into(path, into, *, headers, arrived):
                def first_part(part):
                    grid.withdraw(waiting)
                    arrived(part)

                return true_get(path, into, headers=headers, arrived=first_part)

            hospital._https.get_into = get_into
            assert hospital.receive(1.0) is None
            hospital._https.get_into = true_get
            again = grid.push_messages(messages(grid, ["north"], pack("ask", {})))
            hospital.reply(echo(hospital.receive(5)))
            assert set(collect(grid, again)) == {"north"}


def test_a_coordinator_stays_quick_while_a_hospital_sends_slowly(running, member, tmp_path):
    """A connection that stops in the middle of an upload holds nobody up."""
    other = enrol(running, "south", tmp_path / "south")
    with FleetConnection(other.address, other.tls, patience=QUICK) as quick:
        quick.connect()
        with running.open_grid() as grid:
            grid.wait_for(["south"], 5)
            raw = socket.create_connection(("127.0.0.1", running.port))
            slow = member.tls.context().wrap_socket(raw, server_hostname="127.0.0.1")
            slow.sendall(
                b"PUT /v1/letters/answer HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n1"
            )
            asked = time.monotonic()
            waiting = grid.push_messages(messages(grid, ["south"], pack("ask", {})))
            thread = threading.Thread(
                target=lambda: quick.reply(Message(pack("x", {}), reply_to=quick.receive(5)))
            )
            thread.start()
            assert set(collect(grid, waiting)) == {"south"}
            assert time.monotonic() - asked < 3
            thread.join()
            slow.close()
