"""The registered model, as code that MLflow runs when it loads a version.

It finds beside itself the weights, the catalogue and the params they were made with, and the
`components` package of that day: nothing outside the version is needed but the pinned libraries.
"""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from components.containers import MediaError, probe
from components.encoder.model import Arrays
from components.encoder.serialise import load_model
from components.features.extractor import Extractor, build_extractor
from components.features.params import EmbeddedParams, FeaturesParams
from components.features.source import Source
from components.indexing.search import Catalogue
from components.ingest.examine import middle
from components.ingest.params import Ingest
from components.modalities import TEXT, VIDEO, Modality
from components.settings import read_section
from components.store import spec_digest

COLUMNS = ["query", "rank", "score", "clip_id", "track_id", "title", "artist", "start_s", "end_s", "tags"]
DEFAULT_K = 10
TEXT_CHARS = 10_000


class Recommender(PythonModel):
    """Ranks the catalogue for a video, a sentence, or both."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load weights, catalogue and extractors, and refuse parts that do not belong together."""
        files = {name: Path(path) for name, path in context.artifacts.items()}
        section: EmbeddedParams = read_section(FeaturesParams, "features", files["params"])
        params = section.model_copy(update={"workers": 1})
        ingest: Ingest = read_section(Ingest, "ingest", files["params"])
        self._clip_s = ingest.limits.clip_s
        loaded = load_model(files["model"])
        self._model = loaded.model
        self._catalogue = Catalogue.open(files["index"], loaded.digest)
        self._extractors: dict[Modality, Extractor] = {m: build_extractor(params, m) for m in (VIDEO, TEXT)}
        for modality, extractor in self._extractors.items():
            if spec_digest(extractor.spec()) != loaded.features[modality]:
                raise ValueError(f"this version's {modality} extractor is not the one its model was trained on")

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

    def _embed(self, video: str | None, text: str | None) -> np.ndarray:
        arrays: dict[Modality, Arrays] = {}
        if video is not None:
            arrays[VIDEO] = self._features(VIDEO, self._video_source(Path(video)))
        if text is not None:
            if len(text) > TEXT_CHARS:
                raise ValueError(f"text: {len(text)} characters; at most {TEXT_CHARS} are read")
            arrays[TEXT] = self._features(TEXT, Source("query", "", text=text))
        if not arrays:
            raise ValueError("a query needs a video, a text, or both")
        return np.asarray(self._model.embed_query(video=arrays.get(VIDEO), text=arrays.get(TEXT))[0])

    def _video_source(self, path: Path) -> Source:
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
        return Source("query", "", uri=str(path), start_s=start_s, end_s=end_s)

    def _features(self, modality: Modality, source: Source) -> Arrays:
        """Return (1, S, D) features and their (1, S) mask."""
        ((_, result),) = list(self._extractors[modality].extract([source]))
        if isinstance(result, Exception):
            raise ValueError(f"{source.name}: {result}") from result
        half = np.asarray(result, np.float16)  # as a store keeps it
        return half[None].astype(np.float32), np.ones((1, len(half)), bool)


def _cell(row: dict[Any, Any], name: str) -> Any:
    value = row.get(name)
    return None if value is None or value != value or value == "" else value  # NaN differs from itself


mlflow.models.set_model(Recommender())
