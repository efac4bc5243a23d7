"""Every error a user can meet, each with the exit code of the command line.

A message names the thing, what came and what was due. It never holds a record's value, a key or
a token, since messages reach logs and terminals.
"""


class WardroundError(Exception):
    """Anything that Wardround itself refuses or fails at.

    An instance that passes on how another process ended may have that one's exit code.
    """

    exit_code: int = 1


class Unreachable(WardroundError):
    """The other side does not answer, or does not let us in (exit code 2)."""

    exit_code = 2


class DeadlineMissed(WardroundError):
    """An answer did not come in time (exit code 3)."""

    exit_code = 3


class BadInput(WardroundError):
    """A file, option or message is not what it has to be (exit code 4)."""

    exit_code = 4


class Refused(WardroundError):
    """A hospital's policy, approval or budget says no (exit code 6)."""

    exit_code = 6


class RefusedByPolicy(Refused):
    """The hospital's policy or approval does not allow what was asked."""


class RefusedByBudget(Refused):
    """The privacy budget of the dataset is too small for what was asked."""

    def __init__(self, message: str, *, epsilon_that_fits: float) -> None:
        super().__init__(message)
        self.epsilon_that_fits = epsilon_that_fits


class ProtocolViolation(WardroundError):
    """A message of the other side breaks PROTOCOL.md: it is named and never acted on."""


class BadSignature(ProtocolViolation):
    """A signature does not belong to this key, purpose and message."""


class QuorumMissed(WardroundError):
    """Fewer hospitals answered than the study needs: the round is void."""


class VerificationFailed(WardroundError):
    """A bundle does not prove what it claims (exit code 7)."""

    exit_code = 7


def why(error: Exception) -> str:
    """What a file's error says to a person: never its path, nor what was read.

    >>> why(FileNotFoundError(2, "No such file or directory", "private/name.csv"))
    'no such file or directory'
    """
    if isinstance(error, UnicodeDecodeError):
        return f"not {error.encoding.upper()} text"
    words = error.strerror if isinstance(error, OSError) else None
    return words[0].lower() + words[1:] if words else type(error).__name__
