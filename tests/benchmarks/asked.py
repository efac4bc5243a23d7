"""What a benchmark of studies is asked for on its command line."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path


def studies_parser(description: str, known: Iterable[str], data: Path) -> argparse.ArgumentParser:
    """A parser that knows where the data are and which studies are wanted; all, if none is said."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, default=data, help="the folder of the real data")
    parser.add_argument("--studies", default=",".join(known))
    return parser


def asked(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, known: Iterable[str]
) -> argparse.Namespace:
    """The parsed arguments; a study that is not known ends the process, with those that are."""
    wanted = parser.parse_args(arguments)
    names = list(known)
    if unknown := set(wanted.studies.split(",")) - set(names):
        parser.error(f"--studies: {', '.join(sorted(unknown))}; known are {', '.join(names)}")
    return wanted
