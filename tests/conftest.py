"""Order: whole pipelines first, so that a second worker has everything else to do meanwhile.

Two workers share two cores: where nothing else is said, a library gets one thread, also in the processes
that tests start. More would wait for each other.
"""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "tests/pipeline/" not in item.nodeid)
