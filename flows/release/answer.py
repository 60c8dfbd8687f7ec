"""Answer with the code that a model version brings, and no other; a program of its own, in a process of its own.

Its standard input names a file with one request, as JSON: `folder`, the version's files; `rows`, the queries with `video`,
`text` and `k`; `answer`, the file to write. That one holds `rows`, the ranked clips, where `query` is the number of the
query; or `error` and `while`, which is `loading`, `answering` or `refusing` a query. What the version prints goes to the
standard error. The arguments are how many MiB of memory may be asked for, and the id of the process that asks.

This file imports nothing of the platform: the version's packages may bear the same names.
"""

import ctypes
import json
import math
import os
import resource
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

_OURS = ("components", "flows", "needledrop")  # installed here, of today
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


def main() -> None:
    """Read the request, answer it, and end at once, whatever the version has left running."""
    _confine(*map(int, sys.argv[1:]))
    os.dup2(2, 1)  # what is printed must not look like an answer to anybody
    with suppress(ImportError):  # nearly every version wants them, and they take seconds: while the request is prepared
        import mlflow.pyfunc  # noqa: F401
        import torch  # noqa: F401
    path = sys.stdin.read()
    if not path:  # nobody wants to know
        return
    request = json.loads(Path(path).read_text(encoding="utf-8"))
    answer = _answer(Path(request["folder"]), request["rows"])
    part = Path(f"{request['answer']}.{os.getpid()}.part")  # the version may have forked
    part.write_text(json.dumps(answer), encoding="utf-8")
    part.replace(request["answer"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _confine(memory_mib: int, parent: int) -> None:
    """Limit what is asked for, and end when the parent does, however that ends."""
    wanted, (_, most) = memory_mib << 20, resource.getrlimit(resource.RLIMIT_DATA)
    limit = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    with suppress(AttributeError):  # of Linux
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before that
        sys.exit(1)


def _answer(folder: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    doing = "loading"
    try:
        import mlflow.pyfunc
        import pandas as pd

        sys.meta_path.insert(0, _OwnModules(folder / "code"))
        model = mlflow.pyfunc.load_model(str(folder), suppress_warnings=True)
        doing = "answering"
        asked = pd.DataFrame(rows, columns=["video", "text", "k"]).astype({"video": "object", "text": "object"})
        found = model.predict(asked).to_dict("records")
        return {"rows": [{str(name): _plain(value) for name, value in row.items()} for row in found]}
    except MemoryError as error:
        return {"error": f"out of memory {error}".strip(), "while": doing}
    except ValueError as error:
        return {"error": str(error), "while": "refusing" if doing == "answering" else doing}
    except BaseException as error:  # it may call sys.exit
        return {"error": f"{type(error).__name__}: {error}", "while": doing}


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


class _OwnModules(MetaPathFinder):
    """Finds the packages that a version brings in its folder alone.

    Without it a module that the version lacks would be taken from the package of the same name that is installed here.
    """

    def __init__(self, code: Path) -> None:
        self._code = str(code)
        brought = [path.name.removesuffix(".py") for path in code.iterdir()] if code.is_dir() else []
        self._names = {*brought, *_OURS}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in self._names:
            return None
        spec = PathFinder.find_spec(fullname, [self._code] if path is None else path, target)
        if spec is None:
            raise ModuleNotFoundError(f"this version brings no module {fullname!r}", name=fullname)
        return spec


if __name__ == "__main__":
    main()
