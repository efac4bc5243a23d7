"""A hospital says no: with a code that leaves it, and a text that stays."""

from collections.abc import Iterator
from contextlib import contextmanager

from wardround.errors import BadInput, ProtocolViolation, Refused, VerificationFailed
from wardround.protocol.messages import Refusal, RefusalCode


class StudyRefused(Refused):
    """Raised wherever a check fails; only `code` and `epsilon_that_fits` travel."""

    def __init__(
        self, code: RefusalCode, message: str, *, epsilon_that_fits: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.epsilon_that_fits = epsilon_that_fits

    def to_message(self) -> Refusal:
        """What the coordinator is told."""
        return Refusal(code=self.code, epsilon_that_fits=self.epsilon_that_fits)


@contextmanager
def refusing(code: RefusalCode) -> Iterator[None]:
    """Turn what is malformed or breaks the protocol into a refusal with this code."""
    try:
        yield
    except (BadInput, ProtocolViolation, VerificationFailed) as error:
        raise StudyRefused(code, str(error)) from error
