"""`wardround`: one command, its parts loaded when they are used.

A hospital's installation has no coordinator part and the other way round; a command whose part
is missing says so. `--help` imports none of them.
"""

import importlib
import json
import logging
import sys
from pathlib import Path
from typing import Any, NamedTuple

import click
import typer
from typer.core import TyperGroup

from wardround.cli.pages import refuse_unknown, with_plain_pages, write_sections
from wardround.errors import BadInput, RefusedByBudget, WardroundError, why

EXIT_BUG = 5
EXIT_INTERRUPTED = 130


class Command(NamedTuple):
    """Where a command lies, and its one line of help."""

    module: str
    help: str


COMMANDS = {
    "demo": Command("wardround_server.cli.demo", "The whole thing on built-in data."),
    "rehearse": Command("wardround_server.cli.rehearse", "A study's federation on one machine."),
    "compare": Command("wardround_client.cli.compare", "Alone, together, pooled: in a rehearsal."),
    "doctor": Command("wardround.cli.doctor", "Check this installation."),
    "coordinator": Command("wardround_server.cli.coordinator", "Run the coordinator service."),
    "invite": Command("wardround_server.cli.invite", "Make a join ticket for a hospital."),
    "hospital": Command("wardround_client.cli.hospital", "Join, and run the hospital daemon."),
    "data": Command("wardround_client.cli.data", "Describe and check a data set."),
    "study": Command("wardround_server.cli.study", "Write, sign and submit studies."),
    "review": Command("wardround_client.cli.review", "Review and approve studies."),
    "budget": Command("wardround_client.cli.budget", "Privacy spent on a data set."),
    "model": Command("wardround_server.cli.model", "List and export trained models."),
    "synthesise": Command("wardround.cli.synthesise", "Synthetic records from a released model."),
    "predict": Command("wardround_client.cli.predict", "A patient's calibrated risk, or why none."),
    "explain": Command("wardround_client.cli.explain", "Why the model says what it says."),
    "personalise": Command("wardround_client.cli.personalise", "What did joining give us?"),
    "importance": Command("wardround_client.cli.importance", "What the model rests on."),
    "audit": Command("wardround.cli.audit", "Evidence logs, reports, and their verification."),
}
# Commands of a group above whose code lies in a part that not every installation has.
PARTS = {
    "audit": {
        "test": Command("wardround_client.cli.attacks", "Attack a released model, at a hospital."),
    },
}


class LazyGroup(TyperGroup):
    """Lists all commands without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's
        """The names, in the order of the help page."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's
        """The real command, imported now."""
        return load(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        """The lists on the help page, from the table above."""
        write_sections(formatter, {name: command.help for name, command in COMMANDS.items()})

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Like click's. Raises UsageError with the nearest name for one that is not there."""
        refuse_unknown(args[0], COMMANDS, ctx)
        return super().resolve_command(ctx, args)


def load(name: str) -> click.Command:
    """Import one command. Raises BadInput when this installation lacks its part."""
    loaded = _imported(name, COMMANDS[name])
    if isinstance(loaded, click.Group):
        for verb, command in PARTS.get(name, {}).items():
            try:
                loaded.add_command(_imported(f"{name} {verb}", command), verb)
            except BadInput as error:
                loaded.add_command(_missing(command, error), verb)
    return loaded


def _imported(name: str, command: Command) -> click.Command:
    try:
        module = importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        part = "server" if command.module.startswith("wardround_server") else "client"
        raise BadInput(
            f"wardround {name}: module {error.name} is missing; install wardround[{part}]"
        ) from error
    loaded: click.Command = typer.main.get_command(module.app)
    loaded.name = name.rpartition(" ")[2]
    return with_plain_pages(loaded)


def _missing(command: Command, error: BadInput) -> click.Command:
    """A command that is listed and says, when it is called, which part it needs."""

    def refuse() -> None:
        raise error

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(
        None,
        callback=refuse,
        help=f"{command.help} Not installed.",
        context_settings=anything,
        add_help_option=False,
    )


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Hospitals train one model together; no patient row leaves a hospital.\n\n"
    "`wardround COMMAND --help` says what a command takes.",
)


@app.callback()
def _root() -> None:
    """Group of all commands."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every error becomes one line and the exit code of its kind."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    given = sys.argv[1:] if arguments is None else arguments
    sys.exit(run(given))


def run(arguments: list[str]) -> int:
    """Like `main`, returning the exit code."""
    try:
        return _called(arguments)
    except click.ClickException as error:
        error.show()
        return BadInput.exit_code
    except WardroundError as error:
        _say(error, as_json="--json" in arguments)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except OSError as error:
        return _refused_by_system(error, arguments)
    except Exception as error:  # noqa: BLE001  # the rim: a bug is named, its text may hold data
        _say_bug(error)
        return EXIT_BUG


def _called(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, "wardround", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return int(stop.exit_code)
    return code if isinstance(code, int) else 0


def _say(error: WardroundError, *, as_json: bool) -> None:
    sys.stderr.write(f"wardround: {error}\n")
    if as_json:
        answer: dict[str, Any] = {"error": type(error).__name__, "message": str(error)}
        if isinstance(error, RefusedByBudget):
            answer["epsilon_that_fits"] = error.epsilon_that_fits
        sys.stdout.write(json.dumps({**answer, "exit_code": error.exit_code}) + "\n")


def _refused_by_system(error: OSError, arguments: list[str]) -> int:
    """A full disk, a folder that is not ours: no bug of ours.

    A file is named only where its name was typed: one of the data may be called like a patient.
    """
    if not error.strerror:
        _say_bug(error)
        return EXIT_BUG
    name = Path(str(error.filename or "")).name
    what = f"{name}: " if name and any(name in typed for typed in arguments) else ""
    refused = WardroundError(f"{what}{why(error)}, says the operating system; nothing was finished")
    _say(refused, as_json="--json" in arguments)
    return refused.exit_code


def _say_bug(error: Exception) -> None:
    sys.stderr.write(
        f"wardround: this is a bug: {type(error).__name__} at {_place(error)} "
        "(its text is not shown, since it could hold data)\n"
    )


def _place(error: Exception) -> str:
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else "?"


if __name__ == "__main__":
    main()
