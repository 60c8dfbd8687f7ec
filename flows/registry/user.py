"""Who this process is to an MLflow server: the name that the server itself confirms."""

from flows.environment import redact
from flows.registry.tracking import Unreachable, answering, connect
from flows.workspace.platform import Platform

_CURRENT, _GET = "/api/2.0/mlflow/users/current", "/api/2.0/mlflow/users/get"  # the second: of older servers


def confirmed_user(platform: Platform) -> str | None:
    """Return the user that the server confirms for the credentials of this process; None where it keeps no users.

    Raises:
        Unreachable: it does not answer, or refuses the credentials.
    """
    uri = platform.tracking_uri
    if not uri.startswith(("http://", "https://")):
        return None
    connect(platform)
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    name = platform.environment.mlflow_username
    with answering(uri):
        for path, asked in ((_CURRENT, {}), *([(_GET, {"username": name})] if name else [])):
            login = get_default_host_creds(uri)  # type: ignore[no-untyped-call]
            answer = http_request(login, path, "GET", params=asked)  # type: ignore[no-untyped-call]
            if answer.status_code != 404:
                found = verify_rest_response(answer, path).json().get("user", {}).get("username")
                if not found:
                    raise Unreachable(f"MLflow at {redact(uri)} does not say which user this is")
                return str(found)
    return None
