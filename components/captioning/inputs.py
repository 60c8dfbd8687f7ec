"""What the captioning stage reads: tagged clips, and the described train clips among them."""

from pathlib import Path

from components import tables
from components.captioning.captioner import Exemplar, Tagged, read_tags


def read_clips(manifest: Path, tags: Path) -> list[Tagged]:
    """Return the manifest's clips that the tagger has seen, with their tags."""
    wanted = set(tables.read_table(manifest, tables.MANIFEST).column("clip_id").to_pylist())
    return [read_tags(row) for row in tables.read_rows(tags, tables.TAGS) if row["clip_id"] in wanted]


def read_exemplars(manifest: Path, annotated: Path, clips: list[Tagged]) -> list[Exemplar]:
    """Return the clips that humans described, of the train split only: val and test stay unseen."""
    train = {row["clip_id"] for row in tables.read_rows(manifest, tables.MANIFEST) if row["split"] == "train"}
    tagged = {clip.clip_id: clip for clip in clips}
    return [
        Exemplar(tagged[row["clip_id"]], row["text"])
        for row in tables.read_rows(annotated, tables.ANNOTATIONS)
        if row["clip_id"] in train and row["clip_id"] in tagged
    ]
