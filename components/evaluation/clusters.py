"""Which queries are alike and must be resampled together."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

# Clips that share one of these are one cluster: the coarsest grouping, so intervals are never too narrow.
SHARED: Final = ("video_id", "artist_id", "track_id")


def clusters_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the cluster of each manifest row, named after the first of its artists.

    An artist's cluster contains the artist's videos; where a video or a track has several artists, their
    clusters are one. (An unknown artist made one video, by the manifest's rule, so the video is the cluster.)
    """
    parent = list(range(len(rows)))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    first: dict[tuple[str, str], int] = {}
    for at, row in enumerate(rows):
        for key in SHARED:
            one, other = sorted((root(first.setdefault((key, row[key]), at)), root(at)))
            parent[other] = one
    names: dict[int, str] = {}
    for at, row in enumerate(rows):
        names[root(at)] = min(str(row["artist_id"]), names.get(root(at), str(row["artist_id"])))
    return [names[root(at)] for at in range(len(rows))]
