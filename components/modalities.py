"""The three modalities and the order they are written in everywhere."""

from typing import Final, Literal

Modality = Literal["video", "text", "music"]

VIDEO: Final = "video"
TEXT: Final = "text"
MUSIC: Final = "music"
MODALITIES: Final[tuple[Modality, ...]] = (VIDEO, TEXT, MUSIC)
QUERY: Final[tuple[Modality, ...]] = (VIDEO, TEXT)  # what is asked with; music is what is answered

# The groups of a music tagger's output, in the order the analogy prompt lists them
# (ViML, CVPR 2023, section 3.1).
TAG_GROUPS: Final = ("genres", "moods", "instruments")
