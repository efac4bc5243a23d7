"""What a DICOM object of several frames says of each of them: where it lies, how it is scaled.

An enhanced object says it in functional groups, once for all frames or frame by frame. The order of
frames, and the dimensions by which the object indexes them, are not believed: places are.
(DICOM PS3.3 C.7.6.16, A.36, A.38)
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from wardround.errors import BadInput
from wardround_client.data.dicom_header import unreadable

if TYPE_CHECKING:
    from pydicom import Dataset

# Enhanced CT and MR, and classic series that an archive has turned into one object.
ENHANCED = {
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",
}
SHARED, EACH = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
REGION = "AnatomicRegionSequence"
FRAME_ELEMENTS = ("SOPClassUID", "NumberOfFrames", SHARED, EACH)
# Which group holds which attribute; all others are passed over.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope", "RescaleType"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
    "FrameContentSequence": ("InStackPositionNumber", "TemporalPositionIndex"),
    "CTImageFrameTypeSequence": ("FrameType",),
    "MRImageFrameTypeSequence": ("FrameType",),
    "MRTimingAndRelatedParametersSequence": ("RepetitionTime", "FlipAngle"),
    "MREchoSequence": ("EffectiveEchoTime",),
    "FrameAnatomySequence": (REGION,),
}


class Said(Protocol):
    """What is said of one frame, by keyword: of a classic image its whole header."""

    def get(self, key: str, default: None, /) -> Any:
        """The value, or None."""


def frames_of(elements: "Dataset") -> tuple[Said, ...]:
    """What is said of each frame, in the order in which they are stored.

    Raises BadInput when there are several without functional groups (a secondary capture, an
    ultrasound clip), when the groups are of another number, or say something twice, and when a CT
    does not say how its values become Hounsfield units.
    """
    try:
        count = int(elements.get("NumberOfFrames", None) or 1)
        kind = str(elements.get("SOPClassUID", None) or "")
        if kind not in ENHANCED and EACH not in elements:
            if count != 1:
                raise BadInput(f"has {count} frames, and says of none where it lies")
            return (elements,)
        found = _in_groups(elements, count)
    except unreadable():
        raise BadInput("has functional groups that cannot be read") from None
    if ENHANCED.get(kind) == "CT":
        for frame in found:
            if "RescaleSlope" not in frame or "RescaleIntercept" not in frame:
                raise BadInput("has frames without RescaleSlope and RescaleIntercept")
    return found


def _in_groups(elements: "Dataset", count: int) -> tuple[dict[str, Any], ...]:
    each = elements.get(EACH, None) or []
    if len(each) != count:
        raise BadInput(f"has {count} frames, and functional groups of {len(each)}")
    shared = elements.get(SHARED, None) or []
    if len(shared) > 1:
        raise BadInput(f"has a {SHARED} of {len(shared)} items")
    common = _said(shared[0]) if shared else {}
    return tuple(_joined(common, _said(item)) for item in each)


def _joined(common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    if twice := sorted(common.keys() & own.keys()):
        raise BadInput(f"says its {twice[0]} of all frames, and of one again")
    return {**common, **own}


def _said(groups: "Dataset") -> dict[str, Any]:
    """The attributes of one item of functional groups that are known here."""
    found: dict[str, Any] = {}
    for group, keywords in GROUPS.items():
        items = groups.get(group, None)
        if items is None:
            continue
        if len(items) != 1:
            raise BadInput(f"has a {group} of {len(items)} items, 1 is due")
        values = {keyword: items[0].get(keyword, None) for keyword in keywords}
        found |= {keyword: value for keyword, value in values.items() if _is_there(value)}
    return found


def _is_there(value: Any) -> bool:
    return value is not None and value != "" and (not hasattr(value, "__len__") or len(value) > 0)
