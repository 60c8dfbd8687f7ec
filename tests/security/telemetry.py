"""Run by test_telemetry.py in a process of its own: uses each library as the platform does, and lists who was called."""

import contextlib
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

CALLED: list[str] = []
_connect, _resolve = socket.socket.connect, socket.getaddrinfo


def connect(self: socket.socket, address: Any) -> None:
    """Let nothing out but to this machine."""
    if self.family != socket.AF_UNIX and str(address[0]) not in ("127.0.0.1", "::1", "localhost"):
        CALLED.append(f"connect {address[0]}")
        raise OSError("no network in this test")
    _connect(self, address)


def resolve(host: Any, *rest: Any, **more: Any) -> Any:
    """A name that is looked up is a call as well: it tells the name server."""
    if host not in (None, "", "192.0.2.1", "127.0.0.1", "::1", "localhost", b"localhost"):
        CALLED.append(f"look up {host!r}")
        raise socket.gaierror("no network in this test")
    return _resolve(host, *rest, **more)


def use(name: str, folder: Path) -> None:
    """Import one library and do with it what the platform does."""
    match name:
        case "mlflow":
            import mlflow

            mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
            mlflow.set_experiment("telemetry")
            with mlflow.start_run():
                mlflow.log_metric("a", 1.0)
                mlflow.log_text("x", "x.txt")
        case "prefect":
            from prefect import flow

            @flow
            def nothing() -> int:
                return 1

            assert nothing.fn() == 1
        case "dvc":
            from dvc.repo import Repo

            Repo.init(str(folder), no_scm=True).close()
            from dvc.cli import main

            main(["version", "-q"])
        case "great_expectations":
            import great_expectations as gx
            import pandas as pd

            context = gx.get_context(mode="ephemeral")
            source = (
                context.data_sources.add_pandas("d").add_dataframe_asset("d").add_batch_definition_whole_dataframe("d")
            )
            batch = source.get_batch({"dataframe": pd.DataFrame({"a": [1]})})
            assert batch.validate(gx.expectations.ExpectColumnToExist(column="a")).success
        case "evidently":
            import pandas as pd
            from evidently import Report
            from evidently.metrics import RowCount

            Report([RowCount()]).run(pd.DataFrame({"a": [1]}), None)
        case "transformers":
            import huggingface_hub
            import transformers

            assert transformers.AutoTokenizer and huggingface_hub.snapshot_download
        case "control":
            for address in ("example.com", "192.0.2.1"):
                with contextlib.suppress(OSError):
                    socket.create_connection((address, 80), timeout=1)
        case _:
            raise AssertionError(name)


def main() -> None:
    """Prepare as the command line does, then use the libraries that are named."""
    folder = Path(sys.argv[1])
    from flows.environment import prepare
    from flows.workspace.workspace import Workspace

    prepare(Workspace(folder).prefect_home)
    socket.socket.connect = connect  # type: ignore[method-assign]
    socket.getaddrinfo = resolve
    for name in sys.argv[2:]:
        use(name, folder)
    time.sleep(1.0)  # some tell home from a thread
    print(json.dumps(CALLED))


if __name__ == "__main__":
    main()
