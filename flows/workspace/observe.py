"""Look at a corpus that lives outside the workspace, so that DVC can tell whether it changed.

DVC watches files of the workspace. A folder elsewhere or a bucket is listed into one such file; the
corpus stage depends on that.
"""

import contextlib

from flows.errors import Refusal
from flows.workspace.begin import check
from flows.workspace.workspace import Workspace


class Unanswered(Refusal):
    """The network or the service failed; the same question may be answered a moment later."""


def is_outside(workspace: Workspace) -> bool:
    """Tell whether the corpus lives outside the workspace."""
    return check(workspace).corpus.kind != "demo"


def observe(workspace: Workspace) -> str | None:
    """List the media of a folder or a bucket; say whether they changed, or None for a rendered corpus.

    Raises:
        Refusal: the place cannot be listed; it is named.
        Unanswered: the service did not answer.
    """
    section = check(workspace).corpus
    if section.kind == "demo":
        return None
    from components.corpus.listing import observe as look

    try:
        with contextlib.chdir(workspace.root):  # its paths are from there
            changed = look(section)
    except ValueError as error:
        raise (Unanswered if _is_passing(error) else Refusal)(str(error)) from error
    return f"corpus: {'changed' if changed else 'unchanged'} since the last look ({section.source})"


def _is_passing(error: BaseException) -> bool:
    """Tell whether a network error or a failure of the server stands behind `error`."""
    from botocore.exceptions import ClientError, HTTPClientError

    cause = error.__context__
    if isinstance(cause, ClientError):
        return int(cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) >= 500
    return isinstance(cause, HTTPClientError)
