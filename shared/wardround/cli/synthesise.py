"""`wardround synthesise`: records of nobody, from the released model of a study of family gan."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardround.cli.output import AsJson, say

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wardround.models.synthetic import Floats, SyntheticRecords
    from wardround.study.manifest import Study

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def synthesise(
    model: Annotated[Path, typer.Argument(help="A released model.safetensors of family gan.")],
    study: Annotated[Path, typer.Option(help="The signed study of the run (JSON).")],
    out: Annotated[Path, typer.Option(help="New folder for the records and what they are.")],
    records: Annotated[int, typer.Option(help="How many to draw.")] = 1000,
    *,
    as_json: AsJson = False,
) -> None:
    """Draw synthetic records from a released generator, every file labelled synthetic.

    A table as CSV in the contract's names, units and categories, with a column `synthetic`; images
    as PNG, each with a text inside. about.json says which model, and what protects the patients.
    """
    from wardround.canonical import canonical_bytes
    from wardround.models.released import read_released
    from wardround.models.synthetic import about, synthetic_records
    from wardround.randomness import system_randomness

    signed = _study(study)
    released = read_released(model, signed)
    found = synthetic_records(released, signed, records=records, randomness=system_randomness)
    said = about(found, signed, released)
    files = _files(found, signed)
    _write({**files, "about.json": canonical_bytes(said)}, out)
    facts = {"records": records, "out": str(out), "protection": said["protection"]}
    say(facts, f"{records} synthetic records in {out.name}. {said['protection']}", as_json=as_json)


def _study(path: Path) -> "Study":
    """The study of the file; that the model is of it is checked by its digest."""
    from wardround.canonical import parse_canonical
    from wardround.errors import BadInput
    from wardround.study.files import STUDY_LIMIT_BYTES, checked
    from wardround.study.manifest import Study

    if not path.is_file() or path.stat().st_size > STUDY_LIMIT_BYTES:
        raise BadInput(f"{path.name}: no file, or over {STUDY_LIMIT_BYTES} bytes")
    value = parse_canonical(path.read_bytes(), what=path.name, limit_bytes=STUDY_LIMIT_BYTES)
    return checked(Study, value.get("study", {}), what=path.name)


def _files(found: "SyntheticRecords", study: "Study") -> dict[str, bytes]:
    """What is written, by name: a CSV file, or images and a CSV file with their classes."""
    from wardround.models.synthetic import COLUMN, class_name, table

    if study.contract.image is None:
        return {f"{COLUMN}.csv": _csv(table(found, study))}
    files: dict[str, bytes] = {}
    rows = [[COLUMN, study.contract.patient_key, "file", study.contract.label.name]]
    for number, (image, label) in enumerate(
        zip(found.features, found.labels, strict=True), start=1
    ):
        name = f"{COLUMN}-{number:06d}"
        files[f"{name}.png"] = _png(image, study)
        rows.append(["1", name, f"{name}.png", class_name(int(label), study)])
    return {**files, f"{COLUMN}.csv": _csv(rows)}


def _csv(rows: "Iterable[list[str]]") -> bytes:
    import csv
    import io

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _png(image: "Floats", study: "Study") -> bytes:
    """One image that says in a text chunk that it is synthetic, and of which study."""
    import io

    from wardround.errors import BadInput
    from wardround.models.synthetic import MARK, picture, protection

    try:
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo
    except ModuleNotFoundError as error:
        raise BadInput("synthetic images: Pillow is missing; install wardround[client]") from error
    said = PngInfo()
    said.add_text("Title", MARK)
    said.add_text("Description", protection(study))
    said.add_text("Source", f"study {study.name}, digest {study.digest}")
    file = io.BytesIO()
    Image.fromarray(picture(image)).save(file, format="PNG", pnginfo=said)
    return file.getvalue()


def _write(files: dict[str, bytes], out: Path) -> None:
    """Into a new folder. Raises BadInput when it is there already."""
    from wardround.errors import BadInput

    if out.exists():
        raise BadInput(f"--out {out.name}: it exists already, and nothing is overwritten")
    out.mkdir(parents=True, mode=0o700)
    for name, content in files.items():
        (out / name).write_bytes(content)
