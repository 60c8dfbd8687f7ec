"""The study on real music videos: our towers against CCA on the features of MuVi-Sync, artist-disjoint.

Run alone as ``python -m flows.study.music_videos FOLDER [--out FILE]``. Five folds that share no artist are
tested in turn. Every query and every candidate is the middle window of a track, all of one length. In each
fold the other four are training data: a tower is trained on three of them and keeps its best step on the
fourth, for each choice of the fourth, and the scores of these towers are added. CCA takes its strengths from
the same four splits and is then fitted on all four folds. The control is trained on shuffled pairs.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field

from components.encoder.params import EncoderSection
from components.encoder.ranking import ranks
from components.encoder.threads import wait_quietly
from components.evaluation.baselines.cca_scorer import GRID, Setting, fit_settings, judge
from components.modalities import MUSIC, VIDEO
from components.settings import Section
from components.stage import write_json
from components.training.params import TrainingSection
from flows.study.music_video_features import Track, artist_folds, read_tracks
from flows.study.music_video_report import Query, report
from flows.study.music_video_windows import (
    clip_id,
    middle,
    open_features,
    pooled_windows,
    reduce_clip,
    shuffled,
    window_rows,
    write_features,
)

FILE = Path(__file__).with_suffix(".yaml")

Scores = NDArray[np.float32]


class VideoSettings(Section):
    """The whole of music_videos.yaml."""

    window_segments: int = Field(ge=1)
    """Segments of 10 s in a window; a track with fewer is left out."""
    folds: int = Field(ge=3)
    """Parts of the tracks that share no artist."""
    fold_seed: int = Field(ge=0)
    """Which of equally large artists comes first."""
    clip_dims: int = Field(ge=1)
    """CLIP dimensions that the towers see."""
    seeds: tuple[int, ...] = Field(min_length=1)
    """Seeds of the towers on each inner split."""
    processes: int = Field(ge=1)
    """Trainings at once."""
    resamples: int = Field(ge=20)
    """Resamples of artists behind each interval."""
    confidence: float = Field(gt=0.5, lt=1)
    """Coverage of the intervals."""
    encoder: EncoderSection
    """The towers."""
    training: TrainingSection
    """How they are fitted."""


@dataclass(frozen=True)
class Member:
    """One training: on which clips, and which clips it ranks afterwards."""

    rows: list[dict[str, Any]]
    stores: Path
    encoder: EncoderSection
    training: TrainingSection
    test: list[str]


def music_videos(folder: Path, settings: VideoSettings) -> dict[str, Any]:
    """Return what was measured: figures with intervals, a row per query, and lines of Markdown.

    Raises:
        ValueError: the folder is absent or does not hold the features; too few artists or tracks.
    """
    began = time.monotonic()
    known = read_tracks(folder)
    tracks = [track for track in known if len(track) >= settings.window_segments]
    fold = artist_folds([track.artist for track in tracks], settings.folds, settings.fold_seed)
    queries: list[Query] = []
    with (
        tempfile.TemporaryDirectory() as scratch,
        ProcessPoolExecutor(settings.processes, get_context("spawn")) as pool,
    ):
        for number in range(settings.folds):
            queries += _fold(tracks, fold, number, settings, Path(scratch) / f"fold-{number}", pool)
            print(f"music videos: fold {number + 1} of {settings.folds}, {time.monotonic() - began:.0f} s", flush=True)
    found = report(queries, settings.resamples, settings.confidence)
    return found | {"left_out": len(known) - len(tracks), "seconds": time.monotonic() - began}


def _fold(
    tracks: Sequence[Track], fold: NDArray[np.int64], number: int, settings: VideoSettings, scratch: Path,
    pool: ProcessPoolExecutor,
) -> Iterator[Query]:  # fmt: skip
    """Measure every system on one fold."""
    segments = settings.window_segments
    test, train = ([tracks[at] for at in np.flatnonzero(part)] for part in (fold == number, fold != number))
    inner = [
        [t for t, f in zip(tracks, fold, strict=True) if f == other]
        for other in range(settings.folds)
        if other != number
    ]
    reduced, partner = reduce_clip(train, settings.clip_dims, settings.fold_seed), shuffled(train, settings.fold_seed)
    true, control = scratch / "true", scratch / "control"
    write_features(true, tracks, {}, reduced, segments)
    write_features(control, tracks, partner, reduced, segments)

    seeds = [settings.training.model_copy(update={"seed": seed}) for seed in settings.seeds]
    members = [
        Member(list(_split(train, val, segments)), stores, settings.encoder, training, _middles(test, segments))
        for stores, vals, trainings in ((true, inner, seeds), (control, inner[:1], seeds[:1]))
        for val in vals
        for training in trainings
    ]
    pending = pool.map(member_scores, members)
    cca, cca_control = (
        cca_scores(train, inner, test, segments),
        cca_scores(_paired(train, partner), None, test, segments),
    )
    *towers, tower_control = pending

    systems = {
        "towers": sum_of(towers),
        "CCA": cca,
        "towers, shuffled pairs": tower_control,
        "CCA, shuffled pairs": cca_control,
    }
    own = np.eye(len(test), dtype=np.bool_)
    rank = {name: ranks(scores, own) for name, scores in systems.items()}
    alone = np.stack([ranks(scores, own) for scores in towers])  # (members, N)
    for at, track in enumerate(test):
        by_system = {name: int(found[at]) for name, found in rank.items()}
        yield Query(track.id, track.artist, number, len(test), by_system, [int(one) for one in alone[:, at]])


def _split(train: Sequence[Track], val: Sequence[Track], segments: int) -> Iterator[dict[str, Any]]:
    held = {track.id for track in val}
    yield from window_rows([track for track in train if track.id not in held], "train", segments)
    yield from window_rows(val, "val", segments)


def _middles(tracks: Sequence[Track], segments: int) -> list[str]:
    return [clip_id(track, middle(track, segments)) for track in tracks]


def member_scores(member: Member) -> Scores:
    """Train one model and return its scores (N, N) of the test windows."""
    from components.evaluation.scorer import ModelScorer
    from components.training.run import train

    features = open_features(member.stores)
    with tempfile.TemporaryDirectory() as checkpoints:
        fitted = train(member.rows, features, member.encoder, member.training, Path(checkpoints))
    return ModelScorer(fitted.model).scores({VIDEO: features.video, MUSIC: features.music}, member.test, "video")


def cca_scores(
    train: Sequence[Track], inner: Sequence[Sequence[Track]] | None, test: Sequence[Track], segments: int
) -> Scores:
    """Fit CCA on all windows of training tracks and return its scores (N, N) of the test tracks' middle windows.

    Args:
        train: the training folds.
        inner: its parts, each of which judges the settings once; None takes the middle of the grid.
        test: the test fold.
        segments: of a window.
    """
    setting = GRID[len(GRID) // 2] if inner is None else _best(train, inner, segments)
    fitted = fit_settings(*pooled_windows(train, segments, 1), [setting])[0]
    return fitted.scores(*pooled_windows(test, segments, None))


def _best(train: Sequence[Track], inner: Sequence[Sequence[Track]], segments: int) -> Setting:
    found = np.zeros(len(GRID))
    for val in inner:
        held = {track.id for track in val}
        rest = [track for track in train if track.id not in held]
        known = pooled_windows(val, segments, None)
        found += judge(*pooled_windows(rest, segments, 1), *known, np.eye(len(val), dtype=np.bool_), GRID)
    return GRID[int(found.argmin())]


def _paired(tracks: Sequence[Track], partner: dict[str, Track]) -> list[Track]:
    """Return tracks with the music of others, both cut to the shorter."""
    cut = [(track, partner[track.id], min(len(track), len(partner[track.id]))) for track in tracks]
    return [Track(t.id, t.artist, t.clip[:n], t.screen[:n], other.music[:n]) for t, other, n in cut]


def sum_of(scores: Sequence[Scores]) -> Scores:
    """Return the sum of score matrices."""
    return np.asarray(np.sum(scores, axis=0), np.float32)


def read_settings(path: Path = FILE) -> VideoSettings:
    """Read music_videos.yaml."""
    return VideoSettings.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def main(arguments: Sequence[str]) -> None:
    """Measure, print the lines, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the MuVi-Sync features")
    parser.add_argument("--out", type=Path, help="where the figures go, as JSON")
    asked = parser.parse_args(arguments)
    try:
        found = music_videos(asked.folder, read_settings())
    except ValueError as error:
        sys.exit(f"error: {error}")
    print("\n".join(found["lines"]))
    if asked.out:
        write_json(asked.out, json.loads(json.dumps(found)))


if __name__ == "__main__":
    wait_quietly()
    main(sys.argv[1:])
