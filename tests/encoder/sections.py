"""A small encoder section, and the loss that it trains with."""

from typing import Any

LOSS: dict[str, Any] = {
    "kind": "infonce", "terms": {"fused-music": 1.0, "video-music": 0.0, "text-music": 0.0, "video-text": 0.0},
    "initial_temperature": 0.1, "lowest_temperature": 0.01, "hard_negatives": 0.0,
    "mask": {"same_track": True, "same_artist": False, "near_duplicates": None}, "stream_rows": None,
}  # fmt: skip
ALL_TERMS: dict[str, Any] = LOSS | {
    "terms": {"fused-music": 1.0, "video-music": 0.5, "text-music": 0.5, "video-text": 0.5}
}
PLAIN: dict[str, Any] = {
    "width": 16, "layers": 1, "heads": 2, "feedforward": 32, "embedding_dims": 12, "dropout": 0.1,
    "input_dropout": 0.1, "input_noise": {"video": 0.1, "text": 0.1, "music": 0.1}, "input_limit": 5.0, "positions": {"kind": "sinusoidal"},
    "pooling": "mean", "fusion": {"kind": "pooled-transformer", "layers": 1}, "linear": {"kind": "none"}, "loss": LOSS,
}  # fmt: skip
