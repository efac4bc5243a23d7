"""The quality of a hospital's own data: looked at here, held against what was released of all.

Only the verdict, its reasons and rounded counts may leave, and only when the policy says so.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from wardround.canonical import Json
from wardround.errors import BadInput, ProtocolViolation
from wardround.protocol.messages import RefusalCode
from wardround.quality.assess import Assessment, assess
from wardround.quality.compare import Difference, Reference, differences
from wardround.quality.disclosure import FEW, told
from wardround.quality.numbers import ColumnNumbers, OwnNumbers, may_lack, outcomes_of
from wardround.quality.plan import QualityPlan
from wardround.quality.verdict import Verdict
from wardround.statistics.layout import Sums
from wardround.statistics.tally import tally
from wardround.study.contract import Column, ColumnKind, Contract, Label, LabelKind
from wardround.study.manifest import Study
from wardround_client.approval import ApprovedStudy
from wardround_client.data.images import Images
from wardround_client.data.molecules import without_structure
from wardround_client.data.reading import Records
from wardround_client.data.window import share_beyond
from wardround_client.home import HospitalHome
from wardround_client.kept_statistics import reference_for
from wardround_client.policy import Policy
from wardround_client.records import StudyRecords
from wardround_client.refusal import StudyRefused
from wardround_client.session import RunSession
from wardround_client.statistics import (
    mean_over_time,
    means_of_patients,
    outcomes_of_patients,
    patient_rows,
)
from wardround_client.words_out import charge

log = logging.getLogger("wardround.hospital")

ENTRY = "data-described"
# Enough of all pixels for a median, and little time.
_MOST_PIXELS = 1_000_000

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look at the data gave: own numbers, the differences, and the verdict on them."""

    own: OwnNumbers
    differences: tuple[Difference, ...]
    assessment: Assessment
    compared_with: str | None


def looks(policy: Policy, study: Study) -> bool:
    """Whether a session has to keep its records for a look at their quality."""
    return policy.datasheet != "nothing" or (study.quality is not None and study.quality.refuse)


def refuse_not_ready(home: HospitalHome, approved: ApprovedStudy, records: StudyRecords) -> None:
    """Where the study asks for it: raise StudyRefused for data that are not ready.

    What is wrong stays here; the coordinator gets the code.
    """
    study = approved.study
    if study.quality is None or not study.quality.refuse:
        return
    reference = reference_for(home, study, approved.description.dataset)
    assessment = look(study, records, reference).assessment
    if assessment.verdict is Verdict.NOT_READY:
        found = "; ".join(map(str, assessment.findings))
        raise StudyRefused(RefusalCode.DATA, f"data not ready: {found}")


def look(study: Study, records: StudyRecords, reference: Reference | None) -> Looked:
    """Assess the records of a session that kept their source."""
    if records.source is None:
        raise ValueError("quality: the records were loaded without their source")
    pixels = [side.features.numpy() for side in (records.train, records.held_out)]
    clipped = _clipped(records.source, study.contract)
    own = own_numbers(records.source, study.contract, pixels, clipped=clipped)
    apart: tuple[Difference, ...] = ()
    if reference is not None:
        apart = differences(own_sums(study, records.source, reference), reference)
    plan = study.quality or QualityPlan()
    return Looked(
        own=own,
        differences=apart,
        assessment=assess(own, study.contract, plan, apart),
        compared_with=None if reference is None else reference.released.digest,
    )


def own_sums(study: Study, source: Records, reference: Reference) -> Sums:
    """The hospital's own exact sums as its data are now, in the layout of what was released."""
    layout = reference.released.layout
    by_record = study.privacy.unit == "record"
    return tally(patient_rows(source, layout, by_record=by_record), layout).values


def _clipped(source: Records, contract: Contract) -> float | None:
    image = contract.image
    if image is None:
        return None
    with Images(source.folder, source.images, image) as images:
        return share_beyond(images, source.values[image.name])


def own_numbers(
    source: Records, contract: Contract, pixels: list[Floats32], *, clipped: float | None = None
) -> OwnNumbers:
    """Count patients, their outcomes and what they lack.

    `pixels` are encoded, on [-1, 1]; of those in the files the share `clipped` was cut off.
    """
    keys, places = np.unique(np.array(source.patients, dtype=str), return_inverse=True)
    patients = len(keys)
    columns = (
        replace(_image(column, pixels), clipped=clipped)
        if column.kind is ColumnKind.IMAGE
        else _column(column, source, places, patients)
        for column in contract.columns
    )
    return OwnNumbers(
        patients=patients,
        records=len(source.patients),
        outcomes=_outcomes(np.asarray(source.labels, np.float64), contract.label, places, patients),
        columns=tuple(columns),
        followed=_followed(source, contract.label, places, patients),
    )


def described(looked: Looked, study: Study, *, run: str, with_counts: bool) -> Json:
    """The body of `data-described`: words, and rounded counts where the policy lets them leave."""
    own, contract = looked.own, study.contract
    lacking = {column.name: column.missing for column in own.columns}
    numbers = {
        "patients": told(own.patients),
        "records": told(own.records),
        "outcomes": [told(count) for count in own.outcomes],
        "missing": [told(lacking[column.name]) for column in may_lack(contract)],
    }
    return {
        "run": run,
        "verdict": looked.assessment.verdict.value,
        "reasons": [reason.value for reason in looked.assessment.reasons],
        "compared_with": looked.compared_with,
        "noise": "none",
        "numbers": numbers if with_counts else None,
    }


def data_entry(
    home: HospitalHome, session: RunSession, opened: Reference | None
) -> tuple[str, Json] | None:
    """The entry for the evidence log, its release charged; None where the policy tells nothing.

    `opened` is what this run released; without it the data are held against what an earlier run
    did. Once in a run: words after each change of the data would tell what the change was.
    """
    policy = home.policy()
    if policy.datasheet == "nothing" or session.records.source is None or _told_before(session):
        return None
    looked = _looked(home, session, opened)
    counts = policy.datasheet == "counts"
    body = described(looked, session.study, run=session.run, with_counts=counts)
    charge(session.ledger, session.approved, session.records, body, "datasheet")
    return ENTRY, body


def _looked(home: HospitalHome, session: RunSession, opened: Reference | None) -> Looked:
    """A kept file that is damaged costs no run its end: the report says "not compared" then."""
    study, dataset = session.study, session.approved.description.dataset
    try:
        reference = opened or reference_for(home, study, dataset)
        return look(study, session.records, reference)
    except (BadInput, ProtocolViolation) as error:
        log.warning("quality: not compared with others: %s", error)
        return look(study, session.records, None)


def _told_before(session: RunSession) -> bool:
    return any(
        each.type == ENTRY and each.body["run"] == session.run
        for each in session.evidence.log.entries()
    )


def _column(column: Column, source: Records, places: Places, patients: int) -> ColumnNumbers:
    measured = None
    if column.kind is ColumnKind.SERIES:
        values = mean_over_time(source.series[column.name])
        if patients >= FEW:
            measured = 1.0 - float(np.isnan(source.series[column.name]).mean())
    elif column.kind is ColumnKind.CONTINUOUS:
        values = source.values[column.name].to_numpy(dtype=np.float64)
    else:
        here = source.values[column.name].notna().to_numpy()
        missing = patients - int(np.unique(places[here]).size)
        unread = _unread(column, source) if patients >= FEW else None
        return ColumnNumbers(name=column.name, missing=missing, unread=unread)
    means = means_of_patients(values, places, patients)
    known = means[~np.isnan(means)]
    found = _numbers(column, known, missing=patients - known.size, enough=known.size >= FEW)
    return replace(found, measured=measured)


def _unread(column: Column, source: Records) -> float | None:
    if column.kind is not ColumnKind.FINGERPRINT:
        return None
    molecules = source.values[column.name]
    return without_structure(molecules) / len(molecules)


def _followed(source: Records, label: Label, places: Places, patients: int) -> int | None:
    """Patients who were followed up to the horizon; None where the label has none."""
    if label.time is None:
        return None
    outcomes = outcomes_of_patients(source.labels, label, places, patients)
    return int(np.count_nonzero(outcomes == 2 * len(label.time.edges)))


def _image(column: Column, pixels: list[Floats32]) -> ColumnNumbers:
    low, high = column.range or (0.0, 1.0)
    every = max(1, sum(part.size for part in pixels) // _MOST_PIXELS)
    seen = np.concatenate([part.reshape(-1)[::every] for part in pixels]).astype(np.float64)
    enough = sum(len(part) for part in pixels) >= FEW
    return _numbers(column, low + (seen + 1.0) * (high - low) / 2.0, missing=0, enough=enough)


def _numbers(column: Column, values: Floats, *, missing: int, enough: bool) -> ColumnNumbers:
    if not enough or column.range is None:
        return ColumnNumbers(name=column.name, missing=missing)
    low, median, high = np.quantile(values, [0.05, 0.5, 0.95]).tolist()
    used = (high - low) / (column.range[1] - column.range[0])
    return ColumnNumbers(name=column.name, missing=missing, median=median, used=used)


def _outcomes(labels: Floats, label: Label, places: Places, patients: int) -> tuple[int, ...]:
    """Patients of each outcome, in the order of `wardround.quality.numbers.outcomes_of`."""

    def having(rows: npt.NDArray[np.bool_]) -> int:
        return int(np.unique(places[rows]).size)

    if label.kind is LabelKind.CLASSES:
        return tuple(having(labels == place) for place in range(len(label.classes)))
    if label.numbers:
        return tuple(having(~np.isnan(column)) for column in labels.T)
    if label.targets:
        return tuple(having(column == value) for column in labels.T for value in (1.0, 0.0))
    if labels.ndim > 1 and label.time is None:
        return (0,) * len(outcomes_of(label))  # this hospital gives no label
    yes = having((labels if label.time is None else labels[:, 1]) == 1.0)
    return yes, patients - yes
