"""`wardround audit`: look at a party's log, export it, verify a bundle, render its report."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardround.cli.audit_bundle import attach, redact, stamp
from wardround.cli.audit_report import code, report, schema
from wardround.errors import BadInput, VerificationFailed

if TYPE_CHECKING:
    from wardround.audit.check_authentic import Pins
    from wardround.evidence.entry import Entry

_BODY_CHARACTERS = 160

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Evidence logs, reports, and their verification.",
)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON value instead of text.")]
BundleFiles = Annotated[
    list[Path], typer.Argument(metavar="BUNDLE...", help="A bundle.zip, or several of one run.")
]
Directory = Annotated[Path, typer.Option("--dir", help="A hospital's or coordinator's directory.")]
StudyDigest = Annotated[
    str, typer.Option("--study", help="First digits of the study's digest, if there are several.")
]
CoordinatorKey = Annotated[
    str, typer.Option("--coordinator-key", help="The coordinator's fingerprint, from elsewhere.")
]
RosterFile = Annotated[
    Path | None, typer.Option("--roster", help='JSON {"hospital": "fingerprint"}, from elsewhere.')
]

TimeStampingFile = Annotated[
    Path | None,
    typer.Option("--timestamp-authority", help="PEM certificates of who may have stamped it."),
]


@app.command()
def verify(
    bundle: BundleFiles,
    coordinator_key: CoordinatorKey = "",
    roster: RosterFile = None,
    timestamp_authority: TimeStampingFile = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a bundle proves what it claims.

    A verdict each for authentic, intact, complete and recomputed; exit code 7 if one fails. Of
    several bundles of one run also whether they tell one history.
    """
    from wardround.audit.compare import verify_bundles

    answer = verify_bundles(bundle, pins=_pins(coordinator_key, roster, timestamp_authority))
    typer.echo(json.dumps(answer.to_json()) if as_json else "\n".join(answer.lines()))
    if not answer.ok:
        raise typer.Exit(VerificationFailed.exit_code)


app.command()(report)
app.command()(schema)
app.command()(code)
app.command()(attach)
app.command()(stamp)
app.command()(redact)


@app.command()
def log(directory: Directory, study: StudyDigest = "", as_json: AsJson = False) -> None:
    """Print a party's evidence log, checked from its first entry on."""
    for entry in _entries(directory, study):
        typer.echo(entry.to_bytes().decode() if as_json else _line(entry))


@app.command()
def export(
    directory: Directory,
    out: Annotated[Path, typer.Option("--out", help="File for the JSON lines.")],
    study: StudyDigest = "",
    as_json: AsJson = False,
) -> None:
    """Write a party's evidence log as JSON lines.

    Each has its place in the chain.
    """
    from wardround.durable import write_durably
    from wardround.evidence.entry import head_of
    from wardround.evidence.export import write_export

    entries = _entries(directory, study)
    write_durably(out, write_export(entries))
    answer = {"file": str(out), "entries": len(entries), "head": head_of(entries)}
    typer.echo(
        json.dumps(answer) if as_json else f"{out}: {len(entries)} entries, head {answer['head']}"
    )


def _pins(coordinator_key: str, roster: Path | None, time_stamping: Path | None) -> "Pins":
    from wardround.audit.pins import read_pins

    return read_pins(coordinator_key, roster, time_stamping)


def _entries(directory: Path, study: str) -> "list[Entry]":
    from wardround.evidence.export import check_lines

    files = [path for path in _log_files(directory) if not study or study in str(path)]
    if len(files) != 1:
        found = "no evidence log" if not files else f"{len(files)} evidence logs, choose by --study"
        raise BadInput(f"{directory.name}: {found}")
    try:
        uri = f"{files[0].resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            rows = database.execute("SELECT line FROM entry ORDER BY seq").fetchall()
    except sqlite3.Error as error:
        raise BadInput(f"{files[0].name}: not a readable evidence log ({error})") from error
    return check_lines([row[0] for row in rows])


def _log_files(directory: Path) -> list[Path]:
    """Where the parties keep their logs: one per study at a hospital, one per run elsewhere."""
    patterns = ("evidence.sqlite", "evidence/*.sqlite", "studies/*/evidence.sqlite")
    return sorted(path for pattern in patterns for path in directory.glob(pattern))


def _line(entry: "Entry") -> str:
    from wardround.canonical import canonical_bytes
    from wardround.evidence.entry import time_text

    body = canonical_bytes(entry.body).decode()
    shown = body if len(body) <= _BODY_CHARACTERS else body[: _BODY_CHARACTERS - 3] + "..."
    return f"{entry.seq:>6}  {time_text(entry.time)}  {entry.type:<20}  {shown}"
