"""A hospital says no: with a code that leaves it, and a text that stays."""

from collections.abc import Iterator
from contextlib import contextmanager

from wardround.errors import BadInput, ProtocolViolation, Refused, VerificationFailed
from wardround.masking.survivors import SecondSurvivorSet, SurvivorsRefused
from wardround.protocol.messages import Refusal, RefusalCode


class StudyRefused(Refused):
    """Raised wherever a check fails; only `code`, `epsilon_that_fits` and `hospital` travel.

    `hospital` is whose message was wrong, where it came from another hospital.
    """

    def __init__(
        self,
        code: RefusalCode,
        message: str,
        *,
        epsilon_that_fits: float | None = None,
        hospital: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.epsilon_that_fits = epsilon_that_fits
        self.hospital = hospital

    def to_message(self) -> Refusal:
        """What the coordinator is told."""
        return Refusal(
            code=self.code, epsilon_that_fits=self.epsilon_that_fits, hospital=self.hospital
        )


@contextmanager
def refusing(code: RefusalCode) -> Iterator[None]:
    """Turn what is malformed or breaks the protocol into a refusal with this code.

    A second set of survivors has a code of its own.
    """
    try:
        yield
    except SecondSurvivorSet as error:
        raise StudyRefused(RefusalCode.SECOND_SURVIVORS, str(error)) from error
    except SurvivorsRefused as error:
        raise StudyRefused(code, str(error), hospital=error.hospital) from error
    except (BadInput, ProtocolViolation, VerificationFailed) as error:
        raise StudyRefused(code, str(error)) from error
