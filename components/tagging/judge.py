"""A pre-trained tagger before the seed library: how good it is there, and how its scores are calibrated."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.modalities import TAG_GROUPS
from components.tagging.audio import AudioTagger, Listener
from components.tagging.calibration import Lines, fit_lines, held_out, logits_of
from components.tagging.clips import as_clip
from components.tagging.examples import MIN_TRACKS, fold_of
from components.tagging.folder import SEED_SCORES, partial_of
from components.tagging.params import AudioParams
from components.tagging.plots import draw_reliability
from components.tagging.progress import Scored, read_shard, score_clips, write_shard
from components.tagging.scores import score_tags
from components.tagging.tagger import Fitted, Library
from components.tagging.vocabulary import mapped
from components.taxonomy import Tag, Taxonomy


@dataclass(frozen=True)
class Truth:
    """N tracks of the seed library and which of T tags each carries."""

    clip_ids: list[str]
    tags: list[Tag]
    labels: NDArray[np.bool_]  # (N, T)
    left_out: list[tuple[Tag, int]]


def judged(listener: Listener, params: AudioParams, taxonomy: Taxonomy, library: Library, folder: Path) -> Fitted:
    """Return the tagger with its figures and, if asked for, its calibration.

    The library's tracks are listened to as clips are: what the last run heard is kept in ``folder``.
    """
    tagger = AudioTagger(listener, params)
    vocabulary = mapped(tagger.labels, taxonomy)
    wanted = known_truth(library.rows, vocabulary.tags, taxonomy, params.min_examples)
    scored = _heard(tagger, library.rows if wanted.tags else (), folder)  # else they would teach nothing
    known = set(scored.clip_ids)
    rows = [row for row in library.rows if row["clip_id"] in known]
    truth = known_truth(rows, vocabulary.tags, taxonomy, params.min_examples)
    said = vocabulary.of_tags(scored.scores)[:, [vocabulary.tags.index(tag) for tag in truth.tags]]
    lines, notes = _lines(said, truth, params)
    probabilities = _held_out(said, truth, lines, params)
    scores = score_tags(truth.tags, truth.labels, probabilities)
    before = score_tags(truth.tags, truth.labels, said)
    for group, figures in scores["groups"].items():
        figures |= {"calibrated": group in lines, "ece_uncalibrated": before["groups"][group]["ece"]}
    return Fitted(
        tagger=tagger,
        vocabulary=vocabulary,
        lines=lines,
        scores=scores,
        left_out=truth.left_out,
        config={"tagger": tagger.digest, "calibration": {group: list(line) for group, line in lines.items()}},
        files={
            "reliability.png": draw_reliability(truth.tags, truth.labels, probabilities, scores),
            SEED_SCORES: (partial_of(folder) / SEED_SCORES).read_bytes(),
        },
        notes=notes,
        refused=scored.refused,
    )


def _heard(tagger: AudioTagger, rows: Sequence[Mapping[str, Any]], folder: Path) -> Scored:
    """Return what the tagger says of the library's tracks, and leave it beside ``folder``."""
    clips, partial = [as_clip(row) for row in rows], partial_of(folder)
    scored = score_clips(tagger, clips, read_shard(folder / SEED_SCORES), partial)
    write_shard(partial / SEED_SCORES, zip(scored.clip_ids, scored.keys, scored.scores, strict=True))
    return scored


def known_truth(rows: Sequence[Mapping[str, Any]], tags: Sequence[Tag], taxonomy: Taxonomy, min_examples: int) -> Truth:
    """Return which of the tagger's tags each track carries, by the library and what that implies.

    Tags that too few tracks carry, or lack, are left out: nothing could be said about them. With
    too few tracks all are.
    """
    ordered = sorted(rows, key=lambda row: row["clip_id"])
    carried = [_carried(row, taxonomy) for row in ordered]
    counts = Counter(tag for found in carried for tag in found)
    enough = [tag for tag in tags if min(counts[tag], len(ordered) - counts[tag]) >= min_examples]
    left_out = [(tag, counts[tag]) for tag in tags if tag not in enough and counts[tag]]
    if len(ordered) < MIN_TRACKS:
        enough, left_out = [], []
    labels = np.array([[tag in found for tag in enough] for found in carried], bool)
    return Truth([row["clip_id"] for row in ordered], enough, labels.reshape(len(ordered), len(enough)), left_out)


def _carried(row: Mapping[str, Any], taxonomy: Taxonomy) -> set[Tag]:
    found: set[Tag] = set()
    for tag in row["tags"]:
        same = [other for other in taxonomy.find(tag["name"]) if other[0] == tag["group"]]
        for other in same or [(tag["group"], tag["name"])]:
            found |= taxonomy.implied(other)
    return found


def _lines(
    said: NDArray[np.float64], truth: Truth, params: AudioParams
) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """Return the line of each group that can be calibrated, and what is to be said of the others."""
    if not params.calibrate:
        return {}, ["probabilities are the tagger's own (tagging.calibrate is false)"]
    fitted = fit_lines(logits_of(said), truth.labels, truth.tags)
    # A line that falls would turn the tagger's own order around: it knows nothing of that group.
    lines = {group: line for group, line in fitted.items() if line[0] > 0}
    notes = [
        f"{group}: not calibrated, {'its scores do not follow the labels' if group in fitted else 'no tag has enough tracks'}"
        for group in TAG_GROUPS
        if group not in lines
    ]
    return lines, notes


def _held_out(said: NDArray[np.float64], truth: Truth, lines: Lines, params: AudioParams) -> NDArray[np.float64]:
    """Return (N, T) probabilities, those of groups with a line by a line that had not seen the track."""
    if not lines:
        return said
    fold = fold_of(truth.clip_ids, min(params.folds, len(truth.clip_ids)), params.seed)
    apart = held_out(logits_of(said), truth.labels, truth.tags, fold)
    return np.where([group in lines for group, _ in truth.tags], apart, said)
