"""CCA on windows of music videos: the system that the towers have to beat. N tracks of the test fold."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from components.evaluation.baselines.cca_scorer import GRID, Setting, fit_settings, val_losses
from research.music_video_features import Track
from research.music_video_windows import pooled_windows

Scores = NDArray[np.float32]


def cca_scores(
    train: Sequence[Track], inner: Sequence[Sequence[Track]] | None, test: Sequence[Track], segments: int
) -> Scores:
    """Fit CCA on all windows of training tracks and return its scores (N, N) of the test tracks' middle windows.

    Args:
        train: the training folds.
        inner: its parts, each of which is once the validation set of the settings; None takes the middle of the grid.
        test: the test fold.
        segments: of a window.
    """
    setting = GRID[len(GRID) // 2] if inner is None else _best_setting(train, inner, segments)
    fitted = fit_settings(*pooled_windows(train, segments, 1), [setting])[0]
    return fitted.scores(*pooled_windows(test, segments, None))


def _best_setting(train: Sequence[Track], inner: Sequence[Sequence[Track]], segments: int) -> Setting:
    losses = np.zeros(len(GRID))
    for val in inner:
        held = {track.id for track in val}
        rest = [track for track in train if track.id not in held]
        known = pooled_windows(val, segments, None)
        losses += val_losses(*pooled_windows(rest, segments, 1), *known, np.eye(len(val), dtype=np.bool_), GRID)
    return GRID[int(losses.argmin())]


def paired(tracks: Sequence[Track], partner: Mapping[str, Track]) -> list[Track]:
    """Return tracks with the music of others, both cut to the shorter."""
    cut = [(track, partner[track.id], min(len(track), len(partner[track.id]))) for track in tracks]
    return [Track(t.id, t.artist, t.clip[:n], t.screen[:n], other.music[:n]) for t, other, n in cut]
