"""Who is here: connections, the grace, silence, and a bell that is never missed."""

import threading

from wardround_server.presence import Bell, Presence


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def presence(clock, rings):
    return Presence(ring=lambda: rings.append(clock.now), grace_s=2, silence_s=30, clock=clock)


def test_a_hospital_is_here_while_it_has_a_connection_and_for_the_grace_after_the_last():
    clock, rings = Clock(), []
    room = presence(clock, rings)
    room.opened("a")
    room.opened("a")
    room.closed("a")
    clock.now += 10
    assert room.here() == {"a"}
    room.closed("a")
    clock.now += 1.9
    assert room.here() == {"a"}
    clock.now += 0.2
    assert room.here() == frozenset()
    room.check()
    assert rings == [100.0, clock.now]


def test_a_hospital_that_is_back_within_the_grace_was_never_gone():
    clock, rings = Clock(), []
    room = presence(clock, rings)
    room.opened("a")
    room.closed("a")
    clock.now += 1
    room.opened("a")
    room.check()
    assert rings == [100.0]


def test_an_open_connection_that_says_nothing_is_given_up():
    clock = Clock()
    room = presence(clock, [])
    room.opened("a")
    clock.now += 29
    room.seen("a")
    clock.now += 29
    assert room.here() == {"a"}
    clock.now += 2
    assert room.here() == frozenset()


def test_the_end_of_a_connection_that_was_never_counted_changes_nothing():
    clock, rings = Clock(), []
    room = presence(clock, rings)
    room.closed("a")
    room.check()
    assert room.here() == frozenset()
    assert rings == []


def test_a_ring_before_the_wait_ends_the_wait_at_once():
    bell = Bell()
    heard = bell.rings
    bell.ring()
    assert bell.wait_beyond(heard, timeout_s=60) == heard + 1


def test_a_ring_from_another_thread_ends_the_wait_and_time_does_too():
    bell = Bell()
    threading.Timer(0.05, bell.ring).start()
    assert bell.wait_beyond(0, timeout_s=60) == 1
    assert bell.wait_beyond(1, timeout_s=0.01) == 1
