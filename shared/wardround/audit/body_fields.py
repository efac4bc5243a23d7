"""What the fields of evidence entries may hold, and the type that all bodies are."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints, ValidationError

from wardround.errors import BadInput
from wardround.evidence.entry import LINE_LENGTH, Entry
from wardround.study.contract import Frozen
from wardround.study.manifest import HospitalName
from wardround.study.own_model import PackageName

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
RunId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Hex128 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]
Line = Annotated[str, StringConstraints(max_length=LINE_LENGTH)]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.:+-]{0,99}$")]
Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
Epsilon = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Names = Annotated[tuple[HospitalName, ...], Field(max_length=1000, strict=False)]
Bits = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2}){1,12500}$")]
# Our packages, and that of a study's own model.
CodeDigests = Annotated[dict[PackageName, Digest], Field(max_length=8)]
Found = Literal["PASS", "VIOLATION", "INCONCLUSIVE"]


class Body(Frozen):
    """The body of one entry type; `TYPE` is the entry's `type`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    TYPE: ClassVar[str]


def read_body(entry: Entry, known: dict[str, type[Body]]) -> Body:
    """The typed body of one entry. Raises BadInput naming the type and the field, not its value."""
    kind = known.get(entry.type)
    if kind is None:
        raise BadInput(f"entry type {entry.type} is not one that this verifier knows")
    try:
        return kind.model_validate(entry.body)
    except ValidationError as error:
        raise BadInput(f"{entry.type}: {_first_fault(error)}") from error


def _first_fault(error: ValidationError) -> str:
    fault: Any = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}"
