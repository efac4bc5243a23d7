"""Own models as installed packages: sources and a .dist-info beside them, no pip."""

import tomllib
from pathlib import Path

from tests.docs.pages import FOLDER, blocks

from wardround.code_digest import code_digest, code_digests

PAGE = FOLDER / "own-model.md"
NAME, PACKAGE = "ward-net", "ward_net"


def file_on_the_page(name):
    """One file of the how-to."""
    (found,) = (block for block in blocks(PAGE) if block.marker == f"file {name}")
    return found.text


def source():
    """The example's one file."""
    return file_on_the_page("ward-net/ward_net/__init__.py")


def entry_points():
    """What its pyproject.toml registers: {name: where}."""
    project = tomllib.loads(file_on_the_page("ward-net/pyproject.toml"))["project"]
    return project["entry-points"]["wardround.models"]


def install(folder: Path, text=None, *, package=PACKAGE, points=None):
    """As pip leaves it, for whoever has `folder` on the path."""
    (folder / package).mkdir(parents=True)
    (folder / package / "__init__.py").write_text(source() if text is None else text)
    about = folder / f"{package}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    found = entry_points() if points is None else points
    lines = [f"{name} = {where}" for name, where in found.items()]
    (about / "entry_points.txt").write_text("\n".join(["[wardround.models]", *lines, ""]))


def forget(monkeypatch, package=PACKAGE):
    """As a process that has not looked at the package yet."""
    import sys

    monkeypatch.delitem(sys.modules, package, raising=False)
    code_digests.cache_clear()


def task(*, hidden=(8,), digest=None, package=PACKAGE, name=NAME, family="risk"):
    """A study's [task] with the own model that is installed here."""
    own = {"name": name, "package": package, "digest": digest or code_digest(package)}
    return {"family": family, "model": "own", "hidden": list(hidden), "own": own}
