"""A bulk export of FHIR R4 as a table: one row a patient, a column for each thing asked.

Files are read once each, line by line; kept are only those events that somebody asks for.
"""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from wardround.canonical import Json
from wardround.errors import BadInput
from wardround_client.data.fhir_events import (
    Coding,
    Event,
    Measured,
    When,
    codings,
    event_of,
    moment,
)
from wardround_client.data.fhir_lines import holds, resources
from wardround_client.data.fhir_source import (
    PATIENT,
    Chosen,
    Criterion,
    EventColumn,
    Faults,
    FhirSource,
    PatientColumn,
)
from wardround_client.data.fhir_values import value_of
from wardround_client.data.listing import file_names
from wardround_client.data.omop_source import Window
from wardround_client.data.table_source import Asked, Bound, text_table

MOST_EVENTS = 50_000_000
_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class _Index:
    """A patient's index: its time, and the last day of the visit that it may be."""

    when: When
    end: dt.date | None = None


# Of each thing that is asked, each patient's events that fit it.
_Found = dict[int, dict[str, list[tuple[Event, Measured]]]]


@dataclass(slots=True)
class _Export:
    """What was read: patients, the events that were asked for, and what was wrong, counted."""

    patients: dict[str, Json] = field(default_factory=dict)
    found: _Found = field(default_factory=dict)
    faults: Faults = field(default_factory=Counter)


def read_fhir(source: FhirSource, asked: Asked) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """One row a patient of the cohort: `patient` and the columns of `source`, as text.

    And in sentences what was left out as declared. Raises BadInput with every other fault, counted
    and without a value: lines that are no resource, patients or resources there twice, references
    that name nobody, units that are not due.
    """
    export = _Export()
    _read_patients(export, asked)
    chosen = source.chosen()
    for kind in dict.fromkeys(one.resource for one in chosen):
        own = {place: one for place, one in enumerate(chosen) if one.resource == kind}
        if kind == "death":
            _read_deaths(export, own)
        else:
            _read_events(export, kind, own, asked)
    indices = _indices(source, export, chosen)
    columns = {PATIENT: sorted(indices)}
    for column in source.columns:
        columns[column.name] = _column(column, indices, export, chosen)
    said = {(name, what): f"{n} {what} ({name})" for (name, what), n in export.faults.items()}
    if found := [text for (name, _), text in said.items() if name not in source.leave_out]:
        raise BadInput(f"{asked.path}: " + "; ".join(found))
    if not indices:
        raise BadInput(f"{asked.path}: no patient is what `[fhir.cohort]` wants")
    bound = Bound(asked.path)
    for values in columns.values():
        bound.cells(len(values), sum(map(len, values)))
    return text_table(columns), tuple(f"left out, as declared: {one}" for one in said.values())


def _read_patients(export: _Export, asked: Asked) -> None:
    bound = Bound(f"{asked.path}: Patient")
    for resource in resources(asked.folder, asked.path, "Patient", export.faults):
        bound.rows(1)
        own = resource.get("id")
        links = resource.get("link") or []
        if not isinstance(own, str) or not own:
            export.faults["repeated", "Patients have no id"] += 1
        elif own in export.patients:
            export.faults["repeated", "Patients have the id of another one"] += 1
        elif any(isinstance(link, dict) and link.get("type") == "replaced-by" for link in links):
            export.faults["replaced", "Patients are replaced by others: merge them first"] += 1
        else:
            said = ("birthDate", "gender", "deceasedDateTime", "deceasedBoolean")
            export.patients[own] = {key: resource[key] for key in said if key in resource}


def _read_deaths(export: _Export, own: Mapping[int, Chosen]) -> None:
    for patient, said in export.patients.items():
        when = moment(said.get("deceasedDateTime"))
        if when is None:
            if said.get("deceasedBoolean") is True or "deceasedDateTime" in said:
                export.faults[
                    "undated-death", "Patients are deceased, and the day is not told"
                ] += 1
            continue
        event = Event(patient, patient, when, None, ())
        for place in own:
            _by_patient(export, place)[patient].append((event, Measured(frozenset())))


def _read_events(export: _Export, kind: str, own: Mapping[int, Chosen], asked: Asked) -> None:
    """Keep the events of one type that one of `own` wants."""
    wanted = _by_code(own)
    every = [place for place, one in own.items() if not one.codes]
    seen: set[str] = set()
    bound = Bound(f"{asked.path}: {kind}", rows=MOST_EVENTS)
    medications = _medications(export, asked) if kind == "MedicationRequest" else {}
    for resource in resources(asked.folder, asked.path, kind, export.faults):
        event = event_of(resource, kind, medications, export.faults)
        if event is None:
            continue
        fitting = _fitting(event, wanted, every)
        if not fitting:
            continue
        bound.rows(len(fitting))
        if event.patient not in export.patients:
            export.faults[
                "not-in-export", f"resources {kind} are of patients not in the export"
            ] += 1
        elif not event.id or event.id in seen:
            export.faults["repeated", f"resources {kind} have no id, or that of another one"] += 1
        else:
            seen.add(event.id)
            for place, measured in fitting.items():
                _by_patient(export, place)[event.patient].append((event, measured))


def _medications(export: _Export, asked: Asked) -> dict[str, frozenset[Coding]]:
    """The codes of the export's medications by id, where it has any."""
    if not any(holds(name, "Medication") for name in file_names(asked.folder, asked.path)):
        return {}
    found = resources(asked.folder, asked.path, "Medication", export.faults)
    return {str(one.get("id", "")): codings(one.get("code")) for one in found}


def _by_code(own: Mapping[int, Chosen]) -> dict[Coding, list[int]]:
    wanted: dict[Coding, list[int]] = defaultdict(list)
    for place, one in own.items():
        for code in one.codes:
            system, _, value = code.rpartition("|")
            wanted[system, value].append(place)
    return wanted


def _fitting(
    event: Event, wanted: Mapping[Coding, list[int]], every: Sequence[int]
) -> dict[int, Measured]:
    """Who wants the event, and for which of its values: the first that has one of the codes."""
    found = dict.fromkeys(every, event.measured[0])
    for measured in event.measured:
        for coding in measured.codes:
            for place in wanted.get(coding, ()):
                found.setdefault(place, measured)
    return found


def _by_patient(export: _Export, place: int) -> dict[str, list[tuple[Event, Measured]]]:
    return export.found.setdefault(place, defaultdict(list))


def _indices(source: FhirSource, export: _Export, chosen: Sequence[Chosen]) -> dict[str, _Index]:
    """Each patient's index, of those who are in the cohort."""
    cohort = source.cohort
    found: dict[str, _Index] = {}
    if cohort.on is not None:
        found = {patient: _Index(When(cohort.on)) for patient in export.patients}
    elif cohort.index is not None:
        latest = cohort.which == "last"
        for patient, events in export.found.get(0, {}).items():
            own = sorted((event for event, _ in events), key=_order)
            fitting = [e for e in own if _between(e.when.day, cohort.after, cohort.before)]
            if fitting:
                event = fitting[-1 if latest else 0]
                found[patient] = _Index(event.when, event.end)
    first = 0 if cohort.index is None else 1
    for place, criterion in enumerate(chosen[first:], start=first):
        if not isinstance(criterion, Criterion):
            break
        met = {
            patient
            for patient, index in found.items()
            if len(_within(export, place, patient, criterion, index)) >= criterion.at_least
        }
        required = place - first < len(cohort.require)
        found = {p: index for p, index in found.items() if (p in met) == required}
    return dict(sorted(found.items()))


def _column(
    column: PatientColumn | EventColumn,
    indices: Mapping[str, _Index],
    export: _Export,
    chosen: Sequence[Chosen],
) -> list[str]:
    if isinstance(column, PatientColumn):
        return [
            _of_patient(column, export.patients[patient], index.when.day)
            for patient, index in indices.items()
        ]
    place = next(at for at, one in enumerate(chosen) if one is column)
    return [
        value_of(column, _within(export, place, patient, column, index), export.faults)
        for patient, index in indices.items()
    ]


def _within(
    export: _Export, place: int, patient: str, window: Window, index: _Index
) -> list[Measured]:
    """What fits in the window about a patient's index, in the order of time."""
    events = export.found.get(place, {}).get(patient, [])
    own = [pair for pair in events if _is_within(pair[0].when, window, index)]
    return [measured for _, measured in sorted(own, key=lambda pair: _order(pair[0]))]


def _is_within(when: When, window: Window, index: _Index) -> bool:
    if window.days is not None:
        low, high = window.days
        return low <= (when.day - index.when.day).days <= high
    if window.hours is not None:
        if when.instant is None or index.when.instant is None:
            return False
        start, end = window.hours
        return start <= (when.instant - index.when.instant).total_seconds() / _SECONDS < end
    return index.when.day <= when.day and (index.end is None or when.day <= index.end)


def _of_patient(column: PatientColumn, said: Json, day: dt.date) -> str:
    if column.value == "gender":
        return str(said.get("gender", ""))
    born = str(said.get("birthDate", ""))
    if not born[:4].isascii() or not born[:4].isdigit():
        return ""
    if column.value == "year_of_birth":
        return born[:4]
    birth = moment(born)
    years = day.year - int(born[:4])
    if birth is None:
        return str(years)
    return str(years - ((day.month, day.day) < (birth.day.month, birth.day.day)))


def _order(event: Event) -> tuple[dt.date, dt.datetime, str]:
    return *event.when.order(), event.id


def _between(day: dt.date, after: dt.date | None, before: dt.date | None) -> bool:
    return (after is None or after <= day) and (before is None or day <= before)
