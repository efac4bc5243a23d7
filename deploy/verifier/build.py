"""Build `wardround-verify.pyz`: the modules that verification imports, and no others, in one file.

`python deploy/verifier/build.py OUT.pyz`. The same sources give the same bytes. What has to be
installed beside it is in `requirements.txt`; `python -I OUT.pyz verify BUNDLE` runs it.
"""

# ruff: noqa: INP001  # a script that nothing imports
import ast
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "shared"
PACKAGE, ENTRY = "wardround", "wardround.audit.standalone"
GUIDE = "wardround/audit/templates/VERIFY.md"
MAIN = f'"""Verify a Wardround bundle."""\n\nfrom {ENTRY} import main\n\nmain()\n'

_MOMENT = (1980, 1, 1, 0, 0, 0)
_SHEBANG = b"#!/usr/bin/env python3\n"


def main() -> None:
    """Write the file that the command line names."""
    if len(sys.argv) != 2:
        sys.exit("usage: build.py OUT.pyz")
    out = Path(sys.argv[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    modules = modules_of(ENTRY)
    write(out, modules)
    print(f"{out}: {len(modules)} modules, {out.stat().st_size} bytes")


def write(out: Path, modules: dict[str, Path]) -> None:
    """Zip the modules behind a first line that makes the file executable."""
    members = {path.relative_to(SOURCES).as_posix(): path for path in modules.values()}
    contents = {name: path.read_bytes() for name, path in members.items()}
    contents |= {"__main__.py": MAIN.encode(), GUIDE: (SOURCES / GUIDE).read_bytes()}
    contents["LICENSE"] = (ROOT / "LICENSE").read_bytes()
    with out.open("wb") as file:
        file.write(_SHEBANG)
        with zipfile.ZipFile(file, "w") as archive:
            for name in sorted(contents):
                header = zipfile.ZipInfo(name, _MOMENT)
                header.create_system = 3
                header.external_attr = 0o100644 << 16
                archive.writestr(header, contents[name], zipfile.ZIP_DEFLATED)
    out.chmod(0o755)


def modules_of(entry: str) -> dict[str, Path]:
    """The package's modules that `entry` imports, at its top or later, and those that they do."""
    found: dict[str, Path] = {}
    due = [entry]
    while due:
        name = due.pop()
        path = _file_of(name)
        if path is None or name in found:
            continue
        found[name] = path
        due += [parent for parent in _parents(name) if parent not in found]
        due += [each for each in imports_of(path) if each.split(".")[0] == PACKAGE]
    return dict(sorted(found.items()))


def libraries_of(modules: dict[str, Path]) -> frozenset[str]:
    """The libraries outside the standard one that these modules import, at their top or later."""
    named = {each.split(".")[0] for path in modules.values() for each in imports_of(path)}
    return frozenset(named - {PACKAGE} - set(sys.stdlib_module_names))


def imports_of(path: Path) -> Iterator[str]:
    """Every name that may be a module in the imports of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _file_of(name: str) -> Path | None:
    place = SOURCES.joinpath(*name.split("."))
    candidates = (place / "__init__.py", place.with_suffix(".py"))
    return next((path for path in candidates if path.is_file()), None)


if __name__ == "__main__":
    main()
