"""`wardround compare`: what a rehearsal can tell, having the data of all hospitals."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardround.cli.output import AsJson

if TYPE_CHECKING:
    from wardround_client.comparison.result import Comparison

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def compare(
    study: Annotated[Path, typer.Argument(help="Folder with study.toml and hospitals/NAME.toml.")],
    data: Annotated[Path, typer.Option(help="Folder that the hospitals' paths are relative to.")],
    out: Annotated[Path, typer.Option(help="Existing folder for the files that are written.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="KEY.KEY=VALUE, changes the study.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="The --out folder of a rehearsal of the same study.")
    ] = None,
    left_out: Annotated[
        str | None, typer.Option(help="Only score the run's model at this hospital, left out.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Hospitals alone, together, with the study's noise, pooled, and with each one left out.

    For a rehearsal: it reads the data of all hospitals, which nobody has in a real federation.
    """
    from wardround.errors import BadInput
    from wardround.randomness import system_randomness
    from wardround_client.comparison import compare as comparing

    if left_out is not None:
        if run is None:
            raise BadInput("--left-out: the run's folder is due as --run")
        _score_left_out(study, data, out, run, left_out, as_json=as_json)
        return
    found = comparing.compare(
        study,
        data,
        overrides=overrides or [],
        run=run,
        randomness=system_randomness,
        say=lambda line: typer.echo(line, err=True),
    )
    comparing.write_comparison(found, out)
    if as_json:
        typer.echo(json.dumps(found.to_json(), sort_keys=True))
        return
    _tell(found)
    typer.echo(f"comparison {out / 'comparison.html'}")


def _tell(found: "Comparison") -> None:
    for line in found.lines:
        value = "NA" if line.whole.value is None else f"{line.whole.value:.3f}"
        typer.echo(f"{line.way}: {found.metric} {value} on {line.whole.patients} patients")


def _score_left_out(
    study: Path, data: Path, out: Path, run: Path, hospital: str, *, as_json: bool
) -> None:
    from wardround.durable import write_durably
    from wardround_client.comparison.result import figure, headline_of
    from wardround_client.comparison.unseen import at_unseen

    found = at_unseen(study, data, run, hospital)
    write_durably(out / "left-out.json", json.dumps(found, indent=1, sort_keys=True).encode())
    own = figure(found["metrics"])
    name = headline_of(found["metrics"])
    if as_json:
        said = {"hospital": hospital, "metric": name, "patients": own.patients, "value": own.value}
        typer.echo(json.dumps({**said, "interval": [own.low, own.high]}))
        return
    value = "NA" if own.value is None else f"{own.value:.3f}"
    typer.echo(f"{hospital} took no part: {name} {value} on {own.patients} patients")
