"""What of a DICOM file's attributes is worth keeping, and which values each may have.

A value that stays is a number within its bounds or one of the words named here; free text never is,
since whoever operated the scanner may have typed a name into any of it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from wardround.errors import BadInput

Clean = Callable[[Any], object]

_MAKERS = (
    "AGFA",
    "CANON",
    "CARESTREAM",
    "FUJIFILM",
    "GE MEDICAL SYSTEMS",
    "HITACHI",
    "HOLOGIC",
    "KONICA MINOLTA",
    "PHILIPS",
    "SAMSUNG",
    "SHIMADZU",
    "SIEMENS",
    "TOSHIBA",
    "UIH",
)
_PARTS = (
    "ABDOMEN ABDOMENPELVIS ANKLE BLADDER BRAIN BREAST CERVIX CHEST CHESTABDOMEN CHESTABDPELVIS "
    "CLAVICLE COLON CSPINE ELBOW EXTREMITY FACE FEMUR FINGER FOOT FOREARM HAND HEAD HEADNECK HEART "
    "HIP HUMERUS JAW KIDNEY KNEE LEG LIVER LSPINE LUNG NECK ORBIT PANCREAS PELVIS PROSTATE RIB "
    "SHOULDER SINUS SKULL SPINE SPLEEN SSPINE STERNUM THIGH THORAX THUMB TOE TSPINE UTERUS WRIST"
)
_FACES = {"BRAIN", "FACE", "HEAD", "HEADNECK", "JAW", "NECK", "ORBIT", "SINUS", "SKULL"}


def shows_a_face(body_part: str) -> bool:
    """Whether a face could be made out of slices of this part of the body.

    >>> [shows_a_face(part) for part in ("HEAD", "Head and Neck", "CHEST", "")]
    [True, True, False, False]
    """
    return not _FACES.isdisjoint(body_part.upper().replace(",", " ").split())


def _maker(value: Any) -> str:
    """The maker's plain name; "" for one that is not known here."""
    text = str(value).upper()
    return next((maker for maker in _MAKERS if text.startswith(maker)), "")


def _one_of(words: str) -> Clean:
    known = frozenset(words.split())

    def clean(value: Any) -> object:
        text = str(value).strip()
        return text if text in known else None

    return clean


def _image_type(value: Any) -> object:
    """The two values that every image has, and the third where it is a usual one (C.7.6.1.1.2)."""
    due = (
        {"ORIGINAL", "DERIVED"},
        {"PRIMARY", "SECONDARY"},
        {"AXIAL", "LOCALIZER", "MPR", "OTHER", ""},
    )
    came = [str(part) for part in _several(value)]
    if len(came) < 2 or came[0] not in due[0] or came[1] not in due[1]:
        return None
    return came[:3] if len(came) > 2 and came[2] in due[2] else came[:2]


def _towards(value: Any) -> object:
    """Where rows and columns point: letters of left, right, anterior, posterior, head, foot."""
    came = [str(part) for part in _several(value)]
    fits = len(came) == 2 and all(
        0 < len(part) <= 3 and set(part) <= set("LRAPHF") for part in came
    )
    return came if fits else None


def _numbers(low: float, high: float, counts: tuple[int, ...] = (1,)) -> Clean:
    def clean(value: Any) -> object:
        came = [float(part) for part in _several(value)]
        if len(came) not in counts or not all(low <= number <= high for number in came):
            raise ValueError("out of bounds")
        written = [_as_text(number) for number in came]
        return written[0] if len(written) == 1 else written

    return clean


def _whole(low: int, high: int) -> Clean:
    def clean(value: Any) -> object:
        if not low <= int(value) <= high:
            raise ValueError("out of bounds")
        return int(value)

    return clean


def _real(low: float, high: float) -> Clean:
    def clean(value: Any) -> object:
        if not low <= float(value) <= high:
            raise ValueError("out of bounds")
        return float(value)

    return clean


def _as_text(number: float) -> str:
    """The shortest text that reads as this number, in the 16 signs that a DS has."""
    for digits in range(17, 8, -1):
        text = repr(number) if digits == 17 else f"{number:.{digits}g}"
        if len(text) <= 16:
            return text
    raise ValueError("too long")


def _several(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)


WORDS: Mapping[str, Clean] = {
    "ImageType": _image_type,
    "Manufacturer": _maker,
    "BodyPartExamined": _one_of(_PARTS),
    "PatientPosition": _one_of("HFP HFS HFDR HFDL FFDR FFDL FFP FFS LFP LFS RFP RFS"),
    "PatientOrientation": _towards,
    "Laterality": _one_of("L R"),
    "ImageLaterality": _one_of("L R U B"),
    "ViewPosition": _one_of("AP PA LL RL RLD LLD RLO LLO CC MLO ML LM LMO XCCL XCCM"),
    "PresentationIntentType": _one_of("PRESENTATION PROCESSING"),
    "PhotometricInterpretation": _one_of("MONOCHROME1 MONOCHROME2"),
    "PixelIntensityRelationship": _one_of("LIN LOG DISP"),
    "PresentationLUTShape": _one_of("IDENTITY INVERSE"),
    "VOILUTFunction": _one_of("LINEAR LINEAR_EXACT SIGMOID"),
    "RescaleType": _one_of("HU US OD MGML Z_EFF ED EDW HU_MOD PCT"),
    "LossyImageCompression": _one_of("00 01"),
    "ScanningSequence": _one_of("SE IR GR EP RM"),
    "SequenceVariant": _one_of("SK MTC SS TRSS SP MP OSP NONE"),
    "MRAcquisitionType": _one_of("2D 3D"),
    "LossyImageCompressionMethod": _one_of("ISO_10918_1 ISO_14495_1 ISO_15444_1"),
}
NUMBERS: Mapping[str, Clean] = {
    "SliceThickness": _numbers(0, 1000),
    "SpacingBetweenSlices": _numbers(-1000, 1000),
    "PixelSpacing": _numbers(0, 100, (2,)),
    "ImagerPixelSpacing": _numbers(0, 100, (2,)),
    "ImagePositionPatient": _numbers(-1e4, 1e4, (3,)),
    "ImageOrientationPatient": _numbers(-1.001, 1.001, (6,)),
    "SliceLocation": _numbers(-1e5, 1e5),
    "KVP": _numbers(0, 1000),
    "EchoTime": _numbers(0, 1e5),
    "RepetitionTime": _numbers(0, 1e6),
    "InversionTime": _numbers(0, 1e6),
    "FlipAngle": _numbers(-360, 360),
    "MagneticFieldStrength": _numbers(0, 20),
    "WindowCenter": _numbers(-1e6, 1e6, tuple(range(1, 9))),
    "WindowWidth": _numbers(0, 1e6, tuple(range(1, 9))),
    "RescaleIntercept": _numbers(-1e6, 1e6),
    "RescaleSlope": _numbers(-1e6, 1e6),
    "InstanceNumber": _whole(0, 99_999),
    "PixelIntensityRelationshipSign": _whole(-1, 1),
    "SamplesPerPixel": _whole(1, 1),
    "Rows": _whole(1, 65_535),
    "Columns": _whole(1, 65_535),
    "BitsAllocated": _whole(8, 16),
    "BitsStored": _whole(1, 16),
    "HighBit": _whole(0, 15),
    "PixelRepresentation": _whole(0, 1),
    "PixelPaddingValue": _whole(-32_768, 65_535),
    "LossyImageCompressionRatio": _numbers(1, 1e6),
}
# Of one frame of an enhanced object, besides what a classic image says of itself.
OF_A_FRAME: Mapping[str, Clean] = {
    "FrameType": _image_type,
    "InStackPositionNumber": _whole(1, 1_000_000),
    "TemporalPositionIndex": _whole(1, 1_000_000),
    "EffectiveEchoTime": _real(0, 1e5),
}
# A number says nothing without which the picture would be another one, so one that cannot be kept
# ends the file; these say how a picture was taken, and may be missing.
_SPARE = {
    "KVP",
    "EchoTime",
    "RepetitionTime",
    "InversionTime",
    "FlipAngle",
    "InstanceNumber",
    "LossyImageCompressionRatio",
    *OF_A_FRAME,
}


def kept_value(keyword: str, value: Any) -> object:
    """The value as it may stay, or None when nothing of it may.

    Raises BadInput for a number of the picture itself that is none, or out of its bounds.
    """
    if value is None or value == "":
        return None
    if keyword in WORDS:
        return WORDS[keyword](value) or None
    try:
        return (OF_A_FRAME.get(keyword) or NUMBERS[keyword])(value)
    except (TypeError, ValueError, OverflowError):
        if keyword in _SPARE:
            return None
        raise BadInput(f"has a {keyword} that cannot be kept and cannot be left out") from None
