"""`wardround invite`: a join ticket for one hospital."""

from pathlib import Path
from typing import Annotated

import typer

from wardround.cli.output import AsJson, say

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def invite(
    hospital: Annotated[str, typer.Argument(help="The hospital's short name.")],
    coordinator: Annotated[Path, typer.Option(help="The coordinator's directory.")],
    out: Annotated[Path | None, typer.Option(help="Write the ticket into this file.")] = None,
    *,
    renewal: Annotated[
        bool, typer.Option("--renewal", help="For a hospital whose certificate has ended.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a join ticket: one line, for one use, secret until it is used."""
    from wardround.errors import BadInput
    from wardround.identity import write_secret
    from wardround_server.home import CoordinatorHome

    if out is not None and out.exists():  # before an invitation is made that nobody would get
        raise BadInput(f"{out.name} exists already: a key is never overwritten")
    home = CoordinatorHome(coordinator)
    ticket = home.enrolment().invite(
        hospital,
        address=home.settings().address,
        evidence_key=home.identity().public_key,
        renewal=renewal,
    )
    facts = {"hospital": hospital, "expires": ticket.expires}
    if out is None:
        say({**facts, "ticket": ticket.encode()}, ticket.encode(), as_json=as_json)
        return
    write_secret(out, ticket.encode().encode("ascii") + b"\n")
    text = f"Ticket for {hospital} in {out.name}, good until {ticket.expires}."
    say({**facts, "file": str(out)}, text, as_json=as_json)
