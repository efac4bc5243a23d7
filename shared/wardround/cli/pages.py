"""Help pages: for whom each command is, brackets as they are meant, and the nearest name."""

import difflib
from collections.abc import Iterable, Mapping

import click
from typer.core import TyperGroup

# Every command stands under those who need it, on the first page and in the order of the pages.
SECTIONS = {
    "To try it": ("demo", "rehearse", "compare", "doctor"),
    "At the coordinator": ("coordinator", "invite", "study", "model", "synthesise"),
    "At a hospital": ("hospital", "data", "review", "budget"),
    "At a hospital, with the model": ("predict", "explain", "importance", "personalise"),
    "For whoever wants to check": ("audit",),
}


class Page(click.HelpFormatter):
    """A page without markup: typer escapes brackets as if rich would read them."""

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """Two columns, the second without typer's escapes."""
        plain = [(name, text.replace("\\[", "[")) for name, text in rows]
        super().write_dl(plain, col_max, col_spacing)


class PageContext(click.Context):
    """A command's context whose help is such a page."""

    formatter_class = Page


def with_plain_pages(command: click.Command) -> click.Command:
    """The same command; its pages and those below it are plain."""
    command.context_class = PageContext
    if isinstance(command, TyperGroup):
        command.suggest_commands = False  # click names the nearest one by itself
    if isinstance(command, click.Group):
        for below in command.commands.values():
            with_plain_pages(below)
    return command


def write_sections(formatter: click.HelpFormatter, helps: Mapping[str, str]) -> None:
    """The commands of the first page, each with its one line."""
    widest = max(map(len, helps))
    for title, names in SECTIONS.items():
        with formatter.section(title):
            formatter.write_dl([(name.ljust(widest), helps[name]) for name in names])


def refuse_unknown(name: str, known: Iterable[str], context: click.Context) -> None:
    """Raise click's UsageError for a command that nobody knows, with the nearest one."""
    names = list(known)
    if name in names or name.startswith("-"):
        return
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise click.UsageError(f"No such command {name!r}.{hint}", context)
