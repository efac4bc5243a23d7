"""What the fields of evidence entries may hold, and the type that all bodies are."""

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints

from wardround.study.contract import Frozen
from wardround.study.manifest import HospitalName

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
RunId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Hex128 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]
Line = Annotated[str, StringConstraints(max_length=2000)]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.:+-]{0,99}$")]
Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
Epsilon = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Names = Annotated[tuple[HospitalName, ...], Field(max_length=1000, strict=False)]
Bits = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2}){1,12500}$")]
PackageName = Annotated[str, StringConstraints(pattern=r"^wardround(_client|_server)?$")]
CodeDigests = Annotated[dict[PackageName, Digest], Field(max_length=8)]
Found = Literal["PASS", "VIOLATION", "INCONCLUSIVE"]


class Body(Frozen):
    """The body of one entry type; `TYPE` is the entry's `type`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    TYPE: ClassVar[str]
