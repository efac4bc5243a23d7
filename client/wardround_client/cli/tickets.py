"""Reading a join ticket from the command line: the line itself, or @FILE."""

from pathlib import Path

from wardround.errors import BadInput, why

_LIMIT_BYTES = 64 << 10


def read_ticket(argument: str) -> str:
    """The ticket's line. A ticket holds a key, so @FILE keeps it out of the shell's history."""
    if not argument.startswith("@"):
        return argument
    path = Path(argument[1:])
    try:
        if path.stat().st_size > _LIMIT_BYTES:
            raise BadInput(f"ticket file {path.name}: over {_LIMIT_BYTES} bytes")
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"ticket file {path.name}: {why(error)}") from error
