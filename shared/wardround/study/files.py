"""study.toml and signed studies: read strictly, explain what is wrong, name the nearest key."""

import difflib
import tomllib
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from wardround.canonical import Json, canonical_bytes, parse_canonical
from wardround.errors import BadInput, why
from wardround.identity import PUBLIC_KEY_BYTES, Identity, verify_lasting
from wardround.study.manifest import Study, StudyPlan

TOML_LIMIT_BYTES = 1 << 20
STUDY_LIMIT_BYTES = 4 << 20
STUDY_PURPOSE = b"study"
_MOST_FAULTS = 100  # that are put into words

Checked = TypeVar("Checked", bound=BaseModel)


def read_toml(path: Path) -> Json:
    """Read one TOML file. Raises BadInput naming the file and the line."""
    try:
        if path.stat().st_size > TOML_LIMIT_BYTES:
            raise BadInput(f"{path.name}: over {TOML_LIMIT_BYTES} bytes")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path.name}: cannot be read ({why(error)})") from error
    except (ValueError, RecursionError) as error:  # ValueError: an integer of thousands of digits
        raise BadInput(f"{path.name}: not TOML: {error}") from error


def checked(model: type[Checked], value: Json, *, what: str) -> Checked:
    """Build `model` from a parsed file. Raises BadInput with every fault and the nearest key.

    Of more than a hundred faults it says the number alone.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        if error.error_count() > _MOST_FAULTS:  # a body of a million unknown keys
            raise BadInput(f"{what}: {error.error_count()} faults") from None
        faults = [_fault(model, fault) for fault in error.errors(include_url=False)]
        raise BadInput(f"{what}: " + "; ".join(faults)) from error


def read_study_plan(path: Path, overrides: Iterable[str] = ()) -> StudyPlan:
    """Read study.toml, with `--set key.key=value` overrides applied before it is checked."""
    value = read_toml(path)
    for override in overrides:
        apply_override(value, override)
    return checked(StudyPlan, value, what=path.name)


def apply_override(value: Json, override: str) -> None:
    """Set one dotted key; the right side is TOML, or text when it is not TOML.

    >>> study = {"privacy": {"epsilon": 3.0}}
    >>> apply_override(study, "privacy.epsilon=1")
    >>> apply_override(study, "privacy.mechanism=none")
    >>> study
    {'privacy': {'epsilon': 1, 'mechanism': 'none'}}
    """
    key, equals, text = override.partition("=")
    *tables, last = key.strip().split(".")
    if not equals or not last:
        raise BadInput(f"--set {override}: KEY.KEY=VALUE is due")
    for table in tables:
        value = value.setdefault(table, {})
        if not isinstance(value, dict):
            raise BadInput(f"--set {override}: {table} is not a table")
    try:
        value[last] = tomllib.loads(f"value = {text.strip()}")["value"]
    except (ValueError, RecursionError):
        value[last] = text.strip()


def sign_study(study: Study, identity: Identity) -> bytes:
    """The signed study as canonical bytes: manifest, the signer's public key, the signature."""
    signature = identity.sign_lasting(STUDY_PURPOSE, study.canonical())
    return canonical_bytes(
        {
            "study": study.to_json(),
            "key": identity.public_key.hex(),
            "signature": signature.hex(),
        }
    )


def read_signed_file(path: Path) -> bytes:
    """The bytes of a signed study, for `read_signed_study`.

    Raises BadInput for a file that cannot be read, or that is a study.toml, which nobody signed.
    """
    if path.suffix == ".toml":
        raise BadInput(
            f"{path.name}: nobody has signed it; due is the file that `wardround study sign` writes"
        )
    try:
        if path.stat().st_size > STUDY_LIMIT_BYTES:
            raise BadInput(f"{path.name}: over {STUDY_LIMIT_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path.name}: cannot be read ({why(error)})") from error


def read_signed_study(content: bytes, *, signer: bytes) -> Study:
    """Read what `sign_study` wrote. `signer` is the coordinator's pinned public key.

    Raises BadInput for a malformed file, BadSignature for another signer or changed bytes.
    """
    value = parse_canonical(content, what="signed study", limit_bytes=STUDY_LIMIT_BYTES)
    if set(value) != {"study", "key", "signature"}:
        raise BadInput("signed study: the keys study, key and signature are due, and no others")
    study = checked(Study, value["study"], what="signed study")
    if value["key"] != signer.hex() or len(signer) != PUBLIC_KEY_BYTES:
        raise BadInput("signed study: signed by another key than the coordinator's pinned one")
    try:
        signature = bytes.fromhex(value["signature"])
    except (TypeError, ValueError) as error:
        raise BadInput("signed study: the signature is not hex") from error
    # What was signed are the bytes that came, not the ones that this version would write.
    verify_lasting(signer, STUDY_PURPOSE, canonical_bytes(value["study"]), signature)
    if study.canonical() != canonical_bytes(value["study"]):  # in Python, True == 1
        raise BadInput("signed study: the manifest is not what this version would write of it")
    return study


def _fault(model: type[BaseModel], fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        known = _keys_at(model, fault["loc"][:-1])
        near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1, cutoff=0.0)
        return f"unknown key `{place}`; the nearest known one is `{near[0] if near else '-'}`"
    if fault["type"] == "missing":
        return f"key `{place}` is missing"
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"`{place}`: {message}" if place else message


def _keys_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    here: Any = model
    for part in path:
        if isinstance(part, int):
            continue
        fields = {
            field.alias or name: field.annotation for name, field in here.model_fields.items()
        }
        if part not in fields:
            continue  # the tag of a union, whose first model speaks for all
        here = _model_in(fields[part])
        if here is None:
            return []
    return [field.alias or name for name, field in here.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation if issubclass(annotation, BaseModel) else None
    found = (_model_in(part) for part in typing.get_args(annotation))
    return next((model for model in found if model is not None), None)
