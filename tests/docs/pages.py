"""The documentation as blocks: what stands between fences, with its section and its marker.

A marker is an HTML comment on the line before a fence; readers do not see it:
`<!-- background -->` starts a service, `<!-- exit 7 -->` says how the block ends,
`<!-- file NAME -->` writes the block into a file that later blocks use.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
README = REPOSITORY / "README.md"
CONTRIBUTING = REPOSITORY / "CONTRIBUTING.md"
FOLDER = REPOSITORY / "shared" / "docs"
PAGES = (README, CONTRIBUTING, *sorted(FOLDER.glob("*.md")))

_FENCE = re.compile(
    r"^(?:<!-- (?P<marker>[^>]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_SPAN = re.compile(r"`([^`]+)`")
_SHELL = {"sh", "console"}


@dataclass(frozen=True)
class Command:
    """One command line of a block, and the output that the page shows for it (None: not shown)."""

    line: str
    shown: str | None = None


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: str
    section: str
    line: int
    language: str
    marker: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}, line {self.line} ({self.section})"

    @property
    def is_shell(self) -> bool:
        return self.language in _SHELL

    def commands(self) -> list[Command]:
        """The command lines: those after `$ ` in console blocks, all lines in sh blocks."""
        text = self.text.replace("\\\n", " ")
        if self.language == "sh":
            lines = [shlex.join(shlex.split(line, comments=True)) for line in text.splitlines()]
            plain = [line.partition("  #")[0].strip() for line in text.splitlines()]
            return [Command(line) for line, bare in zip(plain, lines, strict=True) if bare]
        commands = []
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            line, _, shown = part.partition("\n")
            commands.append(Command(line, shown))
        return commands


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        headings = re.findall(r"^#+ (.+)$", re.sub(_FENCE, "", before), re.MULTILINE)
        found.append(
            Block(
                page=page.name,
                section=headings[-1],
                line=before.count("\n") + 1,
                language=match["language"],
                marker=match["marker"] or "",
                text=match["text"],
            )
        )
    return found


def all_blocks() -> list[Block]:
    return [block for page in PAGES for block in blocks(page)]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def spans(page: Path) -> Iterator[str]:
    """What stands between backticks in the running text, on one line."""
    for span in _SPAN.findall(prose(page)):
        yield " ".join(span.split())
