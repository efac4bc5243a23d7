"""Two workers take the longest files first, so that neither ends minutes after the other."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.conftest import pytest_collection_modifyitems

LONG = pytest.mark.timeout(600).mark
PLAYS = pytest.mark.federation.mark


def ordered(config: object, *tests: tuple[str, dict[str, object]]) -> list[str]:
    items = [SimpleNamespace(path=Path(p), get_closest_marker=marks.get) for p, marks in tests]
    pytest_collection_modifyitems(config, items)
    return [item.path.name for item in items]


TESTS = (
    ("few.py", {}),
    ("many.py", {}),
    ("many.py", {}),
    ("plays.py", {"federation": PLAYS}),
    ("asks.py", {}),
    ("asks.py", {"timeout": LONG}),
)


def test_what_asks_for_long_comes_first_then_federations_then_the_fullest_files() -> None:
    due = ["asks.py", "asks.py", "plays.py", "many.py", "many.py", "few.py"]
    assert ordered(SimpleNamespace(workerinput={}), *TESTS) == due


def test_one_process_alone_keeps_the_order_that_it_was_asked_for() -> None:
    assert ordered(SimpleNamespace(), *TESTS) == [name for name, _ in TESTS]
