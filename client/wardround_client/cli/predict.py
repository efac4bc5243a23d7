"""`wardround predict`: decision support for the patients of a described file."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardround.cli.output import AsJson

if TYPE_CHECKING:
    from wardround_client.data.description import DatasetDescription
    from wardround_client.prediction.support import Support

app = typer.Typer(add_completion=False, rich_markup_mode=None)

Directory = Annotated[Path, typer.Option("--dir", help="The hospital's directory.")]
StudyName = Annotated[str, typer.Option("--study", help="Name or digest of an approved study.")]
DescriptionFile = Annotated[
    Path, typer.Option("--description", help="The patients' description (TOML); no label needed.")
]
Folder = Annotated[Path, typer.Option("--data", help="The folder that holds their files.")]
PatientKey = Annotated[str | None, typer.Option("--patient", help="Only the patient of this key.")]
ReportFile = Annotated[
    Path | None,
    typer.Option("--report", help="The run's report.json: adds what all hospitals saw."),
]
OwnModel = Annotated[
    bool, typer.Option("--personalised", help="With the model of `wardround personalise`.")
]
FhirFile = Annotated[
    Path | None, typer.Option("--fhir", help="New file: a FHIR RiskAssessment a line (NDJSON).")
]
ImputeFile = Annotated[
    Path | None,
    typer.Option("--impute", help="New file: what an autoencoder expects of missing values (CSV)."),
]
CodeFile = Annotated[
    Path | None, typer.Option("--representation", help="New file: each patient's code (CSV).")
]


@app.command()
def predict(  # noqa: PLR0913  # one argument for each option
    directory: Directory,
    study: StudyName,
    description: DescriptionFile,
    data: Folder,
    patient: PatientKey = None,
    *,
    report: ReportFile = None,
    fhir: FhirFile = None,
    impute: ImputeFile = None,
    representation: CodeFile = None,
    personalised: OwnModel = False,
    as_json: AsJson = False,
) -> None:
    """Say each patient's calibrated risk with its doubt, or give a reason not to.

    With the model that the hospital kept at the end of the study. Nothing leaves the hospital.
    """
    from wardround_client.prediction.own_files import refuse_existing
    from wardround_client.prediction.predict import predict as answer

    for path in (fhir, impute, representation):
        refuse_existing(path)
    support, described = opened(directory, study, description, report, personalised=personalised)
    found = answer(support, described, data, patient=patient)
    if fhir is not None:
        from datetime import UTC, datetime

        from wardround_client.prediction.fhir import risk_assessments
        from wardround_client.prediction.own_files import write_new

        now = datetime.now(UTC)
        resources = risk_assessments(found, dataset=described.dataset, now=now)
        content = "".join(json.dumps(resource) + "\n" for resource in resources)
        write_new(fhir, content.encode())
    if impute is not None or representation is not None:
        _reconstruct(support, described, data, patient, impute, representation)
    typer.echo(json.dumps(found.to_json()) if as_json else "\n".join(found.lines()))


def _reconstruct(
    support: "Support",
    description: "DatasetDescription",
    data: Path,
    patient: str | None,
    impute: Path | None,
    representation: Path | None,
) -> None:
    """Write what the autoencoder says beside its score, of the patients within the contract."""
    from wardround_client.prediction import reconstruction
    from wardround_client.prediction.described import read_described
    from wardround_client.prediction.own_files import write_new
    from wardround_client.prediction.predict import only

    asked = read_described(description, support.standing.study.contract, data)
    encoded = (asked if patient is None else only(asked, patient)).encoded
    asked_for = (
        (impute, reconstruction.imputation),
        (representation, reconstruction.representation),
    )
    for path, made in asked_for:
        if path is not None:
            write_new(path, made(support, encoded).encode())


def opened(
    directory: Path, study: str, description: Path, report: Path | None, *, personalised: bool
) -> "tuple[Support, DatasetDescription]":
    """The hospital's decision support for a study, and the file that it is asked about."""
    from wardround_client.data.description import read_description

    described = read_description(description)
    return support_for(directory, study, report, personalised=personalised), described


def support_for(
    directory: Path, study: str, report: Path | None, *, personalised: bool = False
) -> "Support":
    """The hospital's decision support for a study, by the released model or its own one."""
    from wardround.errors import BadInput
    from wardround_client.approval import approved_study, find_study
    from wardround_client.home import HospitalHome
    from wardround_client.prediction.standing import standing
    from wardround_client.prediction.support import Support

    home = HospitalHome(directory)
    if personalised and report is not None:
        raise BadInput("--report: it is about the released model, not about a personalised one")
    approved = approved_study(home, find_study(home, study))
    found = standing(home, approved.study, report=report)
    if personalised:
        from wardround_client.personalisation.kept import personalised as own

        found = own(home, found)
    return Support.of(found, approved)
