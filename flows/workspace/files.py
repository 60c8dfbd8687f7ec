"""Where the files of a workspace lie: a name for each, found in the commands of `dvc.yaml`, which alone has the paths."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Files:
    """Absolute paths of what stages write and others read. A file that no stage names is refused when it is asked for."""

    def __init__(self, argument: "Callable[[str, str], Path]") -> None:
        """Look paths up by (stage, argument) with `argument`."""
        self._argument = argument

    @property
    def manifest(self) -> Path:
        """Table of clips."""
        return self._argument("indexing", "manifest")

    @property
    def annotated(self) -> Path:
        """Table of people's descriptions."""
        return self._argument("ingest", "annotated")

    @property
    def splits(self) -> Path:
        """The history of the splits: Parquet, a row per clip that was ever seen."""
        return self._argument("ingest", "splits")

    @property
    def tags(self) -> Path:
        """Table of tags by clip."""
        return self._argument("indexing", "tags")

    @property
    def captions(self) -> Path:
        """Table of captions by clip."""
        return self._argument("captioning", "captions")

    @property
    def completions(self) -> Path:
        """Table of what the language model wrote."""
        return self._argument("captioning", "completions")

    def store(self, name: str) -> Path:
        """Feature store that training reads as `--name`: video, music, text or annotations."""
        return self._argument("training", name)

    @property
    def model(self) -> Path:
        """Folder of the trained model."""
        return self._argument("training", "model")

    @property
    def history(self) -> Path:
        """Table of training's curves."""
        return self._argument("training", "history")

    @property
    def summary(self) -> Path:
        """What came of training."""
        return self._argument("training", "summary")

    @property
    def journal(self) -> Path:
        """What training told while it ran, and what it took on the machine that ran it."""
        return self._argument("training", "journal")

    @property
    def metrics(self) -> Path:
        """The evaluation's figures."""
        return self._argument("evaluation", "metrics")

    @property
    def ranks(self) -> Path:
        """Table of the rank of every query's own track."""
        return self._argument("evaluation", "ranks")

    @property
    def plots(self) -> Path:
        """Folder of the evaluation's pictures."""
        return self._argument("evaluation", "plots")

    @property
    def index(self) -> Path:
        """Folder of the catalogue and its FAISS index."""
        return self._argument("indexing", "index")
