"""`wardround data`: describe, check, compare, de-identify. It prints no patient's value."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardround.cli.output import AsJson

if TYPE_CHECKING:
    from wardround.study.contract import Contract
    from wardround_client.data.check import DataCheck
    from wardround_client.data.deidentify_folder import Attestation

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Describe, check and compare a data set.",
)

Dataset = Annotated[Path, typer.Argument(help="The data set's description (TOML).")]
StudyFile = Annotated[Path, typer.Option(help="A study's folder, study.toml, or the signed study.")]
Folder = Annotated[Path, typer.Option(help="The folder that holds its files.")]
Source = Annotated[Path, typer.Option(help="The folder of DICOM files.")]
Out = Annotated[Path, typer.Option(help="A new folder.")]


@app.command()
def describe(dataset: Dataset, study: StudyFile, data: Folder, *, as_json: AsJson = False) -> None:
    """Show a data set as the study would see it.

    Columns, units, missing values and labels, in counts; it always succeeds.
    """
    _examine(dataset, study, data, as_json=as_json)


@app.command()
def check(dataset: Dataset, study: StudyFile, data: Folder, *, as_json: AsJson = False) -> None:
    """Check a data set against the study's contract.

    When it is not ready, it says what to fix and ends with exit code 4.
    """
    from wardround.errors import BadInput
    from wardround_client.data.check import Verdict

    seen = _examine(dataset, study, data, as_json=as_json)
    if seen.verdict is Verdict.NOT_READY:
        # People have just read what to fix; a program finds all of it in the error.
        what = "; ".join(seen.to_fix) if as_json else f"{len(seen.to_fix)} to fix, see above"
        raise BadInput(f"{dataset.name}: {seen.verdict}: {what}")


@app.command()
def quality(
    directory: Annotated[Path, typer.Option("--dir", help="The hospital's directory.")],
    study: Annotated[str, typer.Option(help="Name or digest of an approved study.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Hold the data against the others' released statistics.

    Column by column, with what to fix; exit code 4 when not ready. Nothing leaves the hospital.
    """
    from rich.console import Console

    from wardround.errors import BadInput
    from wardround.quality.verdict import Verdict
    from wardround_client.approval import approved_study, find_study
    from wardround_client.home import HospitalHome
    from wardround_client.kept_statistics import reference_for
    from wardround_client.quality import look
    from wardround_client.quality_view import QualityView
    from wardround_client.records import load_records

    home = HospitalHome(directory)
    approved = approved_study(home, find_study(home, study))
    description, found = approved.description, approved.study
    records = load_records(approved, with_source=True)
    reference = reference_for(home, found, description.dataset)
    looked = look(found, records, reference)
    view = QualityView(description.hospital, found.title, looked, home.policy().datasheet)
    if as_json:
        typer.echo(json.dumps(view.to_json()))
    else:
        Console().print(view)
    if view.verdict is Verdict.NOT_READY:
        to_fix = "; ".join(map(str, looked.assessment.findings))
        raise BadInput(f"{description.dataset}: {view.verdict}: {to_fix}")


@app.command()
def contact_sheet(source: Source, out: Out, *, as_json: AsJson = False) -> None:
    """Draw the images that may have text in their pixels.

    Those DICOM images that do not say whether they have, for a person to look at. The pages stay
    here: only the owner of the new folder can read them.
    """
    from wardround_client.data.deidentify_sheet import write_contact_sheet

    sheet, faults = write_contact_sheet(source, out)
    if as_json:
        typer.echo(json.dumps({"pictures": len(sheet.numbers), "left_out": dict(faults)}))
        return
    typer.echo(f"{len(sheet.numbers)} pictures to look at in {out.name}")
    for why, count in sorted(faults.items()):
        typer.echo(f"not drawn: {count} files: a file {why}")


@app.command()
def deidentify(
    source: Source,
    out: Out,
    directory: Annotated[Path, typer.Option("--dir", help="The hospital's directory: its key.")],
    *,
    shift_dates: Annotated[
        bool, typer.Option("--shift-dates", help="Keep dates, moved by a patient's own days.")
    ] = False,
    sheet: Annotated[
        Path | None, typer.Option(help="The contact sheet that was looked at.")
    ] = None,
    attest: Annotated[
        tuple[str, int],
        typer.Option(
            help="Who looked at it, and at how many pictures.",
            metavar="NAME COUNT",
            show_default=False,
        ),
    ] = ("", 0),
    leave_out: Annotated[
        list[int] | None, typer.Option(help="The number of a picture with text in it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write DICOM images without their patients (PS3.15 Annex E).

    Prints counts; the same are in OUT.json, sealed by the key in the hospital's directory.
    """
    from rich.console import Console

    from wardround_client.data.deidentify_folder import deidentify_folder
    from wardround_client.data.deidentify_keys import pseudonyms_of

    report = deidentify_folder(
        source,
        out,
        pseudonyms=pseudonyms_of(directory),
        shift_dates=shift_dates,
        attestation=_attested(sheet, attest, leave_out or []) if sheet is not None else None,
    )
    if as_json:
        typer.echo(json.dumps(report.to_json()))
    else:
        Console().print(report)


@app.command()
def pseudonyms(
    table: Annotated[Path, typer.Option(help="A CSV file with a column of PatientIDs.")],
    patient: Annotated[str, typer.Option(help="The name of that column.")],
    keep: Annotated[list[str], typer.Option(help="A column that is copied as it is.")],
    out: Annotated[Path, typer.Option(help="A new CSV file.")],
    directory: Annotated[Path, typer.Option("--dir", help="The hospital's directory: its key.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Write a table of labels under the de-identified names."""
    from wardround_client.data.deidentify_keys import pseudonyms_of
    from wardround_client.data.deidentify_labels import write_labels

    own = pseudonyms_of(directory)
    rows = write_labels(table, out, pseudonyms=own, patient=patient, keep=tuple(keep))
    typer.echo(json.dumps({"rows": rows}) if as_json else f"{rows} rows in {out.name}")


def _attested(sheet: Path, attest: tuple[str, int], leave_out: list[int]) -> "Attestation":
    from wardround_client.data.deidentify_folder import Attestation
    from wardround_client.data.deidentify_sheet import read_sheet

    return Attestation(
        by=attest[0],
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        looked_at=attest[1],
        sheet=read_sheet(sheet),
        left_out=frozenset(leave_out),
    )


def _examine(dataset: Path, study: Path, data: Path, *, as_json: bool) -> "DataCheck":
    from rich.console import Console

    from wardround_client.data.check import check as examine
    from wardround_client.data.description import read_description

    seen = examine(read_description(dataset), _contract(study), data)
    if as_json:
        typer.echo(json.dumps(seen.to_json()))
    else:
        Console().print(seen)
    return seen


def _contract(study: Path) -> "Contract":
    """The contract of a study's folder or study.toml, or of a signed study.

    The signature of a signed one is for `review` to check.
    """
    from wardround.canonical import parse_canonical
    from wardround.study.files import (
        STUDY_LIMIT_BYTES,
        checked,
        read_signed_file,
        read_study_plan,
    )
    from wardround.study.manifest import Study

    if study.is_dir():
        study = study / "study.toml"
    if study.suffix == ".toml":
        return read_study_plan(study).contract
    value = parse_canonical(read_signed_file(study), what=study.name, limit_bytes=STUDY_LIMIT_BYTES)
    return checked(Study, value.get("study", {}), what=study.name).contract
