"""One piece of the study's work, in a process of its own: fit, evaluate, write the result.

Run as ``python -m research.work JOB.json``; the job file names inputs and output.
"""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.encoder.device import wait_quietly

ORACLE = pa.schema([("clip_id", pa.string()), ("mode", pa.string()), ("rank", pa.int64())])


def main(path: Path) -> None:
    """Do the job of a file and write its result folder, whole or not at all."""
    task = json.loads(path.read_text(encoding="utf-8"))
    out, files = Path(task["out"]), {name: Path(path) for name, path in task["files"].items()}
    from components import stage, tables
    from components.encoder.device import deterministic_device
    from components.encoder.params import EncoderSection
    from components.evaluation.metrics_file import write_metrics
    from components.evaluation.oracle import read_truth
    from components.evaluation.params import EvaluationSection
    from components.evaluation.pool import choose_pool
    from components.evaluation.retrieval import RANKS
    from components.evaluation.run import measure
    from components.modalities import MUSIC, TEXT, VIDEO
    from components.settings import parse_section
    from components.store import FeatureStore
    from components.training.data import Features
    from components.training.params import TrainingSection
    from research.fits import Inputs, fit

    began = time.process_time()
    sections = task["sections"]
    encoder: EncoderSection = parse_section(EncoderSection, "encoder", sections)
    training: TrainingSection = parse_section(TrainingSection, "training", sections)
    section: EvaluationSection = parse_section(EvaluationSection, "evaluation", sections)
    video, music, annotations, text = (
        FeatureStore.open(files[name]) for name in ("video", "music", "annotations", "text")
    )
    manifest = tables.read_rows(files["manifest"], tables.MANIFEST)
    deterministic_device(1)
    with stage.atomic_folder(out) as folder:
        inputs = Inputs(_first(manifest, task["clips"]), Features(video, music, text, annotations), folder)
        scorer, facts = fit(task["fit"], inputs, encoder, training, [Path(part) for part in task["parts"]])
        pool = choose_pool(manifest, {VIDEO: video, MUSIC: music, TEXT: text}, annotations, section)
        tags = tables.read_rows(files["tags"], tables.TAGS)
        measured = measure(scorer, pool, read_truth(files["truth"]), tags, section)
        write_metrics(folder / "metrics.json", measured.metrics)
        tables.write_rows(folder / "ranks.parquet", measured.rows, RANKS)
        tables.write_rows(folder / "oracle.parquet", _oracle(pool.rows, measured.oracle), ORACLE, ("mode", "clip_id"))
        stage.write_json(folder / "job.json", task | {"cpu_s": time.process_time() - began} | facts)


def _first(manifest: list[dict[str, Any]], clips: int | None) -> list[dict[str, Any]]:
    """Return the manifest with only the first train clips, by id: smaller sets are parts of larger ones."""
    if clips is None:
        return manifest
    train = sorted(row["clip_id"] for row in manifest if row["split"] == "train")
    left_out = set(train[clips:])
    return [row for row in manifest if row["clip_id"] not in left_out]


def _oracle(rows: list[dict[str, Any]], ranks: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"clip_id": row["clip_id"], "mode": mode, "rank": int(rank[at])}
        for mode, rank in sorted(ranks.items())
        for at, row in enumerate(rows)
    ]


if __name__ == "__main__":
    wait_quietly()
    main(Path(sys.argv[1]))
