"""The masked uploads of a run as members of its bundle, where the coordinator kept them.

`uploads/TRANSCRIPT.words` holds the masked vectors of one attempt whose sum was opened, one behind
the other in the cohort's order, as little-endian 32-bit words; `uploads/model.words` the model that
the first training round was opened with, as little-endian float32. A single one is uniform noise;
all of an attempt add up to the sum that the coordinator learnt.
"""

import re
from collections.abc import Mapping
from typing import Final

FIRST_MODEL: Final = "model"

_FOLDER, _ENDING = "uploads/", ".words"
_MEMBER = re.compile(rf"{_FOLDER}(?:{FIRST_MODEL}|[0-9a-f]{{64}}){re.escape(_ENDING)}")


def upload_member(name: str) -> str:
    """The member of an attempt's uploads by its transcript, or of FIRST_MODEL.

    >>> upload_member(FIRST_MODEL)
    'uploads/model.words'
    """
    return f"{_FOLDER}{name}{_ENDING}"


def is_upload(member: str) -> bool:
    """Whether this is the name of one of them."""
    return _MEMBER.fullmatch(member) is not None


def uploads_of(members: Mapping[str, bytes]) -> dict[str, bytes]:
    """The uploads among a bundle's members, by transcript, and FIRST_MODEL, in order."""
    return {
        name.removeprefix(_FOLDER).removesuffix(_ENDING): content
        for name, content in sorted(members.items())
        if is_upload(name)
    }
