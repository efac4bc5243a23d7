"""`wardround personalise`: what joining gave this hospital, and a model that is fine-tuned here."""

import json
from typing import Annotated, Literal

import typer

from wardround.cli.output import AsJson
from wardround_client.cli.predict import Directory, StudyName

app = typer.Typer(add_completion=False, rich_markup_mode=None)

ScopeName = Annotated[
    Literal["head", "all"],
    typer.Option("--scope", help="Fine-tune the last layer (head) or the whole network (all)."),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", min=1, max=100_000, help="So many steps; without it, as many as help."),
]


@app.command()
def personalise(
    directory: Directory,
    study: StudyName,
    *,
    scope: ScopeName = "head",
    steps: Steps = None,
    as_json: AsJson = False,
) -> None:
    """Hold the released model against one trained alone and one fine-tuned on your own patients.

    Of the data that you approved for the study: how far to fine-tune is chosen among training
    patients, and held-out patients are scored once. Nothing leaves, and nothing is charged.
    """
    from wardround.randomness import system_randomness
    from wardround_client.cli.predict import support_for
    from wardround_client.home import HospitalHome
    from wardround_client.personalisation.kept import MODEL, PAGE, keep, refuse_a_second_look
    from wardround_client.personalisation.own_models import Scope
    from wardround_client.personalisation.personalise import personalise as compare

    home = HospitalHome(directory)
    support = support_for(directory, study, None)
    refuse_a_second_look(home, support.standing.study)
    result, model = compare(
        support,
        system_randomness,
        scope=Scope(scope),
        steps=steps,
        say=lambda line: typer.echo(line, err=True),
    )
    folder = keep(home, support.standing.study, result, model)
    if as_json:
        typer.echo(json.dumps({**result.to_json(), "page": str(folder / PAGE)}))
        return
    typer.echo("\n".join(result.lines()))
    typer.echo(f"page   {folder / PAGE}")
    if model is not None:
        typer.echo(f"model  {folder / MODEL}: for `predict --personalised`; it must not leave")
