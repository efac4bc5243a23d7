"""`wardround budget`: what was spent on each data set, what is left, and what it would buy."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardround.cli.output import AsJson, say

if TYPE_CHECKING:
    from wardround.study.manifest import Study
    from wardround_client.ledger import Ledger, Release, RunSpent
    from wardround_client.ledger.forecast import Forecast

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Privacy spent on a data set.",
)

Directory = Annotated[Path, typer.Option("--dir", help="The hospital's directory.")]
Delta = Annotated[float, typer.Option(help="The delta for which epsilon is computed.")]


@app.command()
def show(directory: Directory, delta: Delta = 1e-4, *, as_json: AsJson = False) -> None:
    """Show what each data set has spent for ever, and has left."""
    from wardround_client.home import HospitalHome

    ledgers = _ledgers(directory)  # first: it says so where no hospital is
    budget = HospitalHome(directory).policy().epsilon_budget
    rows: list[dict[str, object]] = []
    for dataset, path in ledgers:
        with _reading(path, dataset) as ledger:
            spent = ledger.spent(delta)
            rows.append(
                {
                    "dataset": dataset,
                    "epsilon_spent": _rounded(spent),
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
def history(
    directory: Directory,
    delta: Delta = 1e-4,
    file: Annotated[
        Path | None, typer.Option("--picture", help="Also draw the budget over time, as SVG.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List every run that touched a data set, with epsilon after it."""
    lines: list[dict[str, object]] = []
    for dataset, path in _ledgers(directory):
        with _reading(path, dataset) as ledger:
            lines += [_run_row(dataset, line) for line in ledger.history(delta=delta)]
    if file is not None:
        _draw(file, directory, delta)
    if as_json:
        typer.echo(json.dumps({"history": lines}))
        return
    for line in lines:
        typer.echo(
            f"{line['first']}  {line['dataset']}  study {str(line['study'])[:16]}  "
            f"{line['releases']} releases ({line['never_sent']} never sent, {line['exact']} "
            f"without noise)  epsilon {line['epsilon_of_run']}, then {line['epsilon_after']} in all"
        )
        if line["clock_went_back"]:
            typer.echo("  the clock was set back meanwhile: the order is right, the times are not")
    if file is not None:
        typer.echo(f"{file}: the budget over time")


@app.command()
def forecast(
    directory: Directory,
    study: Annotated[str, typer.Argument(help="Name or digest of a study that was shown.")],
    dataset: Annotated[str, typer.Option(help="The data set's name.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Say what a study would take of a data set's budget.

    Before anybody approves it; nothing is charged.
    """
    from wardround.errors import BadInput
    from wardround_client.approval import find_study
    from wardround_client.home import HospitalHome

    home = HospitalHome(directory)
    found = find_study(home, study)
    noised = found.statistics is not None or found.noise_multiplier()
    if found.privacy.delta is None or not noised:
        raise BadInput(f"study {found.name}: it adds no noise, so there is no epsilon to forecast")
    budget, releases = home.policy().epsilon_budget, _releases_of(directory, dataset)
    foreseen = _foreseen(releases, dataset, found, budget)
    if foreseen is not None and not as_json:
        _print_tables(found.name, foreseen)
    after = _after(releases, dataset, found, budget)
    tables: dict[str, object] = {"rounds_that_fit": None, "rounds": [], "epsilons": []}
    if foreseen is not None:
        tables = {
            "rounds_that_fit": foreseen.rounds_that_fit,
            "rounds": [row._asdict() for row in foreseen.costs],
            "epsilons": [row._asdict() for row in foreseen.bought],
        }
    answer = {"study": found.name, "dataset": dataset, "epsilon_after": after, "budget": budget}
    if not releases and not as_json:
        typer.echo(f"{dataset}: nothing was released from a data set of this name so far")
    say(
        answer | tables,
        f"{dataset}: epsilon {after:.3f} of {budget:g} after {found.name}: it fits.",
        as_json=as_json,
    )


def _run_row(dataset: str, line: "RunSpent") -> dict[str, object]:
    return {
        "dataset": dataset,
        "study": line.study_digest,
        "run": line.run,
        "first": line.first_reserved_at,
        "releases": line.releases,
        "never_sent": line.never_sent,
        "exact": line.exact,
        "epsilon_of_run": _rounded(line.epsilon_of_run),
        "epsilon_after": _rounded(line.epsilon_after),
        "clock_went_back": line.clock_went_back,
    }


def _releases_of(directory: Path, dataset: str) -> "tuple[Release, ...]":
    path = dict(_ledgers(directory)).get(dataset)
    if path is None:
        return ()
    with _reading(path, dataset) as ledger:
        return ledger.releases()


def _foreseen(
    releases: "tuple[Release, ...]", dataset: str, study: "Study", budget: float
) -> "Forecast | None":
    """Rounds against epsilon; None for a study that trains nothing, or without noise."""
    from wardround_client.ledger.forecast import Plan, forecast
    from wardround_client.remaining import (
        evaluation_left,
        split_so_far,
        statistics_left,
        training_left,
    )

    whole = training_left(study, ())
    if not whole or study.privacy.delta is None:
        return None
    plan = Plan(
        one_attempt=whole[0],
        attempts=len(training_left(study, releases)),
        evaluation=evaluation_left(study, releases),
        statistics=statistics_left(study, releases),
        split=split_so_far(releases, dataset, study.evaluation.held_out),
    )
    return forecast(releases, plan, budget_epsilon=budget, delta=study.privacy.delta)


def _print_tables(study: str, foreseen: "Forecast") -> None:
    typer.echo(f"rounds of {study}   epsilon after   of the last of them")
    for cost in foreseen.costs:
        typer.echo(
            f"{cost.rounds:>{10 + len(study)}}   {cost.epsilon_after:13.3f}   "
            f"{cost.epsilon_of_last:19.4f}"
        )
    typer.echo(f"the budget has room for {foreseen.rounds_that_fit} more rounds")
    for bought in foreseen.bought:
        typer.echo(f"  up to epsilon {bought.epsilon:.3f}: {bought.rounds} rounds")


def _after(releases: "tuple[Release, ...]", dataset: str, study: "Study", budget: float) -> float:
    """The dataset's epsilon once all that is left of `study` is done. Raises RefusedByBudget."""
    from wardround_client.ledger.budget import check_fits
    from wardround_client.remaining import (
        evaluation_left,
        split_so_far,
        statistics_left,
        training_left,
    )

    return check_fits(
        releases,
        training_left(study, releases),
        evaluation_left(study, releases),
        statistics=statistics_left(study, releases),
        split=split_so_far(releases, dataset, study.evaluation.held_out),
        budget_epsilon=budget,
        delta=study.privacy.delta or 0.0,
    )


def _draw(file: Path, directory: Path, delta: float) -> None:
    from wardround.durable import replace_file
    from wardround.errors import BadInput, why
    from wardround_client.approval import kept_studies
    from wardround_client.home import HospitalHome
    from wardround_client.ledger.picture import course_of, picture

    home = HospitalHome(directory)
    names = {study.digest: study.name for study, _ in kept_studies(home)}
    courses = []
    for dataset, _ in _ledgers(directory):
        releases = _releases_of(directory, dataset)
        budget = home.policy().epsilon_budget
        courses.append(
            course_of(releases, dataset=dataset, budget=budget, delta=delta, names=names)
        )
    try:
        replace_file(file, picture(courses).encode())
    except OSError as error:
        raise BadInput(f"picture {file.name}: {why(error)}") from error


def _ledgers(directory: Path) -> list[tuple[str, Path]]:
    from wardround_client.home import HospitalHome

    HospitalHome(directory).membership()  # or it is no hospital's directory
    return [(path.stem, path) for path in sorted((directory / "ledgers").glob("*.sqlite"))]


@contextmanager
def _reading(path: Path, dataset: str) -> "Iterator[Ledger]":
    """Read a ledger beside a daemon that may be writing it."""
    from wardround_client.home import HospitalHome
    from wardround_client.ledger import Ledger

    with Ledger.read(path, dataset) as ledger:
        HospitalHome(path.parent.parent).check_ledger(ledger, dataset)
        yield ledger


def _rounded(epsilon: float) -> float | None:
    """Four decimals; None for an epsilon without bound, which JSON has no number for."""
    return round(epsilon, 4) if math.isfinite(epsilon) else None


def _print_row(row: dict[str, object]) -> None:
    budget, spent = float(str(row["epsilon_budget"])), row["epsilon_spent"]
    filled = 40 if spent is None else min(40, round(40 * float(str(spent)) / budget))
    said = "without bound" if spent is None else spent
    typer.echo(
        f"{row['dataset']}: [{'#' * filled}{'.' * (40 - filled)}] epsilon {said} of {budget:g} "
        f"spent, {row['epsilon_left']} left (delta {row['delta']:g})"
    )
    if row["training_without_noise"]:
        typer.echo("  NO FORMAL GUARANTEE: an update without noise has left this data set")
    if row["exact_releases"]:
        several = row["exact_releases"] != 1
        which = "releases without noise: no epsilon covers them"
        one = "release without noise: no epsilon covers it"
        typer.echo(f"  {row['exact_releases']} {which if several else one}")
