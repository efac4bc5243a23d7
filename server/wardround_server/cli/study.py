"""`wardround study`: write, sign and submit studies."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardround.cli.output import AsJson, say

if TYPE_CHECKING:
    from wardround.study.manifest import StudyPlan

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Write, sign and submit studies.",
)

Coordinator = Annotated[Path, typer.Option(help="The coordinator's directory.")]
StudyFile = Annotated[Path, typer.Argument(help="study.toml")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="KEY.KEY=VALUE, changes the study.")
]


@app.command()
def schema(*, as_json: AsJson = False) -> None:
    """Print the JSON Schema of study.toml."""
    from wardround.study.manifest import StudyPlan

    value = StudyPlan.model_json_schema(by_alias=True)
    say(value, json.dumps(value, indent=2), as_json=as_json)


@app.command()
def check(study: StudyFile, overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """Check study.toml, and say what its privacy settings come to."""
    from wardround.study.files import read_study_plan
    from wardround_server.roster import check_noise_fits

    plan = read_study_plan(study, overrides or [])
    check_noise_fits(plan, most_hospitals=plan.rounds.quorum)
    facts: dict[str, object] = {
        "study": plan.name,
        "features": len(plan.contract.features()),
        "attempts": plan.attempts,
        "steps": plan.attempts * plan.training.local_steps,
        "noise_multiplier": plan.noise_multiplier(),
        "epsilon": plan.privacy.epsilon if plan.noise_multiplier() else None,
        "delta": plan.privacy.delta,
        "unit": plan.privacy.unit,
    }
    if plan.statistics is not None:
        facts |= {
            "statistics": plan.statistics.epsilon,
            "noise_patients": _noise_patients(plan),
        }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        typer.echo(f"{name:18} {value}")


@app.command()
def sign(
    study: StudyFile,
    coordinator: Coordinator,
    out: Annotated[Path, typer.Option(help="The signed study to write.")],
    hospital: Annotated[
        list[str], typer.Option(help="NAME=FINGERPRINT of each hospital, as it told you.")
    ],
    overrides: Overrides = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Put the roster into the study and sign it.

    What is written is the file that hospitals approve.
    """
    from wardround.durable import write_durably
    from wardround.study.files import read_study_plan, sign_study
    from wardround_server.home import CoordinatorHome
    from wardround_server.roster import with_roster

    plan = read_study_plan(study, overrides or [])
    signed = with_roster(plan, hospital)
    home = CoordinatorHome(coordinator)
    home.refuse_other_fingerprints(signed)
    write_durably(out, sign_study(signed, home.identity()))
    say(
        {"study": signed.name, "digest": signed.digest, "signed": str(out)},
        f"Signed: {out.name}. Digest, to be compared by every hospital:\n  {signed.digest}",
        as_json=as_json,
    )


@app.command()
def submit(
    signed: Annotated[Path, typer.Argument(help="The signed study.")],
    coordinator: Coordinator,
    *,
    as_json: AsJson = False,
) -> None:
    """Queue a signed study.

    The coordinator runs it when its hospitals have approved.
    """
    from wardround.study.files import read_signed_file
    from wardround_server.home import CoordinatorHome

    study = CoordinatorHome(coordinator).submit(read_signed_file(signed))
    say(
        {"study": study.name, "digest": study.digest},
        f"Submitted: {study.name} {study.digest[:16]}",
        as_json=as_json,
    )


@app.command("list")
def list_(coordinator: Coordinator, *, as_json: AsJson = False) -> None:
    """List submitted studies."""
    from wardround_server.cli.coordinator import status

    status(coordinator, as_json=as_json)


@app.command()
def show(
    study: Annotated[str, typer.Argument(help="Name or beginning of the digest.")],
    coordinator: Coordinator,
    *,
    as_json: AsJson = False,
) -> None:
    """Show one study's state."""
    from wardround_server.home import CoordinatorHome
    from wardround_server.status import study_state

    state = study_state(CoordinatorHome(coordinator), study)
    say(state, json.dumps(state, indent=2), as_json=as_json)


def _noise_patients(plan: "StudyPlan") -> float:
    """Standard deviation of the noise in every count, when a quorum of hospitals takes part."""
    from wardround.protocol.specs import statistics_share_of
    from wardround.statistics.cells import ONE
    from wardround.statistics.noise import deviation_of_sum

    quorum = plan.rounds.quorum
    return round(deviation_of_sum(statistics_share_of(plan, quorum), quorum) / ONE, 2)
