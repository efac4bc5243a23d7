"""`wardround rehearse`: a study's complete federation on one machine."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode=None)


@app.command()
def rehearse(
    study: Annotated[Path, typer.Argument(help="Folder with study.toml and hospitals/NAME.toml.")],
    data: Annotated[Path, typer.Option(help="Folder that the hospitals' paths are relative to.")],
    out: Annotated[Path, typer.Option(help="New folder for everything that is written.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="KEY.KEY=VALUE, changes the study.")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="The policy.toml of every hospital.")] = None,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Only the last line's JSON on standard output.")
    ] = False,
) -> None:
    """Run coordinator and hospitals as real processes over mutual TLS, to the report."""
    from wardround_server.cli.outcome import play
    from wardround_server.rehearsal.script import Rehearsal

    rehearsal = Rehearsal(
        study_folder=study, data=data, out=out, overrides=overrides or [], policy=policy
    )
    raise typer.Exit(play(rehearsal, as_json=as_json))
