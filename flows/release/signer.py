"""Who decides: whom an MLflow server knows by this process's credentials, else who says so."""

import getpass

from flows.environment import redact
from flows.errors import USAGE, Refusal
from flows.registry.user import confirmed_user
from flows.release.approvals import folded
from flows.release.rules import name_of
from flows.workspace.platform import Platform


def signer(platform: Platform, by: str | None) -> str:
    """Return the name that goes into the audit log.

    Args:
        platform: names the MLflow server, which may keep users.
        by: the name that was given; None: the server's user, or where it keeps none the user of this machine.

    Raises:
        Refusal: no name can be told, or the server knows this process by another one.
    """
    given = None if by is None else name_of(by)
    user = confirmed_user(platform)
    if user is None:
        return given or name_of(_machine_user())
    if given is not None and folded(given) != folded(user):
        raise Refusal(
            f"MLflow at {redact(platform.tracking_uri)} knows you as {user}, so you cannot sign as {given}; sign as {user}, or "
            "with that person's MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; nothing changed"
        )
    return user


def _machine_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise Refusal("this machine's user has no name: say who does it with --by NAME", USAGE) from None
