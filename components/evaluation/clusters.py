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
    from scipy.cluster.hierarchy import DisjointSet

    groups = DisjointSet(range(len(rows)))
    first: dict[tuple[str, str], int] = {}
    for at, row in enumerate(rows):
        for key in SHARED:
            groups.merge(at, first.setdefault((key, row[key]), at))
    names = [""] * len(rows)
    for group in groups.subsets():
        name = min(str(rows[at]["artist_id"]) for at in group)
        for at in group:
            names[at] = name
    return names
