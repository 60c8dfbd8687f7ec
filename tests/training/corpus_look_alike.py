"""A tiny corpus in feature space: music has factors, video and text each show some of them."""

from pathlib import Path
from typing import Any

import numpy as np

from components import tables
from components.increments import update_store
from components.store import FeatureStore
from components.training.data import Features

SIZES = {"train": 48, "val": 12, "test": 16}
PARAMS: dict[str, dict[str, Any]] = {
    "encoder": {
        "width": 16, "layers": 1, "heads": 2, "feedforward": 32, "embedding_dims": 16, "dropout": 0.1,
        "input_dropout": 0.1, "input_noise": {"video": 0.1, "text": 0.1, "music": 0.1}, "input_limit": 5.0,
        "positions": {"kind": "sinusoidal"}, "pooling": "mean", "fusion": {"kind": "pooled-transformer", "layers": 1}, "linear": {"kind": "none"},
        "loss": {
            "kind": "infonce", "initial_temperature": 0.1, "lowest_temperature": 0.01, "hard_negatives": 0.0,
            "terms": {"fused-music": 1.0, "video-music": 0.0, "text-music": 0.0, "video-text": 0.0},
            "mask": {"same_track": True, "same_artist": False, "near_duplicates": None}, "stream_rows": None,
        },
    },
    "training": {
        "seed": 5, "threads": 1, "processes": 1, "restarts": 0, "steps": 60, "warmup_steps": 5, "batch": 16,
        "chunk": None, "precision": "auto", "compile": False, "learning_rate": 0.003,
        "weight_decay": 0.01, "gradient_clip": 1.0, "text_dropout": 0.3, "video_dropout": 0.1, "segment_dropout": 0.1,
        "mixup": 1.0,
        "human_text": 0.5, "validate_every": 10, "patience": 100, "least_train_clips": 8, "least_val_clips": 2,
    },
    "evaluation": {
        "seed": 5, "threads": 1, "pool_size": None, "least_test_clips": 2, "resamples": 200, "confidence": 0.95,
    },
    "indexing": {
        "seed": 5, "threads": 1, "exact_below": 1000, "clips_per_list": 8, "probes": 4, "rerank": 8, "tag_threshold": 0.3,
    },
}  # fmt: skip


def write_corpus(
    root: Path, annotated: float = 0.5, without: dict[str, set[int]] | None = None
) -> list[dict[str, Any]]:
    """Write manifest and stores under ``root``; ``without`` names clips that a store lacks."""
    rng = np.random.default_rng(0)
    splits = [split for split, count in SIZES.items() for _ in range(count)]
    count = len(splits)
    ids = [f"clip-{at:04d}" for at in range(count)]
    factors = rng.normal(size=(count, 6))
    views = {"music": factors, "video": factors[:, :4], "text": factors[:, 2:]}
    arrays = {}
    for modality, dims, segments in (("music", 10, 4), ("video", 8, 4), ("text", 12, 1)):
        mixed = np.tanh(views[modality] @ rng.normal(size=(views[modality].shape[1], dims)))
        arrays[modality] = mixed[:, None] + 0.1 * rng.normal(size=(count, segments, dims))
    described = set(range(int(annotated * count))) | ({*range(count - 28, count)} if annotated else set())
    for store, modality, rows in (
        ("music", "music", range(count)), ("video", "video", range(count)),
        ("text", "text", range(count)), ("annotations", "text", sorted(described)),
    ):  # fmt: skip
        values = arrays[modality] + (0.05 if store == "annotations" else 0.0)
        kept = {ids[at]: values[at] for at in rows if at not in (without or {}).get(store, set())}
        spec = {"modality": modality, "dims": values.shape[2], "max_segments": values.shape[1]}
        update_store(
            root / "features" / store,
            spec,
            [(clip, "1") for clip in kept],
            lambda c, k=kept: ((i, k[i]) for i in c),
            64,
        )
    manifest = [
        {
            "clip_id": ids[at], "video_id": f"video-{at}", "track_id": f"track-{at}", "artist_id": f"artist-{at % 7}",
            "split": splits[at], "uri": f"media/{at}.mp4", "sha256": "0" * 64, "bytes": 1, "duration_s": 8.0,
            "start_s": 0.0, "end_s": 8.0, "title": f"Title {at}", "artist": f"Artist {at % 7}",
        }
        for at in range(count)
    ]  # fmt: skip
    tables.write_rows(root / "manifest.parquet", manifest, tables.MANIFEST)
    tags = [{"clip_id": clip, "tags": [{"group": "genres", "name": "folk", "probability": 0.6},
                                       {"group": "moods", "name": "sad", "probability": 0.2}]} for clip in ids]  # fmt: skip
    tables.write_rows(root / "tags.parquet", tags, tables.TAGS)
    return manifest


def open_features(root: Path) -> Features:
    """The stores that ``write_corpus`` left under ``root``."""
    return Features(
        *(FeatureStore.open(root / "features" / name) for name in ("video", "music", "text", "annotations"))
    )
