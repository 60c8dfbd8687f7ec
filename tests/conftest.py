"""Order: what takes longest first, so that short files are left to end both workers together; one Prefect server.

Two workers share two cores: a library gets one thread, also in the processes that tests start. More would wait
for each other. A GPU is hidden, so that numbers are everywhere those of a
processor; tests/gpu has the tests that need one.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.workspace.workspace import Workspace

LONGEST = tuple(
    f"tests/{name}/" for name in ("pipeline", "training", "flows", "research", "gate", "release", "deploy", "lineage")
)

GPU_ASKED = "NEEDLEDROP_TEST_GPU"

os.environ["OMP_NUM_THREADS"] = "1"
if GPU_ASKED not in os.environ:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: next((at for at, folder in enumerate(LONGEST) if folder in item.nodeid), len(LONGEST)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Take away DVC's handlers that write to what an earlier test captured: they would stop whoever logs next."""
    for name in [name for name in logging.root.manager.loggerDict if name.partition(".")[0].startswith("dvc")]:
        logger = logging.getLogger(name)
        for handler in [one for one in logger.handlers if getattr(getattr(one, "stream", None), "closed", False)]:
            logger.removeHandler(handler)


@pytest.fixture
def clean_environment() -> dict[str, str]:
    """The environment of a user who has set nothing, with our code importable."""
    ours = {
        name: value for name, value in os.environ.items() if not name.startswith(("NEEDLEDROP_", "MLFLOW_", "AWS_"))
    }
    return ours | {"PYTHONPATH": str(Path(__file__).parents[1]), "COLUMNS": "200"}


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one Prefect server for all tests; other processes may use it too."""
    from flows.environment import prepare

    home = Workspace(tmp_path_factory.mktemp("prefect")).prefect_home
    home.mkdir(parents=True)  # Prefect makes the last folder only
    prepare(home)
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield str(PREFECT_API_URL.value())
