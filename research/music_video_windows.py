"""Windows of music videos as clips: manifest rows and feature stores. Every window has the same length."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.increments import update_store
from components.modalities import MUSIC, VIDEO
from components.store import FeatureStore
from components.training.data import Features
from research.music_video_features import SEGMENT_S, Array, Track

SHARD_ROWS = 65536


def clip_id(track: Track, start: int) -> str:
    """Return the id of the window that begins with segment ``start``."""
    return f"{track.id}-{start:03d}"


def middle(track: Track, segments: int) -> int:
    """Return where the middle window begins: the one that is tested."""
    return (len(track) - segments) // 2


def window_rows(tracks: Sequence[Track], split: str, segments: int) -> Iterator[dict[str, Any]]:
    """Yield manifest rows: every window of training tracks, every 10 s one; of others the middle one alone."""
    for track in tracks:
        starts = range(len(track) - segments + 1) if split == "train" else [middle(track, segments)]
        for start in starts:
            yield {
                "clip_id": clip_id(track, start), "video_id": track.id, "track_id": track.id, "artist_id": track.artist,
                "split": split, "uri": f"muvi-sync:{track.id}", "sha256": "0" * 64, "bytes": 0,
                "duration_s": float(len(track) * SEGMENT_S), "start_s": float(start * SEGMENT_S),
                "end_s": float((start + segments) * SEGMENT_S),
            }  # fmt: skip


def reduce_clip(train: Sequence[Track], dims: int, seed: int) -> tuple[Array, Array]:
    """Return the mean (768,) and the axes (768, dims) of CLIP on training tracks: principal components, rotated.

    The towers scale every input to one spread. Plain components would all count alike then, the last as
    much as the first; turned into each other at random they keep what they weigh.
    """
    rows = np.concatenate([track.clip for track in train])
    mean = rows.mean(axis=0)
    kept = min(dims, rows.shape[1])
    _, axes = np.linalg.eigh((rows - mean).T @ (rows - mean))
    turned, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(kept, kept)))
    return mean, axes[:, ::-1][:, :kept] @ turned


def write_features(
    folder: Path, tracks: Sequence[Track], partner: Mapping[str, Track], reduced: tuple[Array, Array], segments: int
) -> Features:
    """Write the stores of all windows of tracks and open them; there is no text.

    Args:
        folder: where to write.
        tracks: every track.
        partner: whose music a track is given, by id; its own where absent. For the control.
        reduced: mean and axes of CLIP.
        segments: of a window.
    """
    mean, axes = reduced
    video: dict[str, Array] = {}
    music: dict[str, Array] = {}
    for track in tracks:
        seen, other = np.concatenate([(track.clip - mean) @ axes, track.screen], axis=1), partner.get(track.id, track)
        for start in range(len(track) - segments + 1):
            heard = start % (len(other) - segments + 1)
            video[clip_id(track, start)] = seen[start : start + segments]
            music[clip_id(track, start)] = other.music[heard : heard + segments]
    for name, values in ((VIDEO, video), (MUSIC, music)):
        _write(folder / name, name, values, next(iter(values.values())).shape[1], segments)
    for name in ("captions", "annotations"):
        _write(folder / name, "text", {}, 1, 1)
    return open_features(folder)


def open_features(folder: Path) -> Features:
    """Open what `write_features` wrote."""
    return Features(*(FeatureStore.open(folder / name) for name in (VIDEO, MUSIC, "captions", "annotations")))


def _write(folder: Path, modality: str, values: Mapping[str, Array], dims: int, segments: int) -> None:
    spec = {"modality": modality, "dims": dims, "max_segments": segments, "source": "muvi-sync"}
    update_store(
        folder, spec, [(clip, "") for clip in values], lambda ids: ((clip, values[clip]) for clip in ids), SHARD_ROWS
    )


def pooled_windows(tracks: Sequence[Track], segments: int, every: int | None) -> tuple[Array, Array]:
    """Return pooled video (N, D) and music (N, D) of windows: every so many segments, or the middle one alone (None)."""
    seen, heard = [], []
    for track in tracks:
        last = len(track) - segments
        for start in range(0, last + 1, every) if every else [middle(track, segments)]:
            here = slice(start, start + segments)
            seen.append(np.concatenate([track.clip[here].mean(axis=0), track.screen[here].mean(axis=0)]))
            heard.append(track.music[here].mean(axis=0))
    return np.array(seen), np.array(heard)


def shuffled(tracks: Sequence[Track], seed: int) -> dict[str, Track]:
    """Return a partner for every track by id: an order of the tracks, each paired with the next, so never its own."""
    order: NDArray[np.int64] = np.random.default_rng(seed).permutation(len(tracks))
    return {tracks[a].id: tracks[b] for a, b in zip(order, np.roll(order, 1), strict=True)}
