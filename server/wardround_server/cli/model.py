"""`wardround model`: the models that finished runs have left."""

import json
import shutil
from pathlib import Path
from typing import Annotated

import typer

from wardround.cli.output import AsJson, say

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="List and export trained models."
)

Coordinator = Annotated[Path, typer.Option(help="The coordinator's directory.")]


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
    out: Annotated[Path, typer.Option(help="New folder for model, report and bundle.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Copy a model with its report and bundle: a model never travels without its evidence."""
    from wardround.errors import BadInput
    from wardround_server.home import CoordinatorHome
    from wardround_server.status import study_state

    home = CoordinatorHome(coordinator)
    state = study_state(home, study)
    if state["state"] != "done":
        raise BadInput(f"study {study}: it is {state['state']}, there is no model to export")
    if not (home.run_folder(state["digest"]) / "model.safetensors").exists():
        raise BadInput(f"study {study}: it asks for statistics only, there is no model to export")
    if out.exists():
        raise BadInput(f"--out {out.name}: it exists already, and nothing is overwritten")
    out.mkdir(parents=True)
    for name in ("model.safetensors", "report.html", "report.json", "bundle.zip"):
        shutil.copyfile(home.run_folder(state["digest"]) / name, out / name)
    text = f"Written: {out.name}/model.safetensors, with report and bundle."
    say({"model": str(out / "model.safetensors")}, text, as_json=as_json)
