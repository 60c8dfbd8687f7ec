"""Section ``corpus`` of params.yaml: where media come from."""

from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from components.settings import Section

Count = Annotated[int, Field(ge=1)]


class SeedLibrary(Section):
    """The tagged seed library that the probe tagger is fitted on; rendered unless ``seed_tags`` is given."""

    seed: Annotated[int, Field(ge=0)]
    """Seed of everything rendered."""
    seed_clips: Annotated[int, Field(ge=20)]
    """Tracks of the rendered seed library; twenty at least, or a tagger cannot be fitted."""
    clip_s: Annotated[float, Field(ge=4, le=30)]
    """Length of a rendered clip, seconds."""
    workers: Annotated[int, Field(ge=1, le=64)]
    """Processes that render or download; changes no byte of the result."""


class DemoCorpus(SeedLibrary):
    """Render the demo corpus (design, section 5)."""

    kind: Literal["demo"]
    """Rendered from a world description."""
    source: str
    """Path of the world description (YAML)."""
    clips: Annotated[int, Field(ge=20)]
    """Clips to render; twenty at least, or nothing can be trained or tested."""
    annotated: Annotated[float, Field(gt=0, le=1)]
    """Share of clips with a human description."""

    @model_validator(mode="after")
    def _source_is_world(self) -> Self:
        if PurePosixPath(self.source).suffix not in (".yaml", ".yml"):
            raise ValueError(f"source: kind demo needs a world description (.yaml), not '{self.source}'")
        return self


class _Listed(SeedLibrary):
    """A corpus whose files were listed by the flow before the stage runs."""

    source: str
    """Path of the listing (JSON) that the flow keeps; the stage reads nothing that is not in it."""
    annotations: str | None
    """Path of the human descriptions, csv with video_id,start,end,text; null for none."""
    seed_tags: str | None
    """Path of the seed library's tags, csv with path,group,name; null to render the demo's."""
    licence: str | None
    """Licence of the media, as it should stand in the manifest; null where unknown."""

    @model_validator(mode="after")
    def _source_is_listing(self) -> Self:
        if PurePosixPath(self.source).suffix != ".json":
            raise ValueError(f"source: kind {getattr(self, 'kind', '')} needs a listing (.json), not '{self.source}'")
        return self


class FolderCorpus(_Listed):
    """Use the media under a folder where they are."""

    kind: Literal["folder"]
    """A tree of files."""
    root: Annotated[str, Field(min_length=1)]
    """The folder, absolute or from the project's root."""


class S3Corpus(_Listed):
    """Download the media under a prefix of a bucket; endpoint and credentials come from AWS_* variables."""

    kind: Literal["s3"]
    """An S3 bucket."""
    bucket: Annotated[str, Field(min_length=3, max_length=63)]
    """Bucket name."""
    prefix: str
    """What every key starts with; empty for the whole bucket."""
    attempts: Annotated[int, Field(ge=1, le=20)]
    """Times a file is tried before the stage fails."""
    backoff_s: Annotated[float, Field(ge=0, le=60)]
    """Pause before the second attempt, seconds; doubled each time."""


CorpusParams = Annotated[DemoCorpus | FolderCorpus | S3Corpus, Field(discriminator="kind")]
