"""Reads the MuVi-Sync features (Kang, Poria, Herremans, 2024) and makes segment features of 10 s of both sides.

Shapes: T segments of 10 s of a track, D feature dims.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
from numpy.typing import NDArray

SEGMENT_S: Final = 10
FILES: Final = ("index.csv", "columns.json", "per_second.npz", "clip_l14p_mean10s_f16.npy")
SECONDS: Final = ("loudness", "note_density", "motion", "scene_offset")  # then emotions, from the frames
PITCHES: Final = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
CLIP_NORM: Final = 20.0  # of an image vector, so that float16 keeps its digits

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Track:
    """A music video.

    Attributes:
        id: of the data set.
        artist: a name for all artists who are linked by songs they made together.
        clip: (T, 768) CLIP image features, unit vectors times 20.
        screen: (T, D) motion, cuts and emotions; from the pictures alone.
        music: (T, D) loudness, note density, chords and mode.
    """

    id: str
    artist: str
    clip: Array
    screen: Array
    music: Array

    def __len__(self) -> int:
        return len(self.music)


def read_tracks(folder: Path) -> list[Track]:
    """Read every track, by id.

    Raises:
        ValueError: a file is absent or is not what it should be; it is named.
    """
    for name in FILES:
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name}: no such file; give the folder of the MuVi-Sync features")
    try:
        # Ids have leading zeros, and an artist may be called like a number: every column is text.
        with (folder / "index.csv").open(encoding="utf-8") as listed:
            names = listed.readline().strip().split(",")
        as_text = pc.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
        rows = pc.read_csv(folder / "index.csv", convert_options=as_text).to_pylist()
        words = json.loads((folder / "columns.json").read_text(encoding="utf-8"))
        with np.load(folder / "per_second.npz", allow_pickle=False) as file:
            seconds, chord = file["feats"].astype(np.float64), file["chord"].astype(np.int64)
        clip = np.load(folder / "clip_l14p_mean10s_f16.npy", mmap_mode="r", allow_pickle=False)
        chords, columns = _chords(words["chord_vocab"]), words["feats_columns"]
        if tuple(columns[: len(SECONDS)]) != SECONDS or seconds.shape[1] != len(columns):
            raise ValueError(f"columns {columns} are not {', '.join(SECONDS)} and emotions")
        linked = linked_artists([row["artist"] for row in rows])
        tracks = [_track(row, name, seconds, chord, clip, chords) for row, name in zip(rows, linked, strict=True)]
    except (ValueError, KeyError, TypeError, IndexError, OSError, pa.ArrowException) as error:
        raise ValueError(f"{folder}: not the MuVi-Sync features ({type(error).__name__}: {error})") from None
    return sorted(tracks, key=lambda track: track.id)


def linked_artists(names: list[str]) -> list[str]:
    """Return one name per row, the same for all artists who are linked by songs made together."""
    from scipy.cluster.hierarchy import DisjointSet

    people = [
        [p for p in (part.strip() for part in re.split(r",|&| ft\.? | feat\.? | x ", n)) if p] or [n] for n in names
    ]
    groups = DisjointSet(person for together in people for person in together)
    for first, *others in people:
        for other in others:
            groups.merge(first, other)
    named = {person: min(group) for group in groups.subsets() for person in group}
    return [named[first] for first, *_ in people]


def _track(
    row: dict[str, Any], artist: str, seconds: Array, chord: NDArray[np.int64], clip: NDArray[np.float16], chords: Array
) -> Track:
    segments = int(row["n_10s"])
    at, at_clip = int(row["offset_per_second"]), int(row["offset_10s"])
    if at + segments * SEGMENT_S > min(len(seconds), len(chord)) or at_clip + segments > len(clip):
        raise ValueError(f"track {row['id']} lies beyond the end of an array")
    each = seconds[at : at + segments * SEGMENT_S].reshape(segments, SEGMENT_S, -1)
    picked = chord[at : at + segments * SEGMENT_S].reshape(segments, SEGMENT_S)
    image = np.asarray(clip[at_clip : at_clip + segments], np.float64).reshape(segments, -1)
    image = CLIP_NORM * image / np.maximum(np.linalg.norm(image, axis=1, keepdims=True), 1e-12)
    minor = np.full((segments, 1), float(row["key"].endswith("minor")))
    return Track(
        row["id"], artist, image, _screen(each), np.concatenate([_sound(each), _harmony(picked, chords), minor], 1)
    )


def _screen(each: Array) -> Array:
    motion, offset, emotions = np.log1p(each[:, :, 2]), np.log1p(each[:, :, 3]), each[:, :, 4:]
    cuts = each[:, :, 3] == 0
    of_motion = [motion.mean(axis=1), motion.std(axis=1), motion.max(axis=1), offset.mean(axis=1), cuts.mean(axis=1)]
    return np.concatenate([np.stack(of_motion, axis=1), np.sqrt(emotions).mean(axis=1), emotions.std(axis=1)], axis=1)


def _sound(each: Array) -> Array:
    columns: list[Array] = []
    for values in (each[:, :, 0], np.log1p(each[:, :, 1])):
        columns += [values.mean(axis=1), values.std(axis=1), values.max(axis=1), values.min(axis=1)]
        columns.append(np.abs(np.diff(values, axis=1)).mean(axis=1))
    return np.stack([*columns, np.log(each[:, :, 0].mean(axis=1) + 0.01)], axis=1)


def _harmony(picked: NDArray[np.int64], chords: Array) -> Array:
    """Return shares of roots and of chord types, share of changes, share of different chords."""
    changes = (np.diff(picked, axis=1) != 0).mean(axis=1)
    kinds = 1 + (np.diff(np.sort(picked, axis=1), axis=1) != 0).sum(axis=1)
    return np.concatenate([chords[picked].mean(axis=1), np.stack([changes, kinds / SEGMENT_S], axis=1)], axis=1)


def _chords(vocabulary: list[str]) -> Array:
    """Return each chord's root and type as two one-hot parts; ``N`` (none) has neither.

    Songs are transposed to C major or A minor, so the root's name is its place in the key.
    """
    parts = [("N", "N") if name == "N" else [*name.split(":"), "maj"][:2] for name in vocabulary]
    types = sorted({kind for _, kind in parts} - {"N"})
    table = np.zeros((len(parts), len(PITCHES) + len(types)))
    for at, (root, kind) in enumerate(parts):
        if root != "N":
            table[at, PITCHES.index(root)] = table[at, len(PITCHES) + types.index(kind)] = 1.0
    return table


def artist_folds(artists: list[str], folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each track: artists, largest first (ties by seed), go to the fold with the fewest tracks.

    Raises:
        ValueError: fewer artists than folds.
    """
    names, member, counts = np.unique(artists, return_inverse=True, return_counts=True)
    if len(names) < folds:
        raise ValueError(f"{len(names)} artists cannot fill {folds} folds")
    order = np.lexsort((np.random.default_rng(seed).random(len(names)), -counts))
    load, of = np.zeros(folds, np.int64), np.zeros(len(names), np.int64)
    for at in order:
        of[at] = load.argmin()
        load[of[at]] += counts[at]
    return of[member]
