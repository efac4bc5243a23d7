"""What a daemon tells its people of a coordinator that is out of reach."""

import logging
from pathlib import Path

from wardround.errors import Unreachable
from wardround_client.daemon import Daemon
from wardround_client.home import HospitalHome


class AwayAndBack:
    """A connection whose coordinator is away for three questions, here for two, and away again."""

    def __init__(self):
        self.answers = iter([False] * 3 + [True] * 2 + [False])

    def receive(self, _timeout_s):
        if not next(self.answers):
            raise Unreachable("coordinator at localhost:1 is not reachable")


def test_people_hear_once_that_the_coordinator_is_away_and_once_that_it_is_back(caplog):
    caplog.set_level(logging.INFO, logger="wardround.hospital")
    daemon, fleet, lost = Daemon(HospitalHome(Path("nowhere"))), AwayAndBack(), False
    for _ in range(6):
        lost = daemon._next(fleet, lost=lost)
    assert [message.rpartition("; ")[2] for message in caplog.messages] == [
        "trying again",
        "the coordinator answers again",
        "trying again",
    ]
