"""`wardround audit test`: attack a released model with this hospital's own patients."""

import json
from pathlib import Path
from typing import Annotated

import typer

from wardround.cli.output import AsJson

app = typer.Typer(add_completion=False, rich_markup_mode=None)

Directory = Annotated[Path, typer.Option("--dir", help="The hospital's directory.")]
StudyName = Annotated[str, typer.Option("--study", help="Name or digest of an approved study.")]
ModelFile = Annotated[
    Path | None,
    typer.Option("--model", help="A model.safetensors; without it the copy kept in models/."),
]
Shadows = Annotated[int, typer.Option(help="Shadow models to train, an even number; 0: none.")]
ToLog = Annotated[
    bool,
    typer.Option("--log", help="Log the verdicts: a release without noise."),
]


@app.command("test")
def attack_released(
    directory: Directory,
    study: StudyName,
    model: ModelFile = None,
    shadows: Shadows = 16,
    *,
    log: ToLog = False,
    as_json: AsJson = False,
) -> None:
    """Attack a released model with the hospital's own patients.

    Exit code 7 on a VIOLATION. Nothing leaves the hospital. With --log the verdicts, and no number,
    go into its evidence log, which others may get to see.
    """
    from wardround.errors import VerificationFailed
    from wardround.privacy.verdict import Verdict
    from wardround_client.approval import approved_study, find_study
    from wardround_client.attacks.at_hospital import attack
    from wardround_client.attacks.logged import log_verdicts
    from wardround_client.attacks.released import own_copy, read_released
    from wardround_client.home import HospitalHome
    from wardround_client.records import load_records

    home = HospitalHome(directory)
    approved = approved_study(home, find_study(home, study))
    released = read_released(model or own_copy(home, approved.study), approved.study)
    records = load_records(approved)
    hospital = home.membership().hospital
    outcome = attack(
        approved.study,
        hospital,
        records,
        released,
        shadow_models=shadows,
        tell=lambda text: typer.echo(text, err=True),
    )
    if log:
        log_verdicts(home, approved, records, outcome)
    typer.echo(json.dumps(outcome.to_json()) if as_json else "\n".join(outcome.lines()))
    if outcome.verdict is Verdict.VIOLATION:
        raise typer.Exit(VerificationFailed.exit_code)
