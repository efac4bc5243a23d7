"""Ctrl-C that is not lost: an interrupt counts even when a library swallows the exception."""

import signal
from types import FrameType


class Interruption:
    """SIGINT and SIGTERM as KeyboardInterrupt, remembered for whoever asks with `check`.

    A KeyboardInterrupt that arrives inside an import or a destructor can vanish there.
    """

    def __init__(self) -> None:
        self._asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def check(self) -> None:
        """Raise KeyboardInterrupt when somebody has asked to stop."""
        if self._asked:
            raise KeyboardInterrupt

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._asked = True
        raise KeyboardInterrupt
