"""The order of the tests where several workers share them: what takes long begins first.

A worker takes file after file. Were a file that plays a federation the last, one worker would play
it for minutes while the other has nothing left to do.
"""

from collections import Counter
from pathlib import Path

import pytest


@pytest.hookimpl(trylast=True)  # when what is not to run has been left out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files by the longest time a test asks for, then federations, then the number of tests."""
    if not hasattr(config, "workerinput"):
        return
    asked_s: dict[Path, float] = {}
    federations: set[Path] = set()
    for item in items:
        asked = item.get_closest_marker("timeout")
        time_s = float(asked.args[0]) if asked else 0.0
        asked_s[item.path] = max(time_s, asked_s.get(item.path, 0.0))
        if item.get_closest_marker("federation"):
            federations.add(item.path)
    tests = Counter(item.path for item in items)
    items.sort(
        key=lambda item: (
            -asked_s[item.path],
            item.path not in federations,
            -tests[item.path],
            str(item.path),
        )
    )
