"""Command lines in the pages against the real command line: they are parsed, nothing is run."""

import shlex

import click

from wardround.cli.main import COMMANDS, load


def parse(line: str) -> None:
    """Parse a whole `wardround ...` line. Raises click.ClickException as the real one would."""
    words = _words(line)
    command, rest, path = _walk(words)
    command.make_context(" ".join(path), rest)


def find(text: str) -> None:
    """A command in running text, perhaps without its arguments: it and its options exist.

    Raises click.ClickException naming what does not exist.
    """
    command, rest, path = _walk(_words(text))
    known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    for word in rest:
        name = word.partition("=")[0]
        if word.startswith("-") and name not in {*known, "--help"}:
            raise click.NoSuchOption(name, f"{' '.join(path)} has no option {name}")


def is_command(text: str) -> bool:
    """Whether a span of running text means a command: `wardround x`, or `group verb`."""
    words = text.split()
    if not words:
        return False
    return words[0] == "wardround" or (words[0] in COMMANDS and len(words) > 1)


def leaves() -> dict[str, click.Command]:
    """Every command that can be run, by its words."""
    found = {}
    for name in COMMANDS:
        command = load(name)
        if isinstance(command, click.Group):
            found |= {f"{name} {verb}": leaf for verb, leaf in command.commands.items()}
        else:
            found[name] = command
    return found


def _words(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    for sign in (">", "|"):
        if sign in words:
            words = words[: words.index(sign)]
    return words[1:] if words[0].rpartition("/")[2] == "wardround" else words


def _walk(words: list[str]) -> tuple[click.Command, list[str], list[str]]:
    if not words or words[0].startswith("-"):
        return click.Command("wardround"), [], ["wardround"]
    if words[0] not in COMMANDS:
        raise click.UsageError(f"wardround has no command {words[0]}")
    command, rest = load(words[0]), words[1:]
    path = ["wardround", words[0]]
    if isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            raise click.UsageError(f"wardround {words[0]} has no command {rest[0]}")
        path.append(rest[0])
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest, path
