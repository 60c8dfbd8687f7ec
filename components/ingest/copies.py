"""Copies among usable files: the same bytes, the same picture and sound re-encoded, the same sound.

All pairs are compared at once: a matrix product over a thinned fingerprint finds candidates at a few
shifts, and only those are compared in full.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.ingest.examine import Finding
from components.ingest.fingerprint import BANDS, PICTURES, THUMB, picture_print
from components.ingest.params import Copies

_COARSE_SHIFTS: Final = (0, 4, 8)  # frames (1/16 s); both orders of a pair give the negative ones
_COARSE_STEP: Final = 4  # every fourth frame
_CANDIDATE: Final = 0.5  # of the threshold: thinning and half-way shifts lower the agreement
_FINE_SHIFTS: Final = range(-10, 11)
_BLOCK: Final = 1024
_LEAST_SIGNS: Final = 200  # fewer known signs prove nothing


@dataclass(frozen=True)
class CopyReport:
    """Indices into the files that were given."""

    near: dict[int, int]  # a near-duplicate, and the file that is kept for it
    same_sound: list[tuple[int, int]]  # pairs of one recording


def exact_copies(files: Sequence[tuple[str, Finding]]) -> dict[int, int]:
    """Map each file whose bytes stand twice to the one kept: the first by name."""
    first: dict[str, int] = {}
    copies: dict[int, int] = {}
    for index in sorted(range(len(files)), key=lambda i: files[i][0]):
        kept = first.setdefault(files[index][1].sha256, index)
        if kept != index:
            copies[index] = kept
    return copies


def near_copies(findings: Sequence[Finding], thresholds: Copies) -> CopyReport:
    """Find files with the same sound, and among those the ones with the same picture too.

    Of near-duplicates the largest file is kept, ties by digest.
    """
    pairs = same_sound(findings, thresholds.sound)
    prints = [_picture(finding) for finding in findings]
    looks: dict[int, set[int]] = {}
    for i, j in pairs:
        if _same_picture(prints[i], prints[j], thresholds.picture):
            looks.setdefault(i, set()).add(j)
            looks.setdefault(j, set()).add(i)
    near: dict[int, int] = {}
    order = sorted(looks, key=lambda i: (-findings[i].size, findings[i].sha256))
    kept: list[int] = []
    for i in order:
        match = next((k for k in kept if k in looks[i]), None)
        if match is None:
            kept.append(i)
        else:
            near[i] = match
    return CopyReport(near, pairs)


def same_sound(findings: Sequence[Finding], threshold: float) -> list[tuple[int, int]]:
    """Return the pairs (i < j) whose sound fingerprints agree by at least ``threshold``."""
    prints = [np.frombuffer(finding.sound, np.int8).reshape(-1, BANDS) for finding in findings]
    usable = [i for i, sound in enumerate(prints) if np.count_nonzero(sound) >= _LEAST_SIGNS]
    candidates = _candidates([prints[i] for i in usable], threshold * _CANDIDATE)
    pairs = sorted((usable[a], usable[b]) for a, b in candidates)
    return [(i, j) for i, j in pairs if agreement(prints[i], prints[j]) >= threshold]


def agreement(one: NDArray[np.int8], other: NDArray[np.int8]) -> float:
    """Return the best cosine of two sound fingerprints over small shifts: about 0 when unrelated."""
    best = 0.0
    for shift in _FINE_SHIFTS:
        a, b = (one[shift:], other) if shift >= 0 else (one, other[-shift:])
        frames = min(len(a), len(b))
        if frames:
            best = max(best, float(np.vdot(a[:frames].astype(np.float32), b[:frames].astype(np.float32))))
    scale = np.sqrt(float(np.count_nonzero(one)) * np.count_nonzero(other))
    return best / scale if scale else 0.0


def _candidates(prints: list[NDArray[np.int8]], threshold: float) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    if len(prints) < 2:
        return found
    frames = max(map(len, prints)) + max(_COARSE_SHIFTS)
    base = _unit_rows([_thinned(sound, 0, frames) for sound in prints])  # (N, frames / step * BANDS)
    for shift in _COARSE_SHIFTS:
        moved = base if shift == 0 else _unit_rows([_thinned(sound, shift, frames) for sound in prints])
        for top in range(0, len(prints), _BLOCK):
            rows, columns = np.nonzero(base[top : top + _BLOCK] @ moved.T >= threshold)
            for i, j in zip((rows + top).tolist(), columns.tolist(), strict=True):
                if i != j:
                    found.add((min(i, j), max(i, j)))
    return found


def _thinned(sound: NDArray[np.int8], shift: int, frames: int) -> NDArray[np.float32]:
    padded = np.zeros((frames, BANDS), np.float32)
    padded[shift : shift + len(sound)] = sound
    return padded[::_COARSE_STEP].ravel()


def _unit_rows(rows: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    matrix = np.stack(rows)
    matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1.0)
    return matrix


def _picture(finding: Finding) -> NDArray[np.float32]:
    thumbs = np.frombuffer(finding.picture, np.uint8)
    if thumbs.size != PICTURES * THUMB * THUMB:
        return np.zeros(PICTURES * THUMB * THUMB, np.float32)
    return picture_print(thumbs)


def _same_picture(one: NDArray[np.float32], other: NDArray[np.float32], threshold: float) -> bool:
    if not one.any() and not other.any():
        return True  # two flat pictures
    return float(one @ other) >= threshold
