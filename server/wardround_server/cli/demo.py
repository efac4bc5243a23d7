"""`wardround demo`: the whole thing on data that comes with the installation."""

import os
import sys
import webbrowser
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class DemoStudy(StrEnum):
    """What can be demonstrated."""

    BREAST = "breast"
    CT = "ct"


@app.command()
def demo(
    study: Annotated[
        DemoStudy, typer.Option(help="breast: 569 real patients; ct: generated CT slices.")
    ] = DemoStudy.BREAST,
    out: Annotated[
        Path | None, typer.Option(help="New folder for everything that is written.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="KEY.KEY=VALUE, changes the study.")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="The policy.toml of every hospital.")] = None,
    *,
    tamper: Annotated[
        bool, typer.Option("--tamper", help="Then change one byte and verify again (exit 7).")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Only the last line's JSON on standard output.")
    ] = False,
) -> None:
    """Train over four hospitals on this machine, and open the privacy audit report."""
    from wardround_server.cli.outcome import play, verify_tampered
    from wardround_server.demo_data import copy_study, write_data
    from wardround_server.rehearsal.script import Rehearsal

    folder = out or _fresh(Path("wardround-demo"))
    material = folder.with_name(folder.name + "-data")
    copy_study(study.value, material / "study")
    write_data(study.value, material / "data")
    rehearsal = Rehearsal(
        study_folder=material / "study",
        data=material / "data",
        out=folder,
        overrides=overrides or [],
        policy=policy,
    )
    code = play(rehearsal, as_json=as_json)
    if tamper:
        verify_tampered(folder / "bundle.zip")
    elif sys.stdout.isatty() and os.environ.get("DISPLAY"):
        webbrowser.open((folder / "report.html").resolve().as_uri())
    raise typer.Exit(code)


def _fresh(path: Path) -> Path:
    """`path`, or the next free name beside it: an earlier demo is never overwritten."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
