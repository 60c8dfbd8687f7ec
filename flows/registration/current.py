"""What is registered is what ran: files of the very params and code that go with them, until the version is made."""

from typing import Final

from components.inputs import changed, marks
from components.settings import PARAMS_FILE
from flows.errors import Refusal
from flows.registration.code import MODEL_FILE
from flows.workspace.graph import ALWAYS, NOT_CACHED, Graph, load_graph
from flows.workspace.workspace import LOCK_FILE, Workspace

_BACK: Final = "run the same again, or put that back and run `needledrop register`"


class Held:
    """Params, graph and code of a workspace, which must stay as they are while they are copied into a version."""

    def __init__(self, workspace: Workspace) -> None:
        """Hold to them as they are now."""
        self._root = workspace.root
        names = (PARAMS_FILE, LOCK_FILE, "dvc.yaml", "components")
        self._paths = [*(workspace.root / name for name in names), MODEL_FILE]
        self._before = marks(*self._paths)

    def require_unchanged(self) -> None:
        """Check that none of them was written since.

        Raises:
            Refusal: one was; it is named.
        """
        if edited := changed(self._before, marks(*self._paths)):
            name = edited[0].removeprefix(f"{self._root}/")
            raise Refusal(f"{name} was edited while the result was being registered: it is not; run the same again")


def require_made(graph: Graph) -> None:
    """Check that the files are what the params and the code of now have made.

    Raises:
        Refusal: they are not; the message says what is another.
    """
    for stage in graph.stages:
        reasons = [why for why in stage.reasons if why != ALWAYS and not why.endswith(NOT_CACHED)]
        if reasons:
            raise Refusal(f"stage '{stage.name}' is out of date ({'; '.join(reasons)}): run `needledrop retrain`")


def edits_since(begun: Graph) -> str | None:
    """Say what was edited of the inputs of stages since `begun` was read; None where nothing was."""
    now = load_graph(begun.root)
    if [stage.name for stage in begun.stages] != [stage.name for stage in now.stages]:
        return f"the stages of dvc.yaml changed since this run began, and an edit belongs to the next one: {_BACK}"
    edits = dict.fromkeys(edit for stage in begun.stages for edit in stage.inputs.edits(now[stage.name].inputs))
    if not edits:
        return None
    return f"{'; '.join(edits)} since this run began, and an edit belongs to the next one: {_BACK}"
