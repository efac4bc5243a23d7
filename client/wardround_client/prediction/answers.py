"""What the hospital is told of a patient: numbers with their doubt, or a reason to give none."""

from dataclasses import asdict, dataclass, field
from enum import StrEnum

from wardround.canonical import Json
from wardround_client.prediction.choices import Choice

DIGITS = 6


class Reason(StrEnum):
    """Why there is no number."""

    OUTSIDE = "outside the contract"
    UNLIKE = "out of distribution"
    NOT_EVALUATED = "not evaluated here"
    ONE_CLASS = "one class only here"
    TOO_FEW = "too few patients here"
    FEW = "too few held-out patients for a personalised model"
    NOT_RANDOMISED = "treatments were not given by chance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A proportion with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """What the pre-registered threshold does: on this hospital's held-out patients, and on all.

    A score of `threshold` or more counts as yes. None is not available.
    """

    channel: str
    threshold: float
    held_out: int
    sensitivity: Rate | None
    specificity: Rate | None
    pooled_sensitivity: Rate | None = None
    pooled_specificity: Rate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """Yes or no: the model's score, and the risk that the hospital's own patients give it.

    `low` and `high` are the two probabilities of a Venn-Abers predictor, `risk` lies between.
    `calibrated_on` is the number of held-out patients behind it.
    """

    channel: str
    score: float
    risk: float
    low: float
    high: float
    calibrated_on: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number in `unit`; the truth lies in [low, high] for 1 - error of patients like these."""

    channel: str
    unit: str
    value: float
    low: float
    high: float
    error: float
    calibrated_on: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """Of 1 - error of patients like these the event has not come before `low`, in `unit`.

    `until` is the longest that can be said here: the horizon, or as long as enough patients were
    followed up. `events` are those of the held-out patients that calibrate.
    """

    channel: str
    unit: str
    low: float
    until: float
    error: float
    calibrated_on: int
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Strangeness:
    """An anomaly score, and the share `p` of patients like the held-out ones at least as strange.

    `p` cannot be less than one over their number plus one.
    """

    channel: str
    score: float
    p: float
    calibrated_on: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """A channel without any number, and why."""

    channel: str
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSet:
    """The classes that cannot be ruled out: the true one is among them for 1 - error of patients.

    Empty: the patient is like those of no class.
    """

    classes: tuple[str, ...]
    error: float
    calibrated_on: int


Channel = Risk | Number | Time | Strangeness | Withheld


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One patient's answer. With `abstained` there is no channel and no set: no number at all.

    `choice` is there where the study names treatments or drugs to choose from.
    """

    patient: str = field(repr=False)
    abstained: Reason | None = None
    why: tuple[str, ...] = ()
    channels: tuple[Channel, ...] = field(default=(), repr=False)
    classes: ClassSet | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()
    choice: Choice | None = field(default=None, repr=False)

    def to_json(self) -> Json:
        """One object; every channel has its `kind`."""
        choice = {} if self.choice is None else {"choice": plain(self.choice.to_json())}
        return {
            "patient": self.patient,
            "abstained": None if self.abstained is None else self.abstained.value,
            "why": list(self.why),
            "channels": [
                {"kind": _KINDS[type(one)], **plain(asdict(one))} for one in self.channels
            ],
            "classes": None if self.classes is None else plain(asdict(self.classes)),
            "notes": list(self.notes),
            **choice,
        }

    def lines(self, points: dict[str, OperatingPoint]) -> list[str]:
        """The same for a person."""
        if self.abstained is not None:
            because = f": {'; '.join(self.why)}" if self.why else ""
            return [f"{self.patient}", f"  no answer, {self.abstained.value}{because}"]
        said = [_sentence(one, points.get(one.channel)) for one in self.channels]
        if self.classes is not None:
            kept = ", ".join(self.classes.classes) or "none"
            rate = round(100 * (1 - self.classes.error))
            said.append(f"cannot be ruled out ({rate} %): {kept}")
        chosen = () if self.choice is None else self.choice.lines()
        return [self.patient, *(f"  {line}" for line in (*said, *chosen, *self.notes))]


_KINDS = {
    Risk: "risk",
    Number: "number",
    Time: "time",
    Strangeness: "anomaly",
    Withheld: "withheld",
}


def plain(value: Json) -> Json:
    """The same with floats of six digits after the point, enums and tuples as JSON has them."""
    return {name: _plain(one) for name, one in value.items()}


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return plain(value)
    if isinstance(value, float):
        return round(value, DIGITS)
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _sentence(one: Channel, point: OperatingPoint | None) -> str:
    match one:
        case Withheld():
            return f"{one.channel}: no answer, {one.reason.value}"
        case Number():
            rate, unit = round(100 * (1 - one.error)), "" if one.unit == "1" else f" {one.unit}"
            return (
                f"{one.channel}: {one.value:.4g}{unit} ({one.low:.4g} to {one.high:.4g}, {rate} %)"
            )
        case Time():
            longest = ", the longest that can be said here" if one.low >= one.until else ""
            return (
                f"{one.channel}: not before {one.low:.4g} {one.unit} for "
                f"{round(100 * (1 - one.error))} % of patients like this one{longest}"
            )
        case Strangeness():
            return (
                f"{one.channel}: score {one.score:.3f}; of patients like the "
                f"{one.calibrated_on} held-out ones {100 * one.p:.1f} % are at least as strange"
            )
    side = ""
    if point is not None:
        where = "above" if one.score >= point.threshold else "below"
        side = f", {where} the threshold"
    return (
        f"{one.channel}: risk {one.risk:.3f} ({one.low:.3f} to {one.high:.3f})  "
        f"score {one.score:.3f}{side}"
    )
