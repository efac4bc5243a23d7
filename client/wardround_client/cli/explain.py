"""`wardround explain`: why the model says what it says of one patient."""

import json
from pathlib import Path
from typing import Annotated

import typer

from wardround.cli.output import AsJson
from wardround_client.cli.predict import DescriptionFile, Directory, Folder, OwnModel, StudyName

app = typer.Typer(add_completion=False, rich_markup_mode=None)

PatientKey = Annotated[str, typer.Option("--patient", help="The patient's key.")]
Out = Annotated[Path, typer.Option("--out", help="New folder for text, JSON and pictures.")]
ChannelName = Annotated[
    str | None, typer.Option("--channel", help="What to explain, where the study predicts several.")
]


@app.command()
def explain(  # noqa: PLR0913  # one argument for each option
    directory: Directory,
    study: StudyName,
    description: DescriptionFile,
    data: Folder,
    patient: PatientKey,
    out: Out,
    *,
    channel: ChannelName = None,
    personalised: OwnModel = False,
    as_json: AsJson = False,
) -> None:
    """Show what moved a patient's score.

    Tables and series: integrated gradients. Images: Grad-CAM and occlusion. Nothing leaves.
    """
    from wardround_client.cli.predict import opened
    from wardround_client.explanation.explain import explain as of_one
    from wardround_client.explanation.explain import write_explanation
    from wardround_client.prediction.own_files import refuse_existing

    refuse_existing(out)
    support, described = opened(directory, study, description, None, personalised=personalised)
    found = of_one(support, described, data, patient=patient, channel=channel)
    write_explanation(found, out)
    typer.echo(json.dumps(found.to_json()) if as_json else "\n".join(found.lines()))
