"""What the captioning stage reads: tagged clips, the described train clips among them, and the vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import tables
from components.captioning.captioner import Exemplar, Sources, Tagged, read_tags
from components.captioning.progress import read_earlier
from components.taxonomy import Taxonomy, read_taxonomy


@dataclass(frozen=True)
class Inputs:
    """Everything that captions are made from."""

    clips: list[Tagged]
    exemplars: list[Exemplar]
    taxonomy: Taxonomy
    names: frozenset[str]  # titles and artists
    uris: dict[str, str]  # by clip

    def sources(self, captions: Path, completions: Path) -> Sources:
        """Return what captioners may draw on, earlier answers included.

        Args:
            captions: the stage's output; the journal of a running stage lies beside it.
            completions: the table of all answers behind the last run's captions.
        """
        return Sources(
            taxonomy=self.taxonomy,
            exemplars=self.exemplars,
            names=self.names,
            journal=journal_of(captions),
            paid=read_earlier(completions, tables.COMPLETIONS),
        )


def read_inputs(manifest: Path, tags: Path, annotated: Path, taxonomy: Path) -> Inputs:
    """Read the stage's tables.

    Raises:
        ValueError: the taxonomy is wrong, or a table lacks a column.
    """
    rows = tables.read_rows(manifest, tables.MANIFEST)
    clips = read_clips(rows, tags)
    return Inputs(
        clips=clips,
        exemplars=read_exemplars(rows, annotated, clips),
        taxonomy=read_taxonomy(taxonomy),
        names=frozenset(name for row in rows for name in (row["title"], row["artist"]) if name),
        uris={row["clip_id"]: row["uri"] for row in rows},
    )


def read_clips(manifest: Sequence[dict[str, Any]], tags: Path) -> list[Tagged]:
    """Return the manifest's clips that the tagger has seen, with their tags."""
    wanted = {row["clip_id"] for row in manifest}
    return [read_tags(row) for row in tables.read_rows(tags, tables.TAGS) if row["clip_id"] in wanted]


def read_exemplars(manifest: Sequence[dict[str, Any]], annotated: Path, clips: list[Tagged]) -> list[Exemplar]:
    """Return the clips that humans described, of the train split only: val and test stay unseen."""
    train = {row["clip_id"] for row in manifest if row["split"] == "train"}
    tagged = {clip.clip_id: clip for clip in clips}
    return [
        Exemplar(tagged[row["clip_id"]], row["text"])
        for row in tables.read_rows(annotated, tables.ANNOTATIONS)
        if row["clip_id"] in train and row["clip_id"] in tagged
    ]


def journal_of(captions: Path) -> Path:
    """Return where the answers of an unfinished run are kept."""
    return captions.with_name(captions.name + ".partial") / "completions.jsonl"
