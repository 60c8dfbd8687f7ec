"""Which clips a person means by a track: found in the workspace and in every version, by any of its ids."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from flows.errors import USAGE, Refusal

Row = dict[str, Any]

_IDS = ("clip_id", "track_id", "video_id", "sha256", "uri")
_SHOWN = 5


@dataclass(frozen=True)
class Track:
    """All clips of one track, under every id they go by.

    Attributes:
        track_id: None for a track of the tagger's seed library, which has no such id.
        clips: clip ids, sorted.
        uris: files, sorted.
        ids: every id that names it or one of its clips.
        title: as the manifest has it.
        artist: as the manifest has it.
    """

    track_id: str | None
    clips: tuple[str, ...]
    uris: tuple[str, ...]
    ids: frozenset[str]
    title: str | None
    artist: str | None

    @property
    def name(self) -> str:
        """What to call it."""
        return f"track {self.track_id}" if self.track_id else f"seed track {self.clips[0]}"

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        named = {"track_id": self.track_id, "title": self.title, "artist": self.artist}
        return {**named, "clips": list(self.clips), "uris": list(self.uris)}


def find_track(rows: Iterable[Row], name: str) -> Track:
    """Return the one track that `name` names among rows of clips.

    Args:
        rows: rows of manifests, of seed libraries, and of versions' `clips.parquet`; a clip may recur.
        name: a clip, track or video id, a file's path or sha256; or the beginning of an id.

    Raises:
        Refusal: nothing goes by that name, or several tracks do.
    """
    known = [row for row in rows if row.get("clip_id")]
    exact = [row for row in known if name and name in (row.get(key) for key in _IDS)]
    found = exact or [
        row for row in known if name and any(str(row.get(key) or "").startswith(name) for key in _IDS[:3])
    ]
    tracks = {row.get("track_id") or row["clip_id"] for row in found}
    if not tracks:
        raise Refusal(f"no clip of the workspace or of a registered version goes by {name!r}", USAGE)
    if len(tracks) > 1:
        listed = ", ".join(sorted(tracks)[:_SHOWN])
        raise Refusal(f"{len(tracks)} tracks go by {name!r} ({listed} ...): give more of the id", USAGE)
    (one,) = tracks
    mine = [row for row in known if (row.get("track_id") or row["clip_id"]) == one]
    # Where a video has clips of several tracks its id finds too much rather than too little; an artist's would always.
    ids = {str(row[key]) for row in mine for key in ("clip_id", "track_id", "video_id") if row.get(key)}
    return Track(
        track_id=next((row["track_id"] for row in mine if row.get("track_id")), None),
        clips=tuple(sorted({row["clip_id"] for row in mine})),
        uris=tuple(sorted({row["uri"] for row in mine})),
        ids=frozenset(ids),
        title=next((row["title"] for row in mine if row.get("title")), None),
        artist=next((row["artist"] for row in mine if row.get("artist")), None),
    )
