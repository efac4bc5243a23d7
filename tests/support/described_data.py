"""A hospital's small data folder: description, contract, files; read as a study does."""

from pathlib import Path

import pytest

from wardround.errors import BadInput
from wardround.study.contract import Contract
from wardround.study.files import checked
from wardround_client.data.description import DatasetDescription
from wardround_client.data.encoding import EncodedRecords, encode
from wardround_client.data.reading import read_records

AGE = {"name": "age", "kind": "continuous", "description": "x", "unit": "a", "range": [0, 100]}
AGE_SOURCE = {"column": "age", "source": "age", "unit": "a"}


def contract(label, columns=(AGE,), **more):
    value = {"patient_key": "patient", "label": label, "columns": list(columns)} | more
    return checked(Contract, value, what="contract")


def description(label=None, columns=(AGE_SOURCE,), **more):
    value = {
        "schema": "wardround.dataset/1",
        "hospital": "north",
        "dataset": "north-all",
        "title": "North",
        "path": "main.csv",
        "patient": {"source": "id"},
        "columns": list(columns),
    } | more
    return checked(
        DatasetDescription, value | ({"label": label} if label else {}), what="north.toml"
    )


def write(folder: Path, **files: str) -> None:
    """`main_csv="..."` becomes main.csv."""
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)


def encoded(described, agreed, folder: Path) -> EncodedRecords:
    return encode(read_records(described, agreed, folder), agreed)


def refusal(described, agreed, folder: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read_records(described, agreed, folder)
    return str(caught.value)
