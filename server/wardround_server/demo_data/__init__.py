"""What the demo's hospitals export, and the studies that ship with the package."""

from collections.abc import Callable
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from wardround.errors import BadInput

STUDIES = ("breast", "ct")
GENERATED = "generated_ward"


def study_folder(name: str) -> Traversable:
    """The folder of a demo's study: study.toml and hospitals/NAME.toml, inside the package.

    >>> sorted(entry.name for entry in study_folder("breast").iterdir())
    ['hospitals', 'study.toml']
    """
    _known(name)
    return files("wardround_server") / "demo_studies" / name


def copy_study(name: str, folder: Path) -> None:
    """Write a demo's study into `folder`, which is made when it is not there."""
    source = study_folder(name)
    (folder / "hospitals").mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_bytes((source / "study.toml").read_bytes())
    for entry in (source / "hospitals").iterdir():
        (folder / "hospitals" / entry.name).write_bytes(entry.read_bytes())


def write_data(name: str, folder: Path) -> None:
    """Write what the four hospitals of a demo export into `folder`, the same at every call."""
    _known(name)
    _writer(name)(folder)


def write_generated(name: str, folder: Path) -> None:
    """Write the data of a study of deploy/studies that needs none, by the name of its folder."""
    if name != GENERATED:
        raise BadInput(
            f"study folder {name}: its data are due as --data; only {GENERATED} has none"
        )
    from wardround_server.demo_data.ward import write_ward  # noqa: PLC0415  # loads numpy

    write_ward(folder)


def _writer(name: str) -> Callable[[Path], None]:
    # one of them loads scikit-learn, which takes a second
    if name == "breast":
        from wardround_server.demo_data.breast import write_breast  # noqa: PLC0415  # see above

        return write_breast
    from wardround_server.demo_data.ct import write_ct  # noqa: PLC0415  # see above

    return write_ct


def _known(name: str) -> None:
    if name not in STUDIES:
        raise BadInput(f"demo: {name!r} came, one of {', '.join(STUDIES)} is due")
