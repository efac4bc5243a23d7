"""Which code runs here: one SHA-256 over the source files of each installed package.

Everybody who has the same release has the same digest, and can compute it from the release. What a
party logs of itself is its word: a changed program can name any digest.
"""

import hashlib
import importlib.util
from functools import cache
from pathlib import Path
from typing import Final

from wardround.canonical import canonical_bytes
from wardround.errors import BadInput

SHARED: Final = "wardround"
OF_HOSPITAL: Final = (SHARED, "wardround_client")
OF_COORDINATOR: Final = (SHARED, "wardround_server")


def code_digest(package: str) -> str:
    """SHA-256 over the canonical JSON of [path, SHA-256] of each .py file, sorted by path.

    Paths are relative to the package's folder, with slashes; 64 hex digits. Raises BadInput when
    the package is not installed as a folder of files.

    >>> len(code_digest("wardround"))
    64
    """
    found = importlib.util.find_spec(package)
    folders = list(found.submodule_search_locations or ()) if found else []
    if len(folders) != 1 or not Path(folders[0]).is_dir():
        raise BadInput(f"code digest: package {package} is not installed as a folder of files")
    folder = Path(folders[0])
    files = sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*.py"))
    listed = [[name, hashlib.sha256(path.read_bytes()).hexdigest()] for name, path in files]
    return hashlib.sha256(canonical_bytes(listed)).hexdigest()


def installed() -> tuple[str, ...]:
    """Our packages that are installed here, in order."""
    known = sorted({*OF_HOSPITAL, *OF_COORDINATOR})
    return tuple(name for name in known if importlib.util.find_spec(name))


@cache
def code_digests(packages: tuple[str, ...]) -> dict[str, str]:
    """`code_digest` of each, by name: OF_HOSPITAL or OF_COORDINATOR. Read once in a process."""
    return {name: code_digest(name) for name in packages}
