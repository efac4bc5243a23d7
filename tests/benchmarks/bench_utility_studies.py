"""The two studies of the utility benchmark: their files, their patients, a split for every seed."""

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from wardround.errors import BadInput
from wardround.study.files import read_study_plan
from wardround.study.manifest import Study
from wardround_client.data.description import read_description
from wardround_client.data.encoding import EncodedRecords, encode
from wardround_client.data.reading import read_records
from wardround_client.data.split import split
from wardround_client.training.plan import PatientRecords
from wardround_server.demo_data.breast import write_breast

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = REPOSITORY.parent / "shared" / "data"
FOLDERS = {
    "heart": REPOSITORY / "deploy" / "studies" / "heart_disease",
    "breast": REPOSITORY / "server" / "wardround_server" / "demo_studies" / "breast",
}
_HEART_FILES = "heart_disease_uci"


@dataclass(frozen=True, slots=True)
class Sides:
    """One hospital's training patients and its held-out ones, for one seed."""

    train: PatientRecords = field(repr=False)
    held_out: PatientRecords = field(repr=False)


@dataclass(frozen=True, slots=True)
class Hospitals:
    """A study's folder and what each hospital's file holds, encoded by the contract."""

    name: str
    folder: Path
    encoded: Mapping[str, EncodedRecords] = field(repr=False)

    def study(self, *overrides: str) -> Study:
        """The study of the folder with `--set` overrides and a roster of these hospitals."""
        plan = read_study_plan(self.folder / "study.toml", overrides)
        roster = [
            {"name": name, "fingerprint": hashlib.sha256(name.encode()).hexdigest()}
            for name in sorted(self.encoded)
        ]
        return Study.model_validate({**plan.to_json(), "roster": roster})

    def sides(self, seed: int) -> dict[str, Sides]:
        """The product's own split, under the seed for the name of the data set."""
        fraction = self.study().evaluation.held_out
        return {
            name: Sides(*map(_tensors, split(own, dataset=f"{name} {seed}", fraction=fraction)))
            for name, own in self.encoded.items()
        }


def pooled(sides: Mapping[str, Sides]) -> dict[str, Sides]:
    """All patients in one place."""
    parts = list(sides.values())
    train, held_out = [p.train for p in parts], [p.held_out for p in parts]
    return {"pooled": Sides(_together(train), _together(held_out))}


@contextlib.contextmanager
def opened(name: str, data: Path) -> Iterator[Hospitals]:
    """Read one study's data. Raises FileNotFoundError where heart disease is not there."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if name == "breast":
            write_breast(folder)
        else:
            folder = data / _HEART_FILES
            if not folder.is_dir():
                raise FileNotFoundError(folder)
        yield Hospitals(name, FOLDERS[name], _encoded(FOLDERS[name], folder))


def _encoded(study_folder: Path, data: Path) -> dict[str, EncodedRecords]:
    contract = read_study_plan(study_folder / "study.toml").contract
    descriptions = sorted(study_folder.glob("hospitals/*.toml"))
    if not descriptions:
        raise BadInput(f"{study_folder.name}: no hospital is described there")
    return {
        path.stem: encode(read_records(read_description(path), contract, data), contract)
        for path in descriptions
    }


def _tensors(encoded: EncodedRecords) -> PatientRecords:
    return PatientRecords(
        features=torch.from_numpy(encoded.features),
        labels=torch.from_numpy(encoded.labels),
        offsets=encoded.offsets,
    )


def _together(parts: list[PatientRecords]) -> PatientRecords:
    records = np.concatenate([np.diff(part.offsets) for part in parts])
    return PatientRecords(
        features=torch.cat([part.features for part in parts]),
        labels=torch.cat([part.labels for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(records)]).astype(np.int64),
    )
