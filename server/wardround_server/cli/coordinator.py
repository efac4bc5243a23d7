"""`wardround coordinator`: set up and run the coordinator service."""

import json
import logging
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from wardround.cli.output import AsJson, say

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Run the coordinator service.",
)

Directory = Annotated[Path, typer.Argument(help="The coordinator's directory.")]


@app.command()
def init(
    directory: Directory,
    address: Annotated[str, typer.Option(help="HOST:PORT as the hospitals reach it.")],
    listen: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    *,
    as_json: AsJson = False,
) -> None:
    """Make the authority, the evidence key and coordinator.toml."""
    from wardround.ticket import network_address
    from wardround_server.home import CoordinatorHome, CoordinatorSettings

    port = int(network_address(address).rpartition(":")[2])
    settings = CoordinatorSettings(listen=listen, port=port, address=address)
    home = CoordinatorHome.create(directory, settings)
    fingerprint = home.identity().fingerprint
    say(
        {"address": address, "fingerprint": fingerprint},
        f"Coordinator made in {directory.name}. Its evidence key's fingerprint:\n  {fingerprint}",
        as_json=as_json,
    )


@app.command()
def serve(
    directory: Directory,
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Leave after the first study has ended.")
    ] = False,
) -> None:
    """Serve hospitals and run submitted studies, until stopped."""
    logging.getLogger("wardround").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from wardround_server.home import CoordinatorHome
    from wardround_server.service import Coordinator

    try:
        code = Coordinator(CoordinatorHome(directory)).serve(once=once)
    except KeyboardInterrupt:
        sys.stderr.write("wardround coordinator: stopped; a run goes on when it is started again\n")
        return
    raise typer.Exit(code)


@app.command()
def status(directory: Directory, *, as_json: AsJson = False) -> None:
    """Show every study's state, and when our certificate ends."""
    from wardround_server.home import CoordinatorHome
    from wardround_server.status import certificate_state, status_line, study_states

    home = CoordinatorHome(directory)
    states, certificate = study_states(home), certificate_state(home)
    if as_json:
        typer.echo(json.dumps({"studies": states, "certificate": certificate}))
        return
    for state in states:
        typer.echo(status_line(state))
    if not states:
        typer.echo("No study was submitted.")
    if certificate:
        typer.echo(f"certificate until {certificate['ends']}, {certificate['days']} days left")


@app.command()
def remove(
    directory: Directory,
    hospital: Annotated[str, typer.Argument(help="The hospital's short name.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Forget a hospital: its certificate is refused from now on.

    It may be invited anew.
    """
    from wardround_server.home import CoordinatorHome

    CoordinatorHome(directory).enrolment().remove(hospital)
    say({"removed": hospital}, f"{hospital} is not let in any more.", as_json=as_json)


@app.command()
def backup(
    directory: Directory,
    to: Annotated[Path, typer.Option(help="The archive to write; it holds keys: keep it safe.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Copy everything into one archive, readable by its owner only."""
    from wardround_server.status import backup as write

    write(directory, to)
    say({"backup": str(to)}, f"Written: {to.name}", as_json=as_json)
