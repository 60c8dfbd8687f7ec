"""The study on real music videos: our towers against CCA on the features of MuVi-Sync, artist-disjoint.

Run alone as ``python -m research.music_videos FOLDER [--out FILE]``. Five folds that share no artist are
tested in turn. Every query and every candidate is the middle window of a track, all of one length. In each
fold the other four are training data, with every window of their tracks. Towers of several seeds are trained
on all of it for a fixed number of steps, and their scores are added. CCA takes its strengths from the four
splits inside the training data and is then fitted on all of it. The control is trained on shuffled pairs.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Self

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field, model_validator

from components.encoder.device import wait_quietly
from components.encoder.params import EncoderSection
from components.encoder.ranking import ranks
from components.modalities import MUSIC, VIDEO
from components.settings import Section
from components.stage import write_json
from components.training.params import TrainingSection
from research.music_video_cca import Scores, cca_scores, paired
from research.music_video_features import Track, artist_folds, read_tracks
from research.music_video_report import ONE, Query, VideoReport, report
from research.music_video_windows import (
    clip_id,
    middle,
    open_features,
    reduce_clip,
    shuffled,
    window_rows,
    write_features,
)

FILE = Path(__file__).with_suffix(".yaml")
VALIDATED = 20  # one training track of so many


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
    """Seeds of the towers whose scores are added."""
    shuffles: int = Field(ge=1)
    """Draws of shuffled pairs in each fold; one alone may be lucky or unlucky by a few hundredths."""
    processes: int = Field(ge=1)
    """Trainings at once."""
    resamples: int = Field(ge=20)
    """Resamples of artists behind each interval."""
    confidence: float = Field(gt=0.5, lt=1)
    """Coverage of the intervals."""
    encoder: EncoderSection
    """The towers."""
    training: TrainingSection
    """How they are fitted; the only validation is at the end, so that the steps are fixed."""

    @model_validator(mode="after")
    def _steps_are_fixed(self) -> Self:
        if self.training.validate_every < self.training.steps:
            raise ValueError(
                "training.validate_every is below training.steps: a step would be chosen on training tracks"
            )
        return self


@dataclass(frozen=True)
class Member:
    """One training: on which clips, and which clips it ranks afterwards."""

    rows: list[dict[str, Any]]
    stores: Path
    encoder: EncoderSection
    training: TrainingSection
    test: list[str]


Run = Callable[[list[Member]], Iterable[Scores]]


def music_videos(folder: Path, settings: VideoSettings) -> VideoReport:
    """Return what was measured: figures with intervals, and a row per query.

    Raises:
        ValueError: the folder is absent or does not hold the features; too few artists or tracks.
    """
    began = time.monotonic()
    known = read_tracks(folder)
    tracks = [track for track in known if len(track) >= settings.window_segments]
    fold = artist_folds([track.artist for track in tracks], settings.folds, settings.fold_seed)
    queries: list[Query] = []
    with tempfile.TemporaryDirectory() as scratch, _workers(settings.processes) as run:
        for number in range(settings.folds):
            queries += _fold(tracks, fold, number, settings, Path(scratch) / f"fold-{number}", run)
            print(f"music videos: fold {number + 1} of {settings.folds}, {time.monotonic() - began:.0f} s", flush=True)
    measured = report(queries, settings.resamples, settings.confidence)
    return measured.model_copy(update={"left_out": len(known) - len(tracks), "seconds": time.monotonic() - began})


@contextmanager
def _workers(processes: int) -> Iterator[Run]:
    """Yield what trains members: this process where it is to be one alone, else processes of their own."""
    if processes == 1:
        yield lambda members: map(member_scores, members)
    else:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            yield lambda members: pool.map(member_scores, members)


def _fold(
    tracks: Sequence[Track], fold: NDArray[np.int64], number: int, settings: VideoSettings, scratch: Path, run: Run,
) -> Iterator[Query]:  # fmt: skip
    """Measure every system on one fold."""
    segments = settings.window_segments
    test, train = (
        [t for t, inside in zip(tracks, part, strict=True) if inside] for part in (fold == number, fold != number)
    )
    inner = [
        [t for t, f in zip(tracks, fold, strict=True) if f == other]
        for other in range(settings.folds)
        if other != number
    ]
    reduced = reduce_clip(train, settings.clip_dims, settings.fold_seed)
    partners = [shuffled(train, settings.shuffles * number + draw) for draw in range(settings.shuffles)]
    stores = [scratch / f"pairs-{at}" for at in range(1 + len(partners))]  # the true ones first
    for folder, partner in zip(stores, [{}, *partners], strict=True):
        write_features(folder, tracks, partner, reduced, segments)

    rows, tested = list(training_rows(train, segments)), _middles(test, segments)
    seeds = [settings.training.model_copy(update={"seed": seed}) for seed in settings.seeds]
    members = [Member(rows, stores[0], settings.encoder, training, tested) for training in seeds]
    members += [Member(rows, folder, settings.encoder, seeds[0], tested) for folder in stores[1:]]
    pending = run(members)
    cca = cca_scores(train, inner, test, segments)
    cca_controls = [cca_scores(paired(train, partner), None, test, segments) for partner in partners]
    trained = list(pending)
    towers, tower_controls = trained[: len(seeds)], trained[len(seeds) :]

    own = np.eye(len(test), dtype=np.bool_)
    systems = {
        "towers": [sum_of(towers)], "CCA": [cca], ONE: towers,
        "towers, shuffled pairs": tower_controls, "CCA, shuffled pairs": cca_controls,
    }  # fmt: skip
    rank = {name: np.stack([ranks(scores, own) for scores in of]) for name, of in systems.items()}  # (runs, N)
    for at, track in enumerate(test):
        yield Query(
            track.id, track.artist, number, len(test), {name: runs[:, at].tolist() for name, runs in rank.items()}
        )


def training_rows(train: Sequence[Track], segments: int) -> Iterator[dict[str, Any]]:
    """Yield every window of the training tracks; the middle ones of some are for validation.

    A run must validate on something, and does so once, at its end: nothing is chosen by it, so nothing is
    lost by tracks that are on both sides.
    """
    some = {clip_id(track, middle(track, segments)): track for track in train[::VALIDATED]}
    yield from (row for row in window_rows(train, "train", segments) if row["clip_id"] not in some)
    yield from window_rows(list(some.values()), "val", segments)


def _middles(tracks: Sequence[Track], segments: int) -> list[str]:
    return [clip_id(track, middle(track, segments)) for track in tracks]


def member_scores(member: Member) -> Scores:
    """Train one model and return its scores (N, N) of the test windows."""
    from components.evaluation.scorer import ModelScorer
    from components.training.run import train

    features = open_features(member.stores)
    with tempfile.TemporaryDirectory() as scratch:
        places = (Path(scratch) / "checkpoints", Path(scratch) / "journal.jsonl")
        fitted = train(member.rows, features, member.encoder, member.training, *places)
    return ModelScorer(fitted.model).scores({VIDEO: features.video, MUSIC: features.music}, member.test, "video")


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
        measured = music_videos(asked.folder, read_settings())
    except ValueError as error:
        sys.exit(f"error: {error}")
    print("\n".join(measured.lines()))
    if asked.out:
        write_json(asked.out, measured.model_dump(mode="json"))


if __name__ == "__main__":
    wait_quietly()
    main(sys.argv[1:])
