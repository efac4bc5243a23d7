"""`wardround hospital`: join a coordinator, and run the daemon."""

import json
import logging
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from wardround.cli.output import AsJson, say

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Join, and run the hospital daemon.",
)

Directory = Annotated[Path, typer.Argument(help="The hospital's directory.")]


@app.command()
def join(
    ticket: Annotated[str, typer.Argument(help="The join ticket, or @FILE that holds it.")],
    directory: Annotated[Path, typer.Option("--dir", help="The hospital's directory.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Make this hospital's keys and enrol with a join ticket."""
    from wardround.identity import fingerprint as fingerprint_of
    from wardround_client.cli.tickets import read_ticket
    from wardround_client.home import HospitalHome
    from wardround_client.joining import join as enrol

    membership = enrol(read_ticket(ticket), directory)
    HospitalHome(directory).write_default_policy()
    fingerprint = membership.identity.fingerprint
    coordinator = fingerprint_of(bytes.fromhex(membership.coordinator.evidence_key))
    if as_json:
        facts = {"hospital": membership.hospital, "fingerprint": fingerprint}
        typer.echo(json.dumps({**facts, "coordinator_fingerprint": coordinator}))
        return
    typer.echo(f"{membership.hospital} has joined the coordinator at {membership.address}.")
    typer.echo("Tell the coordinator this fingerprint of yours, by telephone or on paper:")
    typer.echo(f"  {fingerprint}")
    typer.echo("and hear on the same call whether its own is")
    typer.echo(f"  {coordinator}")
    typer.echo(f"Now read {directory.name}/policy.toml: it says what a study may do here.")


@app.command()
def serve(directory: Directory) -> None:
    """Run the daemon: outbound HTTPS only, until it is stopped."""
    logging.getLogger("wardround").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from wardround_client.daemon import Daemon
    from wardround_client.home import HospitalHome

    home = HospitalHome(directory)
    home.membership()  # or it is no hospital's directory, and has no status either
    try:
        Daemon(home).serve()
    except KeyboardInterrupt:
        sys.stderr.write("wardround hospital: stopped\n")
        home.show({**home.shown(), "state": "stopped"})


@app.command()
def status(directory: Directory, *, as_json: AsJson = False) -> None:
    """Show what the daemon is doing.

    Nothing of it leaves the hospital.
    """
    from wardround.errors import BadInput
    from wardround_client.home import HospitalHome

    value = HospitalHome(directory).shown()
    if not value:
        _own(directory)
        raise BadInput(
            f"{directory.name}: the daemon has not run here yet; "
            f"`wardround hospital serve {directory.name}` starts it"
        )
    value |= _certificate_of(directory)
    if as_json:
        typer.echo(json.dumps(value))
        return
    for name, entry in value.items():
        parts = entry.items() if isinstance(entry, dict) else [("", entry)]
        typer.echo(f"{name:11} {', '.join(_in_words(*part) for part in parts)}")


@app.command()
def pause(directory: Directory, *, as_json: AsJson = False) -> None:
    """Refuse new runs until `resume`.

    A run that has begun is finished.
    """
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


@app.command()
def renew(
    directory: Directory,
    ticket: Annotated[
        str | None,
        typer.Option(help="A renewal ticket, or @FILE: where the certificate has ended."),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Get a new certificate. The daemon does it by itself from 60 days before the end."""
    from wardround.ticket import format_time
    from wardround_client import renewing
    from wardround_client.cli.tickets import read_ticket
    from wardround_client.home import HospitalHome

    member = HospitalHome(directory).membership()
    if ticket is None:
        ends = format_time(renewing.renew(member))
    else:
        ends = format_time(renewing.renew_with_ticket(member, read_ticket(ticket)))
    text = f"{member.hospital} has a certificate until {ends}; a daemon that runs takes it up."
    say({"hospital": member.hospital, "ends": ends}, text, as_json=as_json)


@app.command("install-service")
def install_service(
    directory: Directory,
    user: Annotated[str | None, typer.Option(help="Who it runs as; the folder's owner.")] = None,
    data: Annotated[Path | None, typer.Option(help="Where the data lie, to be read only.")] = None,
    *,
    only_print: Annotated[bool, typer.Option("--print", help="Write nothing, print it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a hardened systemd unit for the daemon.

    As root; with --print anyone sees what it would write.
    """
    from wardround_client.home import HospitalHome
    from wardround_client.service_unit import UNITS, ServiceUnit, install, own_command, owner_of

    unit = ServiceUnit(
        hospital=HospitalHome(directory).membership().hospital,
        directory=directory.resolve(),
        user=user or owner_of(directory),
        command=own_command(),
        data=None if data is None else data.resolve(),
    )
    if only_print:
        say({"unit": unit.text()}, unit.text().rstrip("\n"), as_json=as_json)
        return
    path = install(unit, UNITS)
    text = f"Written: {path}. Start it: systemctl daemon-reload; systemctl enable --now {path.name}"
    say({"file": str(path)}, text, as_json=as_json)


def _in_words(name: str, value: object) -> str:
    """One figure of the status, as long as a person wants it.

    >>> _in_words("", 2.7164679292657365), _in_words("days", 824)
    ('2.716', 'days 824')
    """
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{name} {text}".lstrip()


def _certificate_of(directory: Path) -> dict[str, dict[str, Any]]:
    """When the certificate ends; empty for a folder that was never joined."""
    from datetime import UTC, datetime

    from wardround.errors import BadInput
    from wardround.renewal import days_left, is_due
    from wardround.ticket import format_time
    from wardround_client.home import HospitalHome

    now = datetime.now(UTC)
    try:
        held = HospitalHome(directory).certificate()
    except BadInput:
        return {}
    found = {"ends": format_time(held.not_valid_after_utc), "days": days_left(held, now)}
    if is_due(held, now):
        found["due"] = f"wardround hospital renew {directory.name}"
    return {"certificate": found}


def _own(directory: Path) -> None:
    """Raise BadInput when this is no hospital's directory."""
    from wardround_client.home import HospitalHome

    HospitalHome(directory).membership()
