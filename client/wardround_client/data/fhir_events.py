"""A resource as an event: whose, when, with which codes and values, and whether it happened at all.

Which states count is the standard's word: an order that was cancelled, an observation entered in
error, a diagnosis refuted did not happen. (HL7 FHIR R4, the value sets of `status`)
"""

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from wardround.canonical import Json
from wardround_client.data.fhir_source import Faults

UCUM = "http://unitsofmeasure.org"
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
# Observations of a ward's device or of a group are nobody's.
_NOT_OF_A_PATIENT = ("Group/", "Device/", "Location/")
_TIMES = {
    "Observation": ("effectiveDateTime", "effectiveInstant", "effectivePeriod"),
    "Condition": ("onsetDateTime", "onsetPeriod", "recordedDate"),
    "Procedure": ("performedDateTime", "performedPeriod"),
    "MedicationRequest": ("authoredOn",),
    "Encounter": ("period",),
}
_COUNTS = {
    "Observation": {"final", "amended", "corrected", "preliminary"},
    "Procedure": {"completed", "in-progress"},
    "MedicationRequest": {"active", "completed", "stopped", "on-hold"},
    "Encounter": {"arrived", "triaged", "in-progress", "onleave", "finished"},
}
_ORDERS = {"order", "original-order", "reflex-order", "filler-order", "instance-order"}
_NOT_SO = {"entered-in-error", "refuted", "differential"}

Coding = tuple[str, str]


@dataclass(frozen=True, slots=True)
class When:
    """The day as it was written there, and the instant, where the time of day is known."""

    day: dt.date
    instant: dt.datetime | None = None

    def order(self) -> tuple[dt.date, dt.datetime]:
        """What comes first: by the day, then by the time; without a time at the day's start."""
        midnight = dt.datetime.combine(self.day, dt.time(), tzinfo=dt.UTC)
        return self.day, self.instant or midnight


@dataclass(frozen=True, slots=True)
class Measured:
    """A value with the codes that say what it is of."""

    codes: frozenset[Coding]
    number: float | None = None
    unit: str = ""
    bound: bool = False
    answers: tuple[Coding, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """One resource of a patient; the first of `measured` is the resource itself."""

    id: str = field(repr=False)
    patient: str = field(repr=False)
    when: When = field(repr=False)
    end: dt.date | None = field(repr=False)
    measured: tuple[Measured, ...] = field(repr=False)


def event_of(
    resource: Json, kind: str, medications: Mapping[str, frozenset[Coding]], faults: Faults
) -> Event | None:
    """The event that a resource tells of; None when it did not happen, or is counted as a fault.

    One without a day (a year alone is none) cannot be placed, and is no event. `medications` are
    the codes of those that an order may refer to, by their ids.
    """
    if not _counts(resource, kind):
        return None
    patient = _subject(resource, kind, faults)
    when, end = _time(resource, kind)
    if patient is None or when is None:
        return None
    measured = tuple(_measured(resource, kind))
    if kind == "MedicationRequest":
        codes = _medication(resource, medications)
        if codes is None:
            faults["medication", "MedicationRequests refer to a medication that is not there"] += 1
            return None
        measured = (Measured(codes),)
    return Event(
        id=str(resource.get("id", "")),
        patient=patient,
        when=when,
        end=end,
        measured=measured,
    )


def moment(text: Any) -> When | None:
    """A FHIR date, dateTime or instant; None for one that is not known to the day, or is none.

    >>> moment("2020-02-30"), moment("2020-02")
    (None, None)
    >>> moment("2020-09-12T23:30:00-04:00").day.isoformat()
    '2020-09-12'
    """
    if not isinstance(text, str) or not _DAY.match(text):
        return None
    try:
        if len(text) == 10:
            return When(dt.date.fromisoformat(text))
        instant = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    if instant.tzinfo is None:
        return None
    try:
        return When(instant.date(), instant.astimezone(dt.UTC))
    except OverflowError:
        return None


def reference(value: Any, kind: str) -> str | None:
    """The id that a reference to a resource of a type has; None for any other form of it.

    >>> [reference({"reference": text}, "Patient") for text in ("Patient/7", "urn:uuid:7")]
    ['7', '7']
    >>> reference({"reference": "Patient?identifier=7"}, "Patient")
    """
    text = value.get("reference") if isinstance(value, dict) else None
    found = re.fullmatch(rf"(?:{kind}/|urn:uuid:)([A-Za-z0-9.-]{{1,64}})", str(text or ""))
    return found[1] if found else None


def codings(concept: Any) -> frozenset[Coding]:
    """All codes of a CodeableConcept that name their system."""
    return frozenset(_listed(concept))


def _counts(resource: Json, kind: str) -> bool:
    if kind == "Condition":
        status = _listed(resource.get("verificationStatus"))
        return not any(code in _NOT_SO for _, code in status)
    if kind == "MedicationRequest":
        wanted = (
            str(resource.get("intent")) in _ORDERS and resource.get("doNotPerform", False) is False
        )
        return wanted and str(resource.get("status")) in _COUNTS[kind]
    return str(resource.get("status")) in _COUNTS[kind]


def _subject(resource: Json, kind: str, faults: Faults) -> str | None:
    subject = resource.get("subject")
    patient = reference(subject, "Patient")
    if patient is None:
        text = str(subject.get("reference", "")) if isinstance(subject, dict) else ""
        if not text.startswith(_NOT_OF_A_PATIENT):
            faults["no-reference", f"resources {kind} name no patient as Patient/id"] += 1
    return patient


def _time(resource: Json, kind: str) -> tuple[When | None, dt.date | None]:
    for key in _TIMES[kind]:
        value = resource.get(key)
        if isinstance(value, dict):
            end = moment(value.get("end"))
            return moment(value.get("start")), end.day if end is not None else None
        if value is not None:
            return moment(value), None
    return None, None


def _medication(
    resource: Json, medications: Mapping[str, frozenset[Coding]]
) -> frozenset[Coding] | None:
    """The codes of what was ordered: its own, of a part of it, or of a resource Medication."""
    referred = resource.get("medicationReference")
    if referred is None:
        return codings(resource.get("medicationCodeableConcept"))
    for part in _list(resource.get("contained")):
        if isinstance(part, dict) and referred == {"reference": f"#{part.get('id')}"}:
            return codings(part.get("code"))
    return medications.get(reference(referred, "Medication") or "")


def _measured(resource: Json, kind: str) -> Iterator[Measured]:
    if kind == "Encounter":
        own = {coding for kind in _list(resource.get("type")) for coding in codings(kind)}
        yield Measured(frozenset(own) | codings({"coding": [resource.get("class")]}))
    else:
        yield _value(resource)
    for component in _list(resource.get("component")) if kind == "Observation" else ():
        if isinstance(component, dict):
            yield _value(component)


def _value(part: Json) -> Measured:
    """What an observation or one of its components says."""
    codes, quantity = codings(part.get("code")), part.get("valueQuantity")
    if isinstance(quantity, dict):
        number = quantity.get("value")
        ucum = quantity.get("system") == UCUM
        return Measured(
            codes,
            number=float(number) if _is_number(number) else None,
            unit=str(quantity.get("code", "")) if ucum else "",
            bound="comparator" in quantity,
        )
    whole = part.get("valueInteger")
    if _is_number(whole):
        return Measured(codes, number=float(whole), unit="1")
    return Measured(codes, answers=tuple(_listed(part.get("valueCodeableConcept"))))


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _listed(concept: Any) -> list[Coding]:
    every = _list(concept.get("coding")) if isinstance(concept, dict) else []
    return [
        (str(one["system"]), str(one["code"]))
        for one in every
        if isinstance(one, dict) and "system" in one and "code" in one
    ]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
