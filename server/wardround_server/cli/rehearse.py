"""`wardround rehearse`: a study's complete federation on one machine."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def rehearse(
    study: Annotated[Path, typer.Argument(help="Folder with study.toml and hospitals/NAME.toml.")],
    out: Annotated[Path, typer.Option(help="New folder for everything that is written.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder that the hospitals' paths are relative to.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="KEY.KEY=VALUE, changes the study.")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="The policy.toml of every hospital.")] = None,
    leave_out: Annotated[
        str | None, typer.Option(help="A hospital that takes no part; the model is scored there.")
    ] = None,
    *,
    compare: Annotated[
        bool, typer.Option("--compare", help="Then alone, together, pooled, each one left out.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Only the last line's JSON on standard output.")
    ] = False,
) -> None:
    """Run coordinator and hospitals as real processes over mutual TLS, to the report.

    Without --data the study's own generator writes them beside the new folder, where it has one.
    """
    from wardround.errors import BadInput
    from wardround_server.cli.outcome import play
    from wardround_server.rehearsal.script import Rehearsal

    if compare and leave_out is not None:
        raise BadInput("--compare leaves out each hospital in turn: --leave-out is for one alone")
    rehearsal = Rehearsal(
        study_folder=study,
        data=data or _generated(study, out),
        out=out,
        overrides=overrides or [],
        policy=policy,
        leave_out=leave_out,
        compare=compare,
    )
    raise typer.Exit(play(rehearsal, as_json=as_json))


def _generated(study: Path, out: Path) -> Path:
    """The data of a study that has a generator, written beside the new folder."""
    from wardround_server.demo_data import write_generated

    folder = out.with_name(out.name + "-data")
    write_generated(study.resolve().name, folder)
    return folder
