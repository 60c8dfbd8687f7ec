"""What stands before any command that changes a workspace."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.params import Params, read_all
from components.settings import PARAMS_FILE, ParamsError
from flows.errors import USAGE, Refusal
from flows.workspace import runs, rwlock
from flows.workspace.lock import hold
from flows.workspace.processes import MARK, reap
from flows.workspace.workspace import Workspace

_current: dict[Path, runs.Run] = {}


@contextmanager
def begin(workspace: Workspace, wait: bool = False) -> Iterator[runs.Run]:
    """Hold the workspace, with its params known to be right and no leftovers of a killed run.

    The command line enters it before it pays for Prefect's start, the flow again inside: the inner
    one gives the outer one's run.

    Raises:
        Refusal: params.yaml is wrong (exit 2), or another command works here (exit 5).
    """
    check(workspace)
    with hold(workspace, wait):
        if workspace.root in _current:
            yield _current[workspace.root]
            return
        lost = runs.unfinished(workspace)
        reap(lost)
        rwlock.mend(workspace)
        runs.close_unfinished(workspace, lost)
        runs.prune(workspace)
        run = runs.Run(workspace)
        _current[workspace.root] = run
        os.environ[MARK] = run.id  # Prefect's temporary server inherits it, and is found after a crash
        try:
            yield run
        except KeyboardInterrupt:
            run.finish("interrupted")
            raise
        except BaseException as error:
            run.finish("failed", error=str(error))
            raise
        finally:
            del _current[workspace.root]
            del os.environ[MARK]


def check(workspace: Workspace) -> Params:
    """Check the whole of params.yaml.

    Raises:
        Refusal: with exit code 2.
    """
    try:
        return read_all(workspace.root / PARAMS_FILE)
    except ParamsError as error:
        raise Refusal(str(error).removeprefix(f"{workspace.root}/"), USAGE) from None
