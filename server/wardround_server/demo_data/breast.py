"""scikit-learn's breast-cancer set as four hospitals export it: real patients, shifted, unequal.

569 patients with a fine-needle aspirate of a breast mass (Street, Wolberg, Mangasarian 1993; UCI
id 17, CC BY 4.0). The set does not say where a patient was treated: the hospitals are made here,
by class and by the size of the cell nuclei, and no two hospitals have a patient in common.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
SEED = 20251122
NANOMETRES_PER_MICROMETRE = 1000.0
GERMAN = {
    "radius": "Radius",
    "texture": "Textur",
    "perimeter": "Umfang",
    "area": "Flaeche",
    "smoothness": "Glattheit",
    "compactness": "Kompaktheit",
    "concavity": "Konkavitaet",
    "concave points": "KonkavePunkte",
    "symmetry": "Symmetrie",
    "fractal dimension": "Fraktaldimension",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One hospital of the demo: whom it treats, and how it writes its file.

    Of each class it draws patients with weight exp(`prefers_large` * size), where size is the
    mean radius of the nuclei in standard deviations.
    """

    hospital: str
    malignant: int
    benign: int
    prefers_large: float
    patient: str
    outcome: str
    codes: tuple[str, str]
    separator: str = ","
    decimal: str = "."
    lengths_in_nm: bool = False


EXPORTS = (
    Export(
        hospital="university",
        malignant=110,
        benign=110,
        prefers_large=1.0,
        patient="patient_id",
        outcome="diagnosis",
        codes=("M", "B"),
    ),
    Export(
        hospital="northside",
        malignant=40,
        benign=120,
        prefers_large=-0.5,
        patient="case_number",
        outcome="malignant",
        codes=("1", "0"),
        lengths_in_nm=True,
    ),
    Export(
        hospital="lakeside",
        malignant=14,
        benign=65,
        prefers_large=-1.5,
        patient="ID",
        outcome="OUTCOME",
        codes=("2", "1"),
    ),
    Export(
        hospital="harbour",
        malignant=48,
        benign=62,
        prefers_large=0.0,
        patient="PatientNr",
        outcome="Befund",
        codes=("boesartig", "gutartig"),
        separator=";",
        decimal=",",
    ),
)


def write_breast(folder: Path) -> None:
    """Write NAME.csv for each hospital into `folder`, the same bytes at every call."""
    from sklearn.datasets import load_breast_cancer  # noqa: PLC0415  # a second: not for `--help`

    source = load_breast_cancer()
    names = [str(name) for name in source.feature_names]
    values = source.data.astype(np.float64)
    malignant = source.target == 0
    folder.mkdir(parents=True, exist_ok=True)
    size = values[:, names.index("mean radius")]
    for export, rows in assign(size, malignant):
        _write(folder / f"{export.hospital}.csv", export, names, values[rows], malignant[rows])


def assign(size: Floats, malignant: npt.NDArray[np.bool_]) -> list[tuple[Export, list[int]]]:
    """Deal the patients out, each to one hospital: weighted draws without replacement.

    (Gumbel top-k; Efraimidis and Spirakis 2006)
    """
    rng = np.random.default_rng(SEED)
    standard = (size - size.mean()) / size.std()
    free = rng.permutation(len(size)).tolist()
    dealt = []
    for export in EXPORTS:
        rank = export.prefers_large * standard + rng.gumbel(size=len(size))
        wanted = sorted(free, key=lambda row: -rank[row])
        sick = [row for row in wanted if malignant[row]][: export.malignant]
        well = [row for row in wanted if not malignant[row]][: export.benign]
        mine = set(sick + well)
        dealt.append((export, [row for row in free if row in mine]))
        free = [row for row in free if row not in mine]
    return dealt


def heading(export: Export, name: str) -> str:
    """How a hospital calls the column that scikit-learn calls `name`."""
    if export.lengths_in_nm:
        return name.replace(" ", "_") + ("_nm" if is_length(name) else "")
    if export.decimal == ",":
        kind = next(word for word in ("mean", "worst", "error") if word in name)
        prefix = {"mean": "Mittel", "worst": "Max", "error": "Fehler"}[kind]
        return prefix + GERMAN[name.replace(kind, "").strip()]
    return name.upper() if export.patient.isupper() else name


def is_length(name: str) -> bool:
    """Whether a column is a length, in micrometres, which another hospital may note otherwise."""
    return "radius" in name or "perimeter" in name


def _write(
    path: Path, export: Export, names: list[str], values: Floats, malignant: npt.NDArray[np.bool_]
) -> None:
    scale = [
        NANOMETRES_PER_MICROMETRE if export.lengths_in_nm and is_length(name) else 1.0
        for name in names
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=export.separator, lineterminator="\n")
        writer.writerow([export.patient, *(heading(export, n) for n in names), export.outcome])
        for number, (row, sick) in enumerate(zip(values * scale, malignant, strict=True), start=1):
            numbers = [f"{value:.10g}".replace(".", export.decimal) for value in row]
            key = f"{export.hospital[0].upper()}{number:04d}"
            writer.writerow([key, *numbers, export.codes[0] if sick else export.codes[1]])
