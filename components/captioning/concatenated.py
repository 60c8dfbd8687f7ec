"""``kind: tags``: the names of the tags, nothing else."""

from collections.abc import Iterator, Sequence
from functools import cached_property

from components.captioning.captioner import OK, Caption, Tagged, version_of
from components.modalities import TAG_GROUPS


class Concatenated:
    """Genres, moods, instruments; likeliest first in each."""

    seed = 0
    model = ""

    @cached_property
    def version(self) -> str:
        """See ``Captioner.version``."""
        return version_of("tags", type(self))

    def key(self, clip: Tagged, attempts: int) -> str:
        """See ``Captioner.key``."""
        return ""

    def caption(self, clips: Sequence[Tagged]) -> Iterator[Caption]:
        """See ``Captioner.caption``."""
        for clip in clips:
            names = [name for group in TAG_GROUPS for name, _ in clip.tags[group]]
            yield Caption(clip.clip_id, ", ".join(names), OK)
