"""The stage's work: examine what is new, set copies aside, and make the five tables."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.containers import MediaError
from components.ingest.annotations import read_annotations, told_splits
from components.ingest.cache import Cache, Key, spec_digest
from components.ingest.copies import exact_copies, near_copies
from components.ingest.examine import Finding
from components.ingest.history import read_history
from components.ingest.manifest import manifest_rows
from components.ingest.params import Ingest
from components.ingest.paths import common_root, inside
from components.ingest.seed import read_seed_tags, seed_rows
from components.ingest.workers import Job, examine_all
from components.stage import progress
from components.tables import ANNOTATIONS, MANIFEST, QUARANTINE, SEED, SPLITS, write_rows

Rows = list[dict[str, Any]]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """The stage's outputs, and how many files were decoded for them."""

    manifest: Rows
    quarantine: Rows
    annotations: Rows
    seed: Rows
    splits: Rows
    decoded: int

    def write(self, manifest: Path, quarantine: Path, annotated: Path, seed: Path, splits: Path) -> None:
        """Write the five tables."""
        write_rows(manifest, self.manifest, MANIFEST)
        write_rows(quarantine, self.quarantine, QUARANTINE, sort_by=("uri", "stage", "reason", "detail"))
        write_rows(annotated, self.annotations, ANNOTATIONS)
        write_rows(seed, self.seed, SEED)
        write_rows(splits, self.splits, SPLITS)


def ingest(
    inventory: Rows, refused: Rows, annotations: Path, seed_tags: Path, splits: Path, params: Ingest, cache: Path
) -> Result:
    """Turn an inventory into a manifest; what cannot be used goes to quarantine, and the run goes on.

    Args:
        inventory: rows of `tables.INVENTORY`.
        refused: rows of `tables.QUARANTINE` from the lister; they are passed on.
        annotations: the CSV file of descriptions.
        seed_tags: the CSV file of the seed library's tags.
        splits: the history of the splits; may be absent.
        params: the section.
        cache: folder of findings from earlier runs; may be absent.

    Raises:
        ValueError: a CSV file lacks a column, or the history is damaged.
    """
    history = read_history(splits)
    tags, quarantine = read_seed_tags(seed_tags)
    files = {row["uri"]: row for row in sorted(inventory, key=lambda row: str(row["fingerprint"]))}
    keys: dict[tuple[str, bool], Key] = {(uri, True): (uri, row["fingerprint"], True) for uri, row in files.items()}
    keys |= {(uri, False): (uri, _fingerprint(uri), False) for uri in tags}
    findings, decoded = _examine(keys, common_root(files), params, cache)

    usable = _without_copies(files, {uri: findings[uri, True] for uri in files}, params, quarantine)
    told, untold = told_splits(annotations)
    manifest, torn, history = manifest_rows(*usable, params.splits, told, history)
    quarantine += [_refusal(uri, "between_splits", why) for uri, why in torn.items()]
    seed, refused_seed = seed_rows(tags, {uri: findings[uri, False] for uri in tags})
    reasons = _why_absent(files, quarantine, manifest)
    annotated, refused_rows = read_annotations(annotations, manifest, reasons, params.annotation_chars)
    quarantine = _unique([*refused, *quarantine, *refused_seed, *refused_rows, *untold])
    _report(len(keys), decoded, manifest, annotated, seed, quarantine)
    return Result(manifest, quarantine, annotated, seed, history, decoded)


def _examine(
    keys: Mapping[tuple[str, bool], Key], root: Path, params: Ingest, folder: Path
) -> tuple[dict[tuple[str, bool], Finding], int]:
    """Return a finding for each file, from the cache or from a worker, and how many were decoded."""
    cache = Cache(folder, spec_digest(params.limits))
    findings: dict[tuple[str, bool], Finding] = {}
    jobs = []
    for name, key in keys.items():
        try:
            path = inside(name[0], root) if name[1] else Path(name[0]).absolute()
        except MediaError as error:
            findings[name] = Finding(error.reason, error.detail)
            continue
        known = cache.get(key)
        if known:
            findings[name] = known
        else:
            jobs.append(Job(name, path, picture=name[1]))
    found = examine_all(jobs, params.decoding, params.limits)
    for name, finding in progress(found, "ingest", len(jobs)) if jobs else ():
        findings[name] = finding
        cache.put(keys[name], finding)
    cache.close(keys.values())
    return findings, len(jobs)


def _without_copies(
    files: Mapping[str, dict[str, Any]], findings: Mapping[str, Finding], params: Ingest, quarantine: Rows
) -> tuple[list[tuple[dict[str, Any], Finding]], list[tuple[int, int]]]:
    """Return the files to use and which of them sound the same; add the others to ``quarantine``."""
    quarantine += [_refusal(uri, f.reason, f.detail) for uri, f in findings.items() if f.reason]
    good = [(uri, finding) for uri, finding in sorted(findings.items()) if not finding.reason]
    exact = exact_copies(good)
    quarantine += [_refusal(good[i][0], "duplicate", f"same bytes as {good[k][0]}") for i, k in exact.items()]
    good = [item for i, item in enumerate(good) if i not in exact]
    report = near_copies([finding for _, finding in good], params.copies)
    quarantine += [
        _refusal(good[i][0], "near_duplicate", f"same picture and sound as {good[k][0]}")
        for i, k in report.near.items()
    ]
    place = {old: new for new, old in enumerate(i for i in range(len(good)) if i not in report.near)}
    kept = [(files[good[i][0]], good[i][1]) for i in place]
    pairs = [(place[i], place[j]) for i, j in report.same_sound if i in place and j in place]
    return kept, [(i, j) for i, j in pairs if not _known_apart(kept[i][0], kept[j][0])]


def _known_apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether the inventory itself says that two files hold different tracks; then it is right."""
    return None not in (one["track_id"], other["track_id"]) and bool(one["track_id"] != other["track_id"])


def _why_absent(files: Mapping[str, dict[str, Any]], quarantine: Rows, manifest: Rows) -> dict[str, str]:
    """Say for each video id that has no clip why that is so, for the annotations that name it."""
    reasons: dict[str, str] = {}
    for row in quarantine:
        if row["uri"] in files:
            video_id = files[row["uri"]]["video_id"] or Path(row["uri"]).stem
            reasons[video_id] = f"its file is in quarantine ({row['reason']})"
    for row in manifest:
        if files[row["uri"]]["video_id"] is None:
            reasons[Path(row["uri"]).stem] = "several files have this name"
    return reasons


def _fingerprint(uri: str) -> str:
    with suppress(OSError, ValueError):
        status = Path(uri).stat()
        return f"{status.st_size}-{status.st_mtime_ns}"
    return "absent"


def _refusal(uri: str, reason: str, detail: str) -> dict[str, str]:
    return {"uri": uri, "stage": "ingest", "reason": reason, "detail": detail}


def _unique(rows: Iterable[Mapping[str, Any]]) -> Rows:
    keys = ("uri", "stage", "reason", "detail")
    return [dict(zip(keys, row, strict=True)) for row in sorted({tuple(row[key] for key in keys) for row in rows})]


def _report(files: int, decoded: int, manifest: Rows, annotated: Rows, seed: Rows, quarantine: Rows) -> None:
    counts = Counter(row["split"] for row in manifest)
    split = ", ".join(f"{name} {counts[name]}" for name in ("train", "val", "test"))
    log.info("ingest: %d files, %d decoded, %d known from the cache", files, decoded, files - decoded)
    reasons = Counter(row["reason"] for row in quarantine)
    log.info("ingest: %d in quarantine%s", len(quarantine), "".join(f", {r} {n}" for r, n in sorted(reasons.items())))
    log.info("ingest: %d clips (%s), %d annotated, %d seed tracks", len(manifest), split, len(annotated), len(seed))
