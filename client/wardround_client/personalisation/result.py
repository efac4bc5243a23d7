"""What joining gave one hospital: the numbers, and the sentence that they allow."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from wardround.canonical import Json
from wardround_client.personalisation.choosing import Choice
from wardround_client.personalisation.paired import Gain, Row, Told, Way

SCHEMA = "wardround.personalisation/1"
WARNING = (
    "The personalised model was trained WITHOUT noise on this hospital's patients. No epsilon "
    "covers it, nor these numbers: like the data they must not leave the hospital."
)
NO_MODEL = (
    "No model is kept: the one trained alone was for these numbers only. No epsilon covers them: "
    "like the data they must not leave the hospital."
)
STAYS = "Nothing has left, and nothing is charged: a model that stays is no release."
DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Patients:
    """How many were trained on, how many were held out and, where kinds are, with the outcome."""

    trained_on: int
    held_out: int
    positives: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Everything but the model itself; `choice` is None where there were too few to choose from.

    `released` is the digest of the model that the run ended with, `personalised` that of the one
    that was made here, None where none was.
    """

    hospital: str
    study: str
    study_digest: str
    title: str
    run: str
    released: str
    personalised: str | None
    epsilon: float | None
    scope: str
    patients: Patients
    choice: Choice | None
    rows: tuple[Row, ...]

    @property
    def ways(self) -> tuple[Way, ...]:
        """The models that were scored."""
        return tuple(self.rows[0].values)

    @property
    def warning(self) -> str:
        """What must not leave."""
        return NO_MODEL if self.personalised is None else WARNING

    def verdict(self) -> str:
        """What joining gave, in one sentence that the numbers allow."""
        first = self.rows[0]
        if not first.gains:
            return f"What joining gave cannot be told: {self._few()}, and nothing to compare."
        gain = first.gains[0]
        said = _said(first, gain)
        if gain.difference.value is None:
            return f"What joining gave cannot be told from {self._few()}: {first.name} is NA."
        if gain.difference.low is None or gain.difference.high is None:
            return f"What joining gave cannot be told from {self._few()}: {said}."
        better, worse = (
            (gain.difference.low > 0, gain.difference.high < 0)
            if first.aim.value.startswith("higher")
            else (gain.difference.high < 0, gain.difference.low > 0)
        )
        if better:
            return f"Joining gave: {said}."
        if worse:
            return f"Joining took: {said}. A model of your own patients alone does better here."
        return f"What joining gave cannot be told from {self._few()}: {said}."

    def fine_tuning(self) -> str:
        """What was done to the released model, and why."""
        if self.choice is None:
            return (
                f"Not fine-tuned: {self.patients.trained_on} training patients are too few to "
                "choose how far (10 are due)."
            )
        tuning = self.choice.tuning
        if not tuning.steps:
            return (
                "Not fine-tuned: cross-validation within your training patients could not tell "
                "that it helps. The released model stays the one to use."
            )
        what = "the last layer" if tuning.scope.value == "head" else "the whole network"
        return (
            f"Fine-tuned: {tuning.steps} steps of {what}, pull {tuning.pull:g}, chosen by "
            f"{self.choice.folds}-fold cross-validation within {self.choice.patients} training "
            "patients; no held-out patient was looked at."
        )

    def lines(self) -> list[str]:
        """All of it for a person."""
        said = [f"{self.study}  model {self.released[:16]}, released by run {self.run[:16]}"]
        if self.personalised is not None:
            said.append(f"personalised model {self.personalised[:16]}, made at this hospital")
        said += [self.fine_tuning(), f"{self._few()}:"]
        for row in self.rows:
            said.append(" ".join(part for part in (row.name, row.of) if part))
            said += [f"  {way.value}: {number(row, told)}" for way, told in row.values.items()]
            said += [f"  {words_of(gain)}: {apart(row, gain)}" for gain in row.gains]
        return [*said, self.verdict(), self.warning, STAYS]

    def to_json(self) -> Json:
        """Plain JSON; numbers have six digits after the point."""
        said = {
            "schema": SCHEMA,
            "verdict": self.verdict(),
            "warning": self.warning,
            "stays": STAYS,
        }
        return {name: _plain(part) for name, part in (asdict(self) | said).items()}

    def _few(self) -> str:
        held_out, positives = self.patients.held_out, self.patients.positives
        said = f"{held_out} held-out patients"
        return said if positives is None else f"{said}, {positives} of them with the outcome"


def number(row: Row, told: Told) -> str:
    """A value with its interval, or NA."""
    return _with_interval(told, row.unit, sign="")


def apart(row: Row, gain: Gain) -> str:
    """A difference with its interval, or NA."""
    return _with_interval(gain.difference, row.unit, sign="+")


def words_of(gain: Gain) -> str:
    """Which models are held against each other."""
    return f"{gain.of.value} less {gain.over.value}"


def _said(row: Row, gain: Gain) -> str:
    return f"{row.name} {apart(row, gain)}, {gain.of.value} against {gain.over.value}"


def _with_interval(told: Told, unit: str, *, sign: str) -> str:
    if told.value is None:
        return "NA"
    said = f"{_rounded(told.value):{sign}.3f}" + (f" {unit}" if unit else "")
    if told.low is None or told.high is None:
        return f"{said} (no interval)"
    return f"{said} (95 % {_rounded(told.low):{sign}.3f} to {_rounded(told.high):{sign}.3f})"


def _rounded(value: float) -> float:
    return round(value, 3) + 0.0  # no minus zero


def _plain(value: object) -> object:
    if isinstance(value, float):
        return round(value, DIGITS) + 0.0 if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value
