"""`wardround importance`: what a model rests on, over the hospital's held-out patients."""

import json

import typer

from wardround.cli.output import AsJson
from wardround_client.cli.explain import ChannelName, Out
from wardround_client.cli.predict import Directory, StudyName

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def importance(
    directory: Directory,
    study: StudyName,
    out: Out,
    *,
    channel: ChannelName = None,
    as_json: AsJson = False,
) -> None:
    """Show what scores and the model lose when a column is replaced by what the contract allows.

    Over your own held-out patients; nothing leaves, and nothing is charged.
    """
    from wardround_client.cli.predict import support_for
    from wardround_client.explanation.importance import importance as weigh
    from wardround_client.explanation.importance import write_importance
    from wardround_client.prediction.own_files import refuse_existing

    refuse_existing(out)
    weighed = weigh(support_for(directory, study, None), channel=channel)
    write_importance(weighed, out)
    typer.echo(json.dumps(weighed.to_json()) if as_json else "\n".join(weighed.lines()))
