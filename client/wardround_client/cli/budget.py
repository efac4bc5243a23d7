"""`wardround budget`: what was spent on each data set, what is left, and what it would buy."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardround.cli.output import AsJson, say

if TYPE_CHECKING:
    from wardround.study.manifest import Study
    from wardround_client.ledger import Ledger, Release

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Privacy spent on a data set.")

Directory = Annotated[Path, typer.Option("--dir", help="The hospital's directory.")]
Delta = Annotated[float, typer.Option(help="The delta for which epsilon is computed.")]


@app.command()
def show(directory: Directory, delta: Delta = 1e-4, *, as_json: AsJson = False) -> None:
    """Show each data set's budget: spent for ever, over all studies, and left."""
    from wardround_client.home import HospitalHome

    budget = HospitalHome(directory).policy().epsilon_budget
    rows = []
    for dataset, path in _ledgers(directory):
        with _reading(path, dataset) as ledger:
            spent = ledger.spent(delta)
            rows.append(
                {
                    "dataset": dataset,
                    "epsilon_spent": round(spent, 4),
                    "epsilon_budget": budget,
                    "epsilon_left": round(max(0.0, budget - spent), 4),
                    "delta": delta,
                    "exact_releases": len(ledger.exact_releases()),
                    "training_without_noise": ledger.training_was_exact(),
                }
            )
    if as_json:
        typer.echo(json.dumps({"datasets": rows}))
        return
    for row in rows:
        _print_row(row)
    if not rows:
        typer.echo("Nothing was released from any data set of this hospital.")


@app.command()
def history(directory: Directory, delta: Delta = 1e-4, *, as_json: AsJson = False) -> None:
    """List every run that touched a data set, with epsilon after it."""
    lines = []
    for dataset, path in _ledgers(directory):
        with _reading(path, dataset) as ledger:
            lines += [
                {
                    "dataset": dataset,
                    "study": line.study_digest,
                    "run": line.run,
                    "first": line.first_reserved_at,
                    "releases": line.releases,
                    "never_sent": line.never_sent,
                    "exact": line.exact,
                    "epsilon_of_run": round(line.epsilon_of_run, 4),
                    "epsilon_after": round(line.epsilon_after, 4),
                }
                for line in ledger.history(delta=delta)
            ]
    if as_json:
        typer.echo(json.dumps({"history": lines}))
        return
    for line in lines:
        typer.echo(
            f"{line['first']}  {line['dataset']}  study {str(line['study'])[:16]}  "
            f"{line['releases']} releases ({line['never_sent']} never sent, {line['exact']} "
            f"without noise)  epsilon {line['epsilon_of_run']}, then {line['epsilon_after']} in all"
        )


@app.command()
def forecast(
    directory: Directory,
    study: Annotated[str, typer.Argument(help="Name or digest of a study that was shown.")],
    dataset: Annotated[str, typer.Option(help="The data set's name.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Say what a study would take of a data set's budget, before anybody approves it."""
    from wardround.errors import BadInput
    from wardround_client.approval import find_study
    from wardround_client.home import HospitalHome

    home = HospitalHome(directory)
    found = find_study(home, study)
    noised = found.statistics is not None or found.noise_multiplier()
    if found.privacy.delta is None or not noised:
        raise BadInput(f"study {found.name}: it adds no noise, so there is no epsilon to forecast")
    budget = home.policy().epsilon_budget
    after = _after(dict(_ledgers(directory)).get(dataset), dataset, found, budget)
    say(
        {"study": found.name, "dataset": dataset, "epsilon_after": after, "budget": budget},
        f"{dataset}: epsilon {after:.3f} of {budget:g} after {found.name}: it fits.",
        as_json=as_json,
    )


def _after(path: Path | None, dataset: str, study: "Study", budget: float) -> float:
    """The dataset's epsilon once all that is left of `study` is done. Raises RefusedByBudget."""
    from wardround_client.ledger.budget import check_fits
    from wardround_client.remaining import (
        evaluation_left,
        split_name,
        statistics_left,
        training_left,
    )

    releases: tuple[Release, ...] = ()
    if path is not None:
        with _reading(path, dataset) as ledger:
            releases = ledger.releases()
    return check_fits(
        releases,
        training_left(study, releases),
        evaluation_left(study, releases),
        statistics=statistics_left(study, releases),
        split=split_name(dataset, study.evaluation.held_out),
        budget_epsilon=budget,
        delta=study.privacy.delta or 0.0,
    )


def _ledgers(directory: Path) -> list[tuple[str, Path]]:
    from wardround_client.home import HospitalHome

    HospitalHome(directory).membership()  # or it is no hospital's directory
    return [(path.stem, path) for path in sorted((directory / "ledgers").glob("*.sqlite"))]


@contextmanager
def _reading(path: Path, dataset: str) -> "Iterator[Ledger]":
    """Read a ledger beside a daemon that may be writing it."""
    from wardround_client.ledger import Ledger

    with Ledger.read(path, dataset) as ledger:
        yield ledger


def _print_row(row: dict[str, object]) -> None:
    spent, budget = float(str(row["epsilon_spent"])), float(str(row["epsilon_budget"]))
    filled = min(40, round(40 * spent / budget))
    typer.echo(
        f"{row['dataset']}: [{'#' * filled}{'.' * (40 - filled)}] epsilon {spent} of {budget:g} "
        f"spent, {row['epsilon_left']} left (delta {row['delta']:g})"
    )
    if row["training_without_noise"]:
        typer.echo("  NO FORMAL GUARANTEE: an update without noise has left this data set")
    if row["exact_releases"]:
        typer.echo(f"  {row['exact_releases']} releases without noise: no epsilon covers them")
