"""The registered model, as code that MLflow runs when it loads a version.

It finds beside itself the weights, the catalogue and the params they were made with, and the
`components` package of that day: nothing outside the version is needed but the pinned libraries, and an encoder that is
too large to be brought.
"""

import functools
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final, TypeVar

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from numpy.typing import NDArray

_CODE: Final = Path(__file__).resolve().parent / "code"
_PACKAGE: Final = "components"
_F = TypeVar("_F", bound=Callable[..., Any])


class _Own(MetaPathFinder):
    """Makes `components` the package that this version brings, for as long as its code runs and no longer.

    The host may have a package of that name, and may have loaded another version.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, ModuleType] = {}
        self._theirs: dict[str, ModuleType] = {}
        self._depth = 0
        # One for all versions of a process, each of which runs a module like this one.
        self._lock: Any = vars(threading).setdefault("_needledrop_versions", threading.RLock())
        # MLflow puts the folder in front of all others.
        sys.path[:] = [place for place in sys.path if Path(place) != _CODE]

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1
        if self._depth == 1 and _CODE.is_dir():
            self._theirs = _taken()
            sys.modules.update(self._loaded)
            sys.meta_path.insert(0, self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._depth == 1 and _CODE.is_dir():
            sys.meta_path.remove(self)
            self._loaded = _taken()
            sys.modules.update(self._theirs)
        self._depth -= 1
        self._lock.release()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != _PACKAGE:
            return None
        spec = PathFinder.find_spec(fullname, [str(_CODE)] if path is None else path, target)
        if spec is None:
            raise ModuleNotFoundError(f"this version brings no module {fullname!r}", name=fullname)
        return spec


def _taken() -> dict[str, ModuleType]:
    """Take the package out of the loaded modules; return what was there."""
    names = [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]
    return {name: sys.modules.pop(name) for name in names}


_own = _Own()


def _owned(method: _F) -> _F:
    """Run a method with the packages of this version."""

    @functools.wraps(method)
    def run(*args: Any, **kwargs: Any) -> Any:
        with _own:
            return method(*args, **kwargs)

    return run  # type: ignore[return-value]


with _own:
    from components.containers import MediaError, probe
    from components.encoder.model import Arrays
    from components.encoder.serialise import load_model
    from components.features.extractor import Extractor, build_extractor
    from components.features.params import FeaturesParams
    from components.features.source import Source
    from components.indexing.search import Catalogue
    from components.ingest.examine import middle
    from components.ingest.params import Ingest
    from components.modalities import MUSIC, TEXT, VIDEO, Modality
    from components.settings import read_section
    from components.store import spec_digest

COLUMNS = ["query", "rank", "score", "clip_id", "track_id", "title", "artist", "start_s", "end_s", "tags"]
DEFAULT_K = 10
TEXT_CHARS = 10_000


class Recommender(PythonModel):
    """Ranks the catalogue for a video, a sentence, or both."""

    @_owned
    def load_context(self, context: PythonModelContext) -> None:
        """Load weights, catalogue and extractors, and refuse parts that do not belong together."""
        files = {name: Path(path) for name, path in context.artifacts.items()}
        section: FeaturesParams = read_section(FeaturesParams, "features", files["params"])
        params = section.model_copy(update={"workers": 1})
        ingest: Ingest = read_section(Ingest, "ingest", files["params"])
        self._clip_s = ingest.limits.clip_s
        loaded = load_model(files["model"])
        self._model = loaded.model
        self._catalogue = Catalogue.open(files["index"], loaded.digest)
        self._specs, self._params, self._encoders = loaded.features, params, files.get("encoders")
        self._extractors: dict[Modality, Extractor] = {}
        for modality in (VIDEO, TEXT):
            self._extractor(modality)

    @_owned
    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer each row (video: path, text: sentence, k: how many) with k rows, best first.

        A missing or empty cell is a missing modality. `query` says which input row an answer is to.

        Raises:
            ValueError: a row has neither video nor text, or its video cannot be read.
        """
        answers = []
        for number, row in enumerate(model_input.to_dict("records")):
            video, text, k = _cell(row, "video"), _cell(row, "text"), _cell(row, "k")
            found = self._catalogue.search(self._embed(video, text), DEFAULT_K if k is None else int(k))
            answers += [{"query": number, "rank": rank, **hit} for rank, hit in enumerate(found, start=1)]
        table = pd.DataFrame(answers, columns=COLUMNS)
        table["tags"] = [", ".join(tags) for tags in table["tags"]]
        return table

    @_owned
    def features(
        self, modality: Modality, sources: Sequence[Mapping[str, Any]]
    ) -> list[NDArray[np.float32] | Exception]:
        """Return (S, D) features of each source, or what stopped them; for those who judge a version.

        Args:
            modality: video, music or text.
            sources: `clip_id`, with `uri`, `start_s` and `end_s`, or with `text`.
        """
        asked = [Source(key="", **one) for one in sources]
        made = dict(self._extractor(modality).extract(asked))
        each = (made[one.clip_id] for one in asked)
        # Rounded as a store keeps them.
        return [one if isinstance(one, Exception) else np.asarray(one, np.float16).astype(np.float32) for one in each]

    @_owned
    def embed(self, arrays: Mapping[Modality, Arrays]) -> NDArray[np.float32]:
        """Return (B, E) unit vectors of music, or of queries that show what `arrays` has.

        Args:
            arrays: (B, S, D) features with their (B, S) mask.
        """
        if MUSIC in arrays:
            return self._model.embed_music(arrays[MUSIC])
        return self._model.embed_query(video=arrays.get(VIDEO), text=arrays.get(TEXT))

    @_owned
    def search(self, query: NDArray[np.float32], k: int) -> list[dict[str, Any]]:
        """Return the k best clips of the catalogue for the vector (E,) of a query, see `Catalogue.search`."""
        return self._catalogue.search(query, k)

    def _extractor(self, modality: Modality) -> Extractor:
        if modality not in self._extractors:
            extractor = build_extractor(*self._encoder(modality))
            if spec_digest(extractor.spec()) != self._specs[modality]:
                raise ValueError(f"this version's {modality} extractor is not the one its model was trained on")
            self._extractors[modality] = extractor
        return self._extractors[modality]

    def _encoder(self, modality: Modality) -> tuple[FeaturesParams, Modality, Path | None]:
        """Return what an extractor is built from; a pre-trained one is brought, or was fetched from the hub before."""
        if self._encoders is None:
            return self._params, modality, None
        from components.features.hf.carried import carried_folder, read_carried

        encoder = read_carried(self._encoders)[modality]
        folder = carried_folder(self._encoders, encoder)
        if folder is None:
            raise ValueError(
                f"this version's {modality} encoder, {encoder.model} at commit {encoder.commit}, is not on this machine; "
                "`needledrop fetch VERSION` fetches it"
            )
        which = getattr(self._params, modality).model_copy(update={"model": encoder.model})
        return self._params.model_copy(update={modality: which}), modality, folder

    def _embed(self, video: str | None, text: str | None) -> np.ndarray:
        arrays: dict[Modality, Arrays] = {}
        if video is not None:
            arrays[VIDEO] = self._features(VIDEO, self._video_source(Path(video)))
        if text is not None:
            if len(text) > TEXT_CHARS:
                raise ValueError(f"text: {len(text)} characters; at most {TEXT_CHARS} are read")
            arrays[TEXT] = self._features(TEXT, {"clip_id": "query", "text": text})
        if not arrays:
            raise ValueError("a query needs a video, a text, or both")
        vector: np.ndarray = self.embed(arrays)[0]
        return vector

    def _video_source(self, path: Path) -> dict[str, Any]:
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
        try:
            about = probe(path)
        except MediaError as error:
            raise ValueError(f"{path}: {error}") from None
        if about.video_codec is None:
            raise ValueError(f"{path}: has no pictures; a query needs a video")
        # The same part of a file as ingest takes; from the start where the header gives no length.
        start_s, end_s = middle(about.duration_s or self._clip_s, self._clip_s)
        return {"clip_id": "query", "uri": str(path), "start_s": start_s, "end_s": end_s}

    def _features(self, modality: Modality, source: dict[str, Any]) -> Arrays:
        """Return (1, S, D) features and their (1, S) mask."""
        (made,) = self.features(modality, [source])
        if isinstance(made, Exception):
            raise ValueError(f"{source.get('uri') or source['clip_id']}: {made}") from made
        return made[None], np.ones((1, len(made)), bool)


def _cell(row: dict[Any, Any], name: str) -> Any:
    value = row.get(name)
    return None if value is None or value != value or value == "" else value  # NaN differs from itself


mlflow.models.set_model(Recommender())
