"""Readers of what a hospital's systems export: lines of FHIR, DICOM files."""

import io
import json
from typing import Any

import numpy as np
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless
from tests.fuzz.target import Target
from tests.support.dicom_files import content, ct_slice
from tests.support.enhanced_dicom import enhanced

from wardround.errors import BadInput
from wardround_client.data.deidentify import deidentified, parsed_image, pixel_bytes
from wardround_client.data.deidentify_keys import Pseudonyms
from wardround_client.data.fhir_events import event_of
from wardround_client.data.fhir_lines import resource_of
from wardround_client.data.fhir_source import EventColumn, Faults
from wardround_client.data.fhir_values import value_of

KINDS = ("Observation", "Condition", "Procedure", "MedicationRequest", "Encounter")
CODE = {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}
QUANTITY = {"value": 120.5, "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}
MEAN = EventColumn.model_validate(
    {
        "name": "systolic",
        "resource": "Observation",
        "codes": ["http://loinc.org|8480-6"],
        "days": [-365, 0],
        "take": "mean",
        "unit": "mm[Hg]",
    }
)
KEY = Pseudonyms(bytes(32))


def read_line(data: bytes) -> None:
    """One line as its type says; what would be counted as a fault is raised here."""
    faults = Faults()
    kind = next((kind for kind in KINDS if kind.encode() in data), KINDS[0])
    resource = resource_of(data, kind, faults)
    event = event_of(resource, kind, {}, faults) if resource is not None else None
    if event is not None:
        value_of(MEAN, event.measured, faults)
    if faults:
        raise BadInput("; ".join(what for _, what in faults))


def read_image(data: bytes) -> None:
    """One DICOM file, as far as the file without its patient."""
    parsed = parsed_image(io.BytesIO(data), len(data))
    content(deidentified(parsed, pixel_bytes(parsed), KEY, shift_dates=True))


def lines() -> list[bytes]:
    """A resource of every type that is read."""
    own: dict[str, Any] = {"id": "r1", "subject": {"reference": "Patient/p1"}, "code": CODE}
    span = {"start": "2020-01-01T08:00:00-04:00", "end": "2020-01-02"}
    each = (
        {"status": "final", "effectiveDateTime": "2020-01-01", "valueQuantity": QUANTITY},
        {"verificationStatus": CODE, "onsetPeriod": span},
        {"status": "completed", "performedPeriod": span},
        {"status": "active", "intent": "order", "authoredOn": "2020-01-01T00:00:00Z"}
        | {"contained": [{"id": "m", "code": CODE}], "medicationReference": {"reference": "#m"}},
        {"status": "finished", "class": CODE["coding"][0], "type": [CODE], "period": span},
    )
    panel = {"component": [{"code": CODE, "valueQuantity": QUANTITY}], "code": {}}
    whole = [own | {"resourceType": kind} | more for kind, more in zip(KINDS, each, strict=True)]
    return [json.dumps(one).encode() for one in (*whole, whole[0] | panel)]


def images() -> list[bytes]:
    """A slice of every way in which pixels are stored plainly, packed ones, and one of frames."""
    stored = np.arange(64, dtype=np.int16).reshape(8, 8)
    more = {"StudyDate": "20200101", "ImageType": ["ORIGINAL", "PRIMARY"], "PixelPaddingValue": 0}
    own = [ct_slice(stored, **more), ct_slice(stored.astype(np.uint8))]
    for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        packed = ct_slice(np.tile(stored, (4, 4)))
        packed.compress(syntax)
        own.append(packed)
    places = [{"ImagePositionPatient": [0, 0, number], "PixelSpacing": [1, 1]} for number in (1, 2)]
    own.append(enhanced([ct_slice(stored, **place) for place in places]))
    return [content(one) for one in (*own, ct_slice(stored, syntax=ImplicitVRLittleEndian))]


TARGETS = (
    Target(name="fhir-line", read=read_line, seeds=lines),
    Target(name="dicom-image", read=read_image, seeds=images, json=False),
)
