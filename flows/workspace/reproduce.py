"""One stage through DVC, in a process of its own: `python -m flows.workspace.reproduce STAGE LOG`.

What became of the stage is told by the exit status and comes from what DVC did, not from its words:
it reproduced the stage or not, and where it did, it ran the command or took the result from its run
cache. The command's own output goes to standard output, DVC's words to the log.
"""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dvc.repo import Repo

RAN: Final = 0
FAILED: Final = 1
SKIPPED: Final = 64
RESTORED: Final = 65


def main(words: list[str]) -> int:
    """Reproduce one stage, with everything before it taken as done; wait for other DVC commands to end."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.stage.exceptions import StageCmdFailedError

    stage, log = words
    _keep_words(Path(log))
    try:
        with Repo(_wait_for_lock=True) as repo:
            restored = _watch_run_cache(repo)
            done = repo.reproduce(stage, single_item=True)
    except DvcException as error:
        if not any(isinstance(cause, StageCmdFailedError) for cause in _causes(error)):
            print(f"dvc: {'; '.join(dict.fromkeys(str(cause) for cause in _causes(error)))}", flush=True)
        return FAILED
    if not done:
        return SKIPPED
    return RESTORED if restored else RAN


def _watch_run_cache(repo: "Repo") -> list[Any]:
    """Return a list that will hold the stage, once its result has come from the run cache."""
    from dvc.stage.cache import StageCache

    restored: list[Any] = []

    class Watched(StageCache):  # type: ignore[misc]
        def restore(self, stage: Any, *arguments: Any, **options: Any) -> None:
            super().restore(stage, *arguments, **options)
            restored.append(stage)  # it raises where it has nothing

    repo.stage_cache = Watched(repo)
    return restored


def _keep_words(log: Path) -> None:
    """Write what DVC says into the log, and nowhere else."""
    handler = logging.FileHandler(log, encoding="utf-8")  # appends: the stage's own lines are there too
    handler.setFormatter(logging.Formatter("dvc: %(message)s"))
    words = logging.getLogger("dvc")
    words.handlers, words.propagate = [handler], False
    words.setLevel(logging.INFO)


def _causes(error: BaseException | None) -> list[BaseException]:
    causes = []
    while error is not None:
        causes.append(error)
        error = error.__cause__
    return causes


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
