"""The masked uploads of a run as members of its bundle, where the coordinator kept them.

`uploads/TRANSCRIPT.words` holds the packed vectors of one attempt whose sum was opened, those of
its survivors in order, one behind the other; `uploads/TRANSCRIPT.keys` what unmasked their sum;
`uploads/model.words` the model that the first training round was opened with, as little-endian
float32. Whoever has all of an attempt's vectors and its keys has each of them without its own mask,
and under those with every other survivor: the sum is what the coordinator learnt.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import ConfigDict, Field, StringConstraints, ValidationError

from wardround.audit.body_fields import Digest
from wardround.canonical import parse_canonical
from wardround.errors import BadInput
from wardround.study.contract import Frozen
from wardround.study.manifest import HospitalName

FIRST_MODEL: Final = "model"
KEYS_OF: Final = ".keys"

_FOLDER, _ENDING = "uploads/", ".words"
_MEMBER = re.compile(
    rf"{_FOLDER}(?:(?:{FIRST_MODEL}|[0-9a-f]{{64}}){re.escape(_ENDING)}"
    rf"|[0-9a-f]{{64}}{re.escape(KEYS_OF)})"
)
_KEYS_LIMIT_BYTES = 8 << 20
_MOST_PAIRS = 1000 * 1000 // 4  # half of the largest cohort dropped

_Pair = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}\|[a-z0-9-]{1,64}$")]


class UnmaskKeys(Frozen):
    """What unmasks one attempt's sum, in hex: survivors' own keys, and those with the dropped.

    A pair is written `lower|higher`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    self_keys: Annotated[dict[HospitalName, Digest], Field(max_length=1000)]
    pair_keys: Annotated[dict[_Pair, Digest], Field(max_length=_MOST_PAIRS)]

    @classmethod
    def from_bytes(cls, content: bytes) -> "UnmaskKeys":
        """Read a member strictly. Raises BadInput naming the field, never a key."""
        value = parse_canonical(content, what="unmasking keys", limit_bytes=_KEYS_LIMIT_BYTES)
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            fault = error.errors(include_input=False, include_url=False)[0]
            field = next((str(at) for at in fault["loc"][:1] if at in cls.model_fields), "a field")
            raise BadInput(f"unmasking keys: {field}: {fault['type']}") from error


def upload_member(name: str) -> str:
    """The member of an attempt's uploads or, with KEYS_OF, its keys; or that of FIRST_MODEL.

    >>> upload_member(FIRST_MODEL), upload_member("ab.keys")
    ('uploads/model.words', 'uploads/ab.keys')
    """
    return f"{_FOLDER}{name}" if name.endswith(KEYS_OF) else f"{_FOLDER}{name}{_ENDING}"


def is_upload(member: str) -> bool:
    """Whether this is the name of one of them."""
    return _MEMBER.fullmatch(member) is not None


def uploads_of(members: Mapping[str, bytes]) -> dict[str, bytes]:
    """The uploads among a bundle's members, in order.

    Their names are transcripts, FIRST_MODEL, and transcripts with KEYS_OF behind.
    """
    return {
        name.removeprefix(_FOLDER).removesuffix(_ENDING): content
        for name, content in sorted(members.items())
        if is_upload(name)
    }
