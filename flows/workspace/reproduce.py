"""One stage through DVC, in a process of its own: `python -m flows.workspace.reproduce STAGE LOG [INPUTS]`.

What became of the stage is told by the exit status and comes from what DVC did, not from its words:
it reproduced the stage or not, and where it did, it ran the command or took the result from its run
cache. The command's own output goes to standard output, DVC's words to the log.

Where INPUTS are given, as JSON, the stage runs with these or not at all, and DVC notes them or nothing.
"""

import json
import logging
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flows.workspace.inputs import Inputs, Reader, noted_inputs

if TYPE_CHECKING:
    from dvc.repo import Repo

RAN: Final = 0
FAILED: Final = 1
SKIPPED: Final = 64
RESTORED: Final = 65
EDITED: Final = 66


class Edited(Exception):
    """Inputs of the stage are others than those it is to run with; the message says which."""


def main(words: list[str]) -> int:
    """Reproduce one stage, with everything before it taken as done; wait for other DVC commands to end."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.stage.exceptions import StageCmdFailedError

    stage, log, *given = words
    inputs = Inputs(**json.loads(given[0])) if given else None
    _keep_words(Path(log))
    try:
        with Repo(_wait_for_lock=True) as repo:
            restored = _watch_run_cache(repo, inputs)
            done = repo.reproduce(stage, single_item=True, repro_fn=partial(_reproduce, inputs))
    except DvcException as error:
        causes = _causes(error)
        if edited := next((cause for cause in causes if isinstance(cause, Edited)), None):
            print(edited, flush=True)
            return EDITED
        if not any(isinstance(cause, StageCmdFailedError) for cause in causes):
            print(f"dvc: {'; '.join(dict.fromkeys(str(cause) for cause in causes))}", flush=True)
        return FAILED
    if not done:
        return SKIPPED
    return RESTORED if restored else RAN


def _reproduce(inputs: Inputs | None, stage: Any, **options: Any) -> Any:
    """Do what DVC does of a stage, and note nothing that is not what ran."""
    if inputs and (edits := inputs.edits(Reader(stage.repo.root_dir).read(stage, inputs.files.__contains__))):
        raise Edited("; ".join(edits))
    done = stage.reproduce(**options)
    if done:
        _require_noted(inputs, stage)
        stage.dump(update_pipeline=False)
    return done


def _require_noted(inputs: Inputs | None, stage: Any) -> None:
    """Look at what DVC is about to note of a stage that has run."""
    if inputs and (edits := inputs.edits(noted_inputs(stage, stage.repo.root_dir, inputs.files.__contains__))):
        raise Edited("; ".join(edits))


def _watch_run_cache(repo: "Repo", inputs: Inputs | None) -> list[Any]:
    """Return a list that will hold the stage, once its result has come from the run cache."""
    from dvc.stage.cache import StageCache

    restored: list[Any] = []

    class Watched(StageCache):  # type: ignore[misc]
        def restore(self, stage: Any, *arguments: Any, **options: Any) -> None:
            super().restore(stage, *arguments, **options)
            restored.append(stage)  # it raises where it has nothing

        def save(self, stage: Any) -> None:
            _require_noted(inputs, stage)  # what is kept there is put back for whoever has these inputs
            super().save(stage)

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
