"""`wardround invite`: a join ticket for one hospital."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def invite(
    hospital: Annotated[str, typer.Argument(help="The hospital's short name.")],
    coordinator: Annotated[Path, typer.Option(help="The coordinator's directory.")],
    out: Annotated[Path | None, typer.Option(help="Write the ticket into this file.")] = None,
) -> None:
    """Make a join ticket: one line, for one use, secret until it is used."""
    from wardround.identity import write_secret
    from wardround_server.home import CoordinatorHome

    home = CoordinatorHome(coordinator)
    ticket = home.enrolment().invite(
        hospital, address=home.settings().address, evidence_key=home.identity().public_key
    )
    if out is None:
        typer.echo(ticket.encode())
        return
    write_secret(out, ticket.encode().encode("ascii") + b"\n")
    typer.echo(f"Ticket for {hospital} in {out.name}, good until {ticket.expires}.")
