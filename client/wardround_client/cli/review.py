"""`wardround review`: an officer of the hospital looks at a study and says yes or no."""

import getpass
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardround.cli.output import AsJson, say
from wardround.errors import BadInput

if TYPE_CHECKING:
    from wardround.study.manifest import Study
    from wardround_client.approval import ApprovedStudy
    from wardround_client.home import HospitalHome
    from wardround_client.sign_off import Word

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Review and approve studies.",
)

Directory = Annotated[Path, typer.Option("--dir", help="The hospital's directory.")]
StudyName = Annotated[
    str, typer.Argument(help="Name or digest of a study that was shown, or a signed study's file.")
]


@app.command("list")
def list_(directory: Directory, *, as_json: AsJson = False) -> None:
    """List the studies that were shown to this hospital."""
    from wardround_client.approval import kept_studies
    from wardround_client.home import HospitalHome

    rows = [
        {"study": study.name, "digest": study.digest, "approved": approved}
        for study, approved in kept_studies(HospitalHome(directory))
    ]
    if as_json:
        typer.echo(json.dumps({"studies": rows}))
        return
    for row in rows:
        state = "approved" if row["approved"] else "waits for approval"
        typer.echo(f"{row['study']:24} {str(row['digest'])[:16]}  {state}")
    if not rows:
        typer.echo("No study has been shown to this hospital.")


@app.command()
def show(study: StudyName, directory: Directory, *, as_json: AsJson = False) -> None:
    """Show what a study wants, and whether our policy allows it."""
    from wardround_client.home import HospitalHome

    home = HospitalHome(directory)
    found = _study(home, study)
    verdict = _verdict(home, found)
    if as_json:
        typer.echo(json.dumps({"digest": found.digest, "policy": verdict, **found.to_json()}))
        return
    typer.echo(in_words(found))
    typer.echo(verdict)


@app.command()
def approve(
    study: StudyName,
    directory: Directory,
    dataset: Annotated[Path, typer.Option(help="The data set's description (TOML).")],
    data: Annotated[Path, typer.Option(help="The folder that holds its files.")],
    officer: Annotated[str, typer.Option(help="Who approves.")] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Approve one study digest for one data set. Without it, no round runs."""
    from wardround_client.approval import approve as record
    from wardround_client.home import HospitalHome

    home = HospitalHome(directory)
    found = _study(home, study)
    _refuse_without_data(dataset, data)
    who = officer or getpass.getuser()
    record(
        home,
        found,
        officer=who,
        description=dataset,
        data_folder=data,
        before=lambda approved: _train_alone(home, approved),
    )
    say(
        {"study": found.name, "digest": found.digest, "officer": who, "approved": True},
        f"{who} approved {found.name} ({found.digest[:16]}) for {dataset.name}.",
        as_json=as_json,
    )


@app.command()
def refuse(study: StudyName, directory: Directory, *, as_json: AsJson = False) -> None:
    """Take an approval back.

    The hospital answers no further round of this study.
    """
    from wardround_client.approval import withdraw
    from wardround_client.home import HospitalHome

    home = HospitalHome(directory)
    found = _study(home, study)
    withdraw(home, found)
    say(
        {"study": found.name, "digest": found.digest, "approved": False},
        f"{found.name} ({found.digest[:16]}) is not approved.",
        as_json=as_json,
    )


@app.command("sign-off")
def sign_off(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The run's bundle.zip.")],
    directory: Directory,
    *,
    approve: Annotated[bool, typer.Option("--approve", help="Approve the report.")] = False,
    remark: Annotated[str, typer.Option("--remark", help="Approve it, with this remark.")] = "",
    refuse: Annotated[str, typer.Option("--refuse", help="Refuse it, for this reason.")] = "",
    officer: Annotated[str, typer.Option(help="Who decides.")] = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="The signature file; else beside the bundle.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Decide about a run's report, and sign the decision.

    Its bundle is verified first. The decision goes into the evidence log and is signed with our
    key.
    """
    from datetime import UTC, datetime

    from wardround.audit.container import read_file
    from wardround.durable import write_durably
    from wardround_client.home import HospitalHome
    from wardround_client.sign_off import sign_report

    word = _word(officer, approve=approve, remark=remark, refuse=refuse)
    home = HospitalHome(directory)
    signed = sign_report(home, read_file(bundle), word, now=datetime.now(UTC))
    path = out or bundle.parent / f"{signed.decided.hospital}.dsse.json"
    write_durably(path, signed.file)
    lines = [*signed.verdicts.lines(), signed.decided.in_words(), f"signature: {path}"]
    say(
        {**signed.decided.model_dump(mode="json"), "signature": str(path)},
        "\n".join(lines),
        as_json=as_json,
    )


def _verdict(home: "HospitalHome", study: "Study") -> str:
    from wardround.errors import RefusedByPolicy
    from wardround_client.approval import check_roster
    from wardround_client.policy import check_study

    try:
        check_roster(home, study)
    except RefusedByPolicy as error:
        return f"NOT FOR US: {error}; compare fingerprints with the coordinator by telephone"
    try:
        check_study(home.policy(), study)
    except RefusedByPolicy as error:
        return f"REFUSED by policy: {error}"
    return "the policy of this hospital allows it"


def _refuse_without_data(dataset: Path, folder: Path) -> None:
    """A slip in a path is said to the officer now, not to the coordinator when the run begins."""
    from wardround_client.data.description import read_description

    if not folder.is_dir():
        raise BadInput(f"--data {folder}: no such folder")
    path = read_description(dataset).path
    if not (folder / path).exists():
        raise BadInput(f"--data {folder}: it has no {path}, which {dataset.name} names")


def _train_alone(home: "HospitalHome", approved: "ApprovedStudy") -> None:
    if not approved.study.evaluation.beside:
        return  # PyTorch takes longer to load than everything else here: an officer waits
    from wardround.randomness import system_randomness
    from wardround_client.models_beside import before_approval

    before_approval(home, approved, system_randomness, lambda line: typer.echo(line, err=True))


def _word(officer: str, *, approve: bool, remark: str, refuse: str) -> "Word":
    from wardround.audit.sign_off import Decision
    from wardround_client.sign_off import Word

    if sum((approve, bool(remark), bool(refuse))) != 1:
        raise BadInput("sign-off: one of --approve, --remark TEXT and --refuse TEXT is due")
    who = officer or getpass.getuser()
    if approve:
        return Word(officer=who, decision=Decision.APPROVE)
    decision = Decision.REMARK if remark else Decision.REFUSE
    return Word(officer=who, decision=decision, remark=remark or refuse)


def in_words(study: "Study") -> str:
    """A study for an officer: purpose, what is protected how, who takes part."""
    privacy = study.privacy
    epsilon = "none: NO FORMAL GUARANTEE, no noise is added to updates"
    if privacy.mechanism != "none":
        epsilon = f"{privacy.epsilon:g} over the whole run, delta {privacy.delta:g}"
    lines = [
        f"{study.title}",
        f"  digest      {study.digest}",
        f"  purpose     {' '.join(study.purpose.split())}",
        f"  contact     {study.contact}",
        f"  model       {_model_in_words(study)}",
        f"  mechanism   {_mechanism_in_words(study)}, one {privacy.unit} is protected",
        f"  epsilon     {epsilon}",
        f"  masks       {_masks_in_words(study)}",
        f"  rounds      {study.rounds.count}, at most {study.attempts} attempts",
        f"  evaluation  {_evaluation_in_words(study)}",
        f"  statistics  {_statistics_in_words(study)}",
        f"  data        {_quality_in_words(study)}",
        f"  hospitals   {', '.join(study.names())}",
    ]
    return "\n".join(lines)


def _model_in_words(study: "Study") -> str:
    task, own = study.task, study.task.own
    changed = "" if task.augmentation is None else "; training images are changed at random"
    label = study.contract.label
    if label.train_on == "negative":
        changed += f"; it learns from patients without {label.positive} alone"
    if task.synthesis is not None:
        return (
            f"{task.model}: only its discriminator is trained here; whoever has the model can draw "
            "synthetic records, which are not anonymous for being synthetic"
        )
    if own is None:
        return f"{task.model}{changed}"
    return f"own: {own.name} of package {own.package}, digest {own.digest}{changed}"


def _mechanism_in_words(study: "Study") -> str:
    privacy = study.privacy
    if privacy.mechanism != "distributed":
        return str(privacy.mechanism)
    return f"distributed (against the coordinator and at most {privacy.colluders} hospitals)"


def _masks_in_words(study: "Study") -> str:
    profile, fewest = study.masking.profile.value, study.masking.minimum_hospitals
    groups = "" if study.robust is None else f"; training in {study.robust.groups} random groups"
    if profile == "one-trip":
        return f"one-trip: a sum opens only with all that were asked, at least {fewest}{groups}"
    return (
        f"double-mask: a sum opens when more than two thirds of those asked, at least {fewest}, "
        f"sign who is in it{groups}"
    )


def _evaluation_in_words(study: "Study") -> str:
    plan = study.evaluation
    said = f"{plan.counts} counts of held-out patients, pooled"
    if plan.subgroups:
        columns = ", ".join(grouping.name for grouping in plan.subgroups)
        said += f"; apart by {columns}, in groups of {plan.smallest_group} or more of each outcome"
    if shuffled := plan.shuffled(study.contract):
        said += f"; with each of {', '.join(shuffled)} shuffled among a hospital's patients"
    if plan.beside:
        said += (
            f"; and as exactly by models of each hospital's own ({', '.join(plan.beside)}), which "
            "have no noise: what is counted tells of training patients too"
        )
    return said


def _statistics_in_words(study: "Study") -> str:
    plan = study.statistics
    if plan is None:
        return "none"
    columns = [column.name for column in plan.asked(study.contract)]
    cohorts = [cohort.name for cohort in plan.cohort]
    tries = f", at most {plan.attempts} attempts" if plan.attempts > 1 else ""
    return (
        f"of all patients, epsilon {plan.epsilon:g} in all{tries}: the label, "
        f"{', '.join([*columns, *(f'cohort {name}' for name in cohorts)])}"
        + ("; they also scale the features" if plan.standardise else "")
    )


def _quality_in_words(study: "Study") -> str:
    plan = study.quality
    if plan is None:
        return "no limits beyond the contract's"
    limits = [f"at least {plan.least_patients} patients"]
    if plan.least_per_outcome:
        limits.append(f"{plan.least_per_outcome} of each outcome")
    if plan.most_missing < 1:
        limits.append(f"no column that over {plan.most_missing:.0%} of them lack")
    limits += [
        f"median of {each.column} {each.median[0]:g}..{each.median[1]:g}" for each in plan.expect
    ]
    words = (
        f"{', '.join(limits)}; means within {plan.furthest:g} standard deviations of the others'"
    )
    return f"{words}; who is not ready does not join, which tells it" if plan.refuse else words


def _study(home: "HospitalHome", name: str) -> "Study":
    from wardround.study.files import read_signed_file
    from wardround_client.approval import find_study, keep_study

    path = Path(name)
    return keep_study(home, read_signed_file(path)) if path.is_file() else find_study(home, name)
