"""Section ``corpus``: every contradiction is named by its key."""

from typing import Any

import pytest

from components.corpus.params import CorpusParams, DemoCorpus, FolderCorpus, S3Corpus
from components.settings import ParamsError, parse_section

LIBRARY = {"seed": 7, "seed_clips": 40, "clip_s": 8.0, "workers": 2}
DEMO = {"kind": "demo", "source": "components/corpus/world.yaml", "clips": 100, "annotated": 1.0, **LIBRARY}
LISTED = {"source": "data/listing.json", "annotations": None, "seed_tags": None, "licence": None, **LIBRARY}
FOLDER = {"kind": "folder", "root": "/media", **LISTED}
S3 = {"kind": "s3", "bucket": "music", "prefix": "", "attempts": 3, "backoff_s": 1.0, **LISTED}


def parse(section: dict[str, Any]) -> Any:
    return parse_section(CorpusParams, "corpus", {"corpus": section})


def test_each_kind_is_read() -> None:
    assert isinstance(parse(DEMO), DemoCorpus)
    assert isinstance(parse(FOLDER), FolderCorpus)
    assert isinstance(parse(S3), S3Corpus)


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ({**DEMO, "clips": 19}, r"corpus\.clips: .*greater than or equal to 20 \(got 19\)"),
        ({**DEMO, "clips": "many"}, r"corpus\.clips"),
        ({**DEMO, "annotated": 0}, r"corpus\.annotated"),
        ({**DEMO, "clip_s": 1.0}, r"corpus\.clip_s"),
        ({**DEMO, "clps": 5}, r"corpus\.clps: unknown key"),
        ({**DEMO, "root": "/media"}, r"corpus\.root: unknown key"),
        ({**DEMO, "source": "data/listing.json"}, r"source: kind demo needs a world description"),
        ({**FOLDER, "source": "components/corpus/world.yaml"}, r"source: kind folder needs a listing"),
        ({**FOLDER, "root": ""}, r"corpus\.root"),
        ({**S3, "source": "x.yaml"}, r"source: kind s3 needs a listing"),
        ({**S3, "bucket": "b"}, r"corpus\.bucket"),
        ({key: value for key, value in S3.items() if key != "prefix"}, r"corpus\.prefix: missing"),
        ({**DEMO, "kind": "ftp"}, r"corpus: .*'demo'.*'folder'.*'s3'"),
        ({}, "corpus"),
    ],
)
def test_a_mistake_is_named(section: dict[str, Any], named: str) -> None:
    with pytest.raises(ParamsError, match=named):
        parse(section)
