"""`wardround model`: the models that finished runs have left."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from wardround.cli.output import AsJson, say

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="List and export trained models.",
)


class Format(StrEnum):
    """How a model is written."""

    SAFETENSORS = "safetensors"
    ONNX = "onnx"


Coordinator = Annotated[Path, typer.Option(help="The coordinator's directory.")]
FileFormat = Annotated[Format, typer.Option("--format", help="safetensors, or onnx beside it.")]


@app.command("list")
def list_(
    coordinator: Coordinator,
    *,
    as_json: AsJson = False,
) -> None:
    """List the models of finished studies."""
    from wardround_server.home import CoordinatorHome
    from wardround_server.status import study_states

    home = CoordinatorHome(coordinator)
    done = [s for s in study_states(home) if s["state"] == "done"]
    done = [s for s in done if (home.run_folder(s["digest"]) / "model.safetensors").exists()]
    rows = [{"study": state["study"], "digest": state["digest"]} for state in done]
    if as_json:
        typer.echo(json.dumps({"models": rows}))
        return
    for row in rows:
        typer.echo(f"{row['study']:24} {row['digest'][:16]}")
    if not rows:
        typer.echo("No study has ended with a model.")


@app.command()
def export(
    study: Annotated[str, typer.Argument(help="Name or beginning of the digest.")],
    coordinator: Coordinator,
    out: Annotated[Path, typer.Option(help="New folder for model, card, report and bundle.")],
    file_format: FileFormat = Format.SAFETENSORS,
    *,
    as_json: AsJson = False,
) -> None:
    """Copy a model with its card, report and bundle.

    It never travels without its evidence. With --format onnx also as model.onnx, checked against
    the network that it was made from.
    """
    from wardround_server.exporting import exported, write_export
    from wardround_server.home import CoordinatorHome

    files = exported(CoordinatorHome(coordinator), study, onnx=file_format is Format.ONNX)
    write_export(files, out)
    found = {"model": "model.safetensors", "onnx": "model.onnx", "card": "MODEL_CARD.md"}
    facts = {key: str(out / name) for key, name in found.items() if name in files}
    say(facts, f"Written to {out.name}: {', '.join(sorted(files))}.", as_json=as_json)
