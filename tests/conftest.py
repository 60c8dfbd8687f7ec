"""Order: whole pipelines first, so that a second worker has everything else to do meanwhile."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "tests/pipeline/" not in item.nodeid)
