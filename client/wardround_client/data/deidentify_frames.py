"""The functional groups of an enhanced object without its patient: made anew, by an allow-list.

What a frame says comes in attribute by attribute, as that of a classic image does; the groups
themselves, and whatever else is nested in them, stay behind. (DICOM PS3.3 C.7.6.16)
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from wardround_client.data.deidentify_words import kept_value, shows_a_face
from wardround_client.data.dicom_frames import EACH, GROUPS, REGION, SHARED, Said

if TYPE_CHECKING:
    from pydicom import Dataset

Kept = Mapping[str, object]
_TYPES = {"CT": "CTImageFrameTypeSequence", "MR": "MRImageFrameTypeSequence"}


def put_frames(made: "Dataset", frames: Sequence[Said]) -> None:
    """Write into a new object what may stay of each frame: once, where it is the same of all.

    Raises BadInput for a number of a frame that is out of its bounds.
    """
    from pydicom import Dataset  # noqa: PLC0415  # an extra

    shared, each = Dataset(), [Dataset() for _ in frames]
    for group, keywords in GROUPS.items():
        other = group in _TYPES.values() and group != _TYPES.get(str(made.Modality))
        if other or REGION in keywords:  # a code, and a text that says what it means
            continue
        own = [_kept(frame, keywords) for frame in frames]
        if all(values == own[0] for values in own):
            _put(shared, group, own[0])
        else:
            for item, values in zip(each, own, strict=True):
                _put(item, group, values)
    made.NumberOfFrames = len(frames)
    setattr(made, SHARED, [shared])
    setattr(made, EACH, each)


def slices_of_a_face(elements: "Dataset", frames: Sequence[Said]) -> int:
    """Of how many frames a face could be made, by the part of the body that they or all show."""
    if shows_a_face(str(elements.get("BodyPartExamined", None) or "")):
        return len(frames)
    regions = [frame.get(REGION, None) or [] for frame in frames]
    said = [str(own[0].get("CodeMeaning", None) or "") for own in regions if len(own)]
    return sum(map(shows_a_face, said))


def _kept(frame: Said, keywords: Sequence[str]) -> Kept:
    found = {keyword: kept_value(keyword, frame.get(keyword, None)) for keyword in keywords}
    return {keyword: value for keyword, value in found.items() if value is not None}


def _put(item: "Dataset", group: str, values: Kept) -> None:
    from pydicom import Dataset  # noqa: PLC0415  # an extra

    if not values:
        return
    nested = Dataset()
    for keyword, value in values.items():
        setattr(nested, keyword, value)
    setattr(item, group, [nested])
