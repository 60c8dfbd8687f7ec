"""One stack of real servers for all tests that ask for it, on free ports, beside whatever else runs here."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.ports import free_ports
from infra.stack import down, parts, up
from infra.state import State
from tests.stack.deployed_line import Line, below, kill, make_source

ROOT = Path(__file__).parents[2]
ASKED = "NEEDLEDROP_TEST_STACK"  # 1: start one; a folder: use the stack that runs there, and leave it running
SWIFT = ROOT / ".needledrop" / "stack" / "swift-venv"  # installed once, also for `make stack`

_OURS = ("NEEDLEDROP_", "MLFLOW_", "AWS_", "PREFECT_", "PG")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ.get(ASKED):
        skip = pytest.mark.skip(reason="needs the real servers: make test-stack")
        for item in items:
            if item.get_closest_marker("stack"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def stack() -> Iterator[State]:
    """The stack that tests share, without its worker; a test that stops a part starts it again."""
    asked = os.environ.get(ASKED, "1")
    if asked != "1":
        yield up(Path(asked), worker=False, swift_venv=SWIFT)
        return
    # Not below pytest's folder: PostgreSQL runs as another user, who cannot enter that.
    folder = Path(tempfile.mkdtemp(prefix="needledrop-stack-"))
    folder.chmod(0o755)
    try:
        yield up(folder, free_ports(), worker=False, swift_venv=SWIFT)
    finally:
        down(folder)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def line(stack: State, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """A small project deployed on the stack, with a worker of its own where a test starts one."""
    root = tmp_path_factory.mktemp("line")
    rest = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    quick = {"PREFECT_HOME": str(root / "prefect"), "PREFECT_WORKER_QUERY_SECONDS": "1"}
    made = Line(make_source(root / "source"), root / "home", rest | stack.exports() | quick)
    made.command("deploy", "--jitter", "0")
    yield made
    made.stop()
    left = list(below(root))
    kill(left)
    assert left == [], "nothing is left running"


@pytest.fixture
def deployed(line: Line, stack: State) -> Iterator[Line]:
    """The line, which this process can ask as well; its worker ends with the test, and the stack's own does not run."""
    next(part for part in parts(stack, SWIFT) if part.name == "worker").stop()
    before = dict(os.environ)
    os.environ.update(line.environment | {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"})
    import mlflow
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    # Both libraries may have been told of another server already, in this process.
    mlflow.set_tracking_uri(line.environment["MLFLOW_TRACKING_URI"])
    mlflow.set_registry_uri(line.environment["MLFLOW_TRACKING_URI"])
    ours = {name: line.environment[name.name] for name in (PREFECT_API_URL, PREFECT_API_AUTH_STRING)}
    with temporary_settings(ours):
        yield line
    line.stop()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def stack_environment(stack: State) -> dict[str, str]:
    """The environment of a process that uses the stack, with our code importable."""
    rest = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return rest | stack.exports() | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}


@pytest.fixture
def on_stack(stack_environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """Let this process use the stack, for one test."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(stack_environment)
    yield stack_environment
    os.environ.clear()
    os.environ.update(before)
