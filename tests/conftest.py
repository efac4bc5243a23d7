"""What holds for all tests: no property fails by the clock, and what takes long begins first.

Where several workers share the tests, each takes file after file. Were a file that plays a
federation the last, one worker would play it for minutes while the other has nothing left to do.
"""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no fault of the code: pytest-timeout ends what hangs.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


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
