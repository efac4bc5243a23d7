"""`wardround hospital`: join a coordinator, and run the daemon."""

import json
import logging
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from wardround.cli.output import AsJson, say

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Join, and run the hospital daemon."
)

Directory = Annotated[Path, typer.Argument(help="The hospital's directory.")]


@app.command()
def join(
    ticket: Annotated[str, typer.Argument(help="The join ticket, or @FILE that holds it.")],
    directory: Annotated[Path, typer.Option("--dir", help="The hospital's directory.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Make this hospital's keys and enrol them with a join ticket."""
    from wardround_client.cli.tickets import read_ticket
    from wardround_client.home import HospitalHome
    from wardround_client.joining import join as enrol

    membership = enrol(read_ticket(ticket), directory)
    HospitalHome(directory).write_default_policy()
    fingerprint = membership.identity.fingerprint
    if as_json:
        typer.echo(json.dumps({"hospital": membership.hospital, "fingerprint": fingerprint}))
        return
    typer.echo(f"{membership.hospital} has joined the coordinator at {membership.address}.")
    typer.echo("Tell the study's other hospitals this fingerprint, by telephone or on paper:")
    typer.echo(f"  {fingerprint}")
    typer.echo(f"Now read {directory.name}/policy.toml: it says what a study may do here.")


@app.command()
def serve(directory: Directory) -> None:
    """Run the daemon: outbound HTTPS only, until it is stopped."""
    logging.getLogger("wardround").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from wardround_client.daemon import Daemon
    from wardround_client.home import HospitalHome

    try:
        Daemon(HospitalHome(directory)).serve()
    except KeyboardInterrupt:
        sys.stderr.write("wardround hospital: stopped\n")


@app.command()
def status(directory: Directory, *, as_json: AsJson = False) -> None:
    """Show what the daemon is doing; nothing of it leaves the hospital."""
    from wardround.errors import BadInput

    path = directory / "status.json"
    if not path.exists():
        raise BadInput(f"{directory.name}: the daemon has not run here yet")
    value = json.loads(path.read_text())
    if as_json:
        typer.echo(json.dumps(value))
        return
    for name, entry in value.items():
        text = ", ".join(f"{k} {v}" for k, v in entry.items()) if isinstance(entry, dict) else entry
        typer.echo(f"{name:10} {text}")


@app.command()
def pause(directory: Directory, *, as_json: AsJson = False) -> None:
    """Refuse new runs until `resume`; a round that runs is finished."""
    _own(directory)
    (directory / "paused").touch()
    text = f"{directory.name} is paused: studies are told so, and ask again."
    say({"paused": True}, text, as_json=as_json)


@app.command()
def resume(directory: Directory, *, as_json: AsJson = False) -> None:
    """Take part again."""
    _own(directory)
    (directory / "paused").unlink(missing_ok=True)
    say({"paused": False}, f"{directory.name} takes part again.", as_json=as_json)


def _own(directory: Path) -> None:
    """Raise BadInput when this is no hospital's directory."""
    from wardround_client.home import HospitalHome

    HospitalHome(directory).membership()
