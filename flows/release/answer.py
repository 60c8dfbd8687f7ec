"""Do what is asked with the code that a model version brings, and no other; a program of its own, in a process of its own.

Each line of its standard input names a file with a request, as JSON: `do`, what is asked (see `_Version`), with what that
takes; and `answer`, the file to write. That one holds what was found, or `error` and `while`, which is `loading`,
`answering` or `refusing`. A byte on a pipe says that it is there. What the version prints goes to the standard error. The
arguments are how many MiB of memory may be asked for, the id of the process that asks, and the pipe's descriptor.

This file imports nothing of the platform: the version's packages may bear the same names.
"""

import ctypes
import importlib
import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Arrays = tuple["NDArray[np.float32]", "NDArray[np.bool_]"]  # (B, S, D) features and their (B, S) mask

BATCH: Final = 256  # clips; fixed, because the arithmetic of a batch can depend on its size in the last bit
_OURS = ("components", "flows", "needledrop")  # installed here, of today
_MUSIC = "music"
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


class Recommender(Protocol):
    """What a version brings, as far as it is judged by it."""

    def features(
        self, modality: str, sources: Sequence[Mapping[str, Any]]
    ) -> "Sequence[NDArray[np.float32] | Exception]":
        """Return (S, D) features of each source, made by its own extractor, or what stopped them."""
        ...

    def embed(self, arrays: Mapping[str, Arrays]) -> "NDArray[np.float32]":
        """Return (B, E) unit vectors of music, or of queries that show what `arrays` has."""
        ...

    def search(self, query: "NDArray[np.float32]", k: int) -> Sequence[Mapping[str, Any]]:
        """Return the k best clips of its catalogue for a query (E,)."""
        ...


class Asked:
    """A version that is asked about many clips, whose features are given or made once, and kept."""

    def __init__(self, recommender: Recommender) -> None:
        """Ask `recommender`."""
        self._recommender = recommender
        self._kept: dict[str, dict[str, Arrays]] = {}

    def give(self, modality: str, clips: Sequence[str], arrays: Arrays) -> None:
        """Keep features (N, S, D) with their mask (N, S), where the version's extractor would make the same."""
        kept = self._kept.setdefault(modality, {})
        kept.update((clip, (arrays[0][at], arrays[1][at])) for at, clip in enumerate(clips))

    def make(self, modality: str, sources: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Make features with the version's extractor; return why, by clip id, where it cannot.

        Args:
            modality: video, music or text.
            sources: `clip_id`, with `uri`, `start_s` and `end_s`, or with `text`.
        """
        import numpy as np

        failed, kept = {}, self._kept.setdefault(modality, {})
        for source, made in zip(sources, self._recommender.features(modality, sources), strict=True):
            if isinstance(made, Exception):
                failed[source["clip_id"]] = " ".join(f"{made}".split())
            else:
                kept[source["clip_id"]] = (made, np.ones(len(made), bool))
        return failed

    def embed(self, shown: Sequence[str], clips: Sequence[str]) -> "NDArray[np.float32]":
        """Return (N, E) unit vectors of clips that show these modalities: music, or those of a query."""
        import numpy as np

        starts = range(0, len(clips), BATCH)
        return np.concatenate([self._embed(shown, clips[start : start + BATCH]) for start in starts])

    def time(self, shown: Sequence[str], clip: str, k: int) -> float:
        """Return milliseconds from features to the k best clips of the catalogue."""
        arrays = {modality: self._batch(modality, [clip]) for modality in shown}
        began = time.perf_counter()
        self._recommender.search(self._recommender.embed(arrays)[0], k)
        return 1000 * (time.perf_counter() - began)

    def _embed(self, shown: Sequence[str], clips: Sequence[str]) -> "NDArray[np.float32]":
        return self._recommender.embed({modality: self._batch(modality, clips) for modality in shown})

    def _batch(self, modality: str, clips: Sequence[str]) -> Arrays:
        """Return features (B, S, D) of clips with their mask, as long as the longest of them."""
        import numpy as np

        each = [self._kept[modality][clip] for clip in clips]
        features = np.zeros((len(each), max(len(mask) for _, mask in each), each[0][0].shape[1]), np.float32)
        masks = np.zeros(features.shape[:2], bool)
        for at, (values, mask) in enumerate(each):
            features[at, : len(mask)], masks[at, : len(mask)] = values, mask
        return features, masks


class _Version:
    """What can be asked; each method takes what the request holds and returns what the answer holds."""

    doing = "loading"
    _asked: Asked | None = None

    def load(self, folder: str, threads: int) -> dict[str, Any]:
        """Load the version whose files lie in a folder."""
        import mlflow.pyfunc
        import torch

        torch.set_num_threads(threads)
        sys.meta_path.insert(0, _OwnModules(Path(folder) / "code"))
        self._model = mlflow.pyfunc.load_model(folder, suppress_warnings=True)
        self._folder = Path(folder)
        return {}

    def recommend(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Rank the catalogue for queries with `video`, `text` and `k`; `query` is the number of the query."""
        import pandas as pd

        self.doing = "refusing"
        asked = pd.DataFrame(rows, columns=["video", "text", "k"]).astype({"video": "object", "text": "object"})
        found = self._model.predict(asked).to_dict("records")
        return {"rows": [{str(name): _plain(value) for name, value in row.items()} for row in found]}

    def give(self, modality: str, clips: list[str], arrays: str) -> dict[str, Any]:
        """Keep features that lie in a file."""
        import numpy as np

        with np.load(arrays, allow_pickle=False) as held:
            self._judged().give(modality, clips, (held["features"], held["mask"]))
        return {}

    def make(self, modality: str, sources: list[dict[str, Any]]) -> dict[str, Any]:
        """Make features, and say which cannot be made."""
        return {"failed": self._judged().make(modality, sources)}

    def embed(self, shown: list[str], clips: list[str], vectors: str) -> dict[str, Any]:
        """Write the vectors of clips into a file."""
        import numpy as np

        np.save(vectors, self._judged().embed(shown, clips), allow_pickle=False)
        return {}

    def time(self, shown: list[str], clip: str, k: int) -> dict[str, Any]:
        """Time one query."""
        import torch

        torch.set_num_threads(1)  # one query is too small to share out, and threads that wait would be timed too
        return {"ms": self._judged().time(shown, clip, k)}

    def _judged(self) -> Asked:
        self.doing = "answering"
        if self._asked is None:
            brought = self._model.unwrap_python_model()
            if not hasattr(brought, "features"):
                brought = _Earlier(brought, self._folder)
            self._asked = Asked(brought)
        return self._asked


class Parts:
    """A model and a catalogue of whatever day, asked by the names that their methods always had."""

    def __init__(self, model: Any, catalogue: Any) -> None:
        """Ask these."""
        self._model, self._catalogue = model, catalogue

    def embed(self, arrays: Mapping[str, Arrays]) -> "NDArray[np.float32]":
        """See `Recommender.embed`."""
        if _MUSIC in arrays:
            return self._model.embed_music(arrays[_MUSIC])  # type: ignore[no-any-return]
        return self._model.embed_query(video=arrays.get("video"), text=arrays.get("text"))  # type: ignore[no-any-return]

    def search(self, query: "NDArray[np.float32]", k: int) -> Sequence[Mapping[str, Any]]:
        """See `Recommender.search`."""
        return self._catalogue.search(query, k)  # type: ignore[no-any-return]


class _Earlier(Parts):
    """The methods of a `Recommender` for a version from before recommenders had them: by the names that its parts had."""

    def __init__(self, recommender: Any, folder: Path) -> None:
        if not all(hasattr(recommender, name) for name in ("_model", "_catalogue", "_extractors")):
            raise TypeError("it has no method that embeds music, so it cannot be ranked")
        super().__init__(recommender._model, recommender._catalogue)
        self._extractors, self._files = recommender._extractors, folder / "artifacts"

    def features(self, modality: str, sources: Sequence[Mapping[str, Any]]) -> list[Any]:
        import numpy as np

        of = _theirs("features.source").Source
        asked = [
            of(
                one["clip_id"],
                "",
                one.get("uri", ""),
                one.get("start_s", 0.0),
                one.get("end_s", 0.0),
                one.get("text", ""),
            )
            for one in sources
        ]
        made = dict(self._extractor(modality).extract(asked))
        each = (made[one["clip_id"]] for one in sources)
        return [one if isinstance(one, Exception) else np.asarray(one, np.float16).astype(np.float32) for one in each]

    def _extractor(self, modality: str) -> Any:
        if modality not in self._extractors:
            kinds = _theirs("features.params").FeaturesParams
            params = _theirs("settings").read_section(kinds, "features", self._files / "params.yaml")
            made = _theirs("features.extractor").build_extractor(params.model_copy(update={"workers": 1}), modality)
            config = json.loads((self._files / "model/config.json").read_text(encoding="utf-8"))
            if _theirs("store").spec_digest(made.spec()) != config["modalities"][modality]["features"]:
                raise ValueError(f"this version's {modality} extractor is not the one its model was trained on")
            self._extractors[modality] = made
        return self._extractors[modality]


def _theirs(module: str) -> Any:
    return importlib.import_module(f"components.{module}")


def main() -> None:
    """Answer one request after another, until there are no more; end at once, whatever the version has left running."""
    memory_mib, parent, ready = map(int, sys.argv[1:])
    _confine(memory_mib, parent)
    os.dup2(2, 1)  # what is printed must not look like an answer to anybody
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    with suppress(ImportError):  # nearly every version wants them, and they take seconds: while the request is prepared
        import mlflow.pyfunc  # noqa: F401
        import torch  # noqa: F401
    version = _Version()
    for line in requests:
        request = json.loads(Path(line.rstrip("\n")).read_text(encoding="utf-8"))
        place = request.pop("answer")
        part = Path(f"{place}.{os.getpid()}.part")  # the version may have forked
        part.write_text(json.dumps(_answer(version, request.pop("do"), request)), encoding="utf-8")
        part.replace(place)
        os.write(ready, b".")
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


def _answer(version: _Version, do: str, request: dict[str, Any]) -> dict[str, Any]:
    version.doing = "loading" if do == "load" else "answering"
    try:
        found: dict[str, Any] = getattr(version, do)(**request)
        return found
    except MemoryError as error:
        return {"error": f"out of memory {error}".strip(), "while": version.doing.replace("refusing", "answering")}
    except ValueError as error:
        return {"error": str(error), "while": version.doing}
    except BaseException as error:  # it may call sys.exit
        said = f"{type(error).__name__}: {error}"
        return {"error": said, "while": version.doing.replace("refusing", "answering")}


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
