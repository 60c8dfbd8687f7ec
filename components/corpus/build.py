"""The seam between the stage and where media come from: the one place that chooses."""

from pathlib import Path
from typing import assert_never

from components.corpus.collected import Collected
from components.corpus.params import CorpusParams, DemoCorpus, FolderCorpus, S3Corpus


def build_corpus(params: CorpusParams, source: Path, media: Path, seed: Path) -> Collected:
    """Bring the media into place and return the tables that describe them.

    Args:
        params: the section.
        source: world description (demo) or listing (folder, s3).
        media: folder for rendered or downloaded media; left empty where media stay where they are.
        seed: folder for the seed library.

    Raises:
        ValueError: the source is unusable; the message says what to do.
    """
    match params:
        case DemoCorpus():
            from components.corpus.demo import render_corpus

            return render_corpus(params, source, media, seed)
        case FolderCorpus():
            from components.corpus.folder import use_folder

            return use_folder(params, source, media, seed)
        case S3Corpus():
            from components.corpus.s3 import fetch_bucket

            return fetch_bucket(params, source, media, seed)
        case _:
            assert_never(params)
