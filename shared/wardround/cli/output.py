"""What a command prints: sentences for people, or with --json one object for programs."""

import json
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def say(facts: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Print `facts` as one JSON line, or `text`."""
    typer.echo(json.dumps(facts) if as_json else text)
