"""Measure retrieval on the test clips, in every query mode, and draw it."""

from components import stage, tables
from components.encoder.device import wait_quietly
from components.evaluation.params import EvaluationSection
from components.modalities import MODALITIES
from components.settings import read_section
from components.store import FeatureStore


def main() -> None:
    """Read section and files, rank, write figures, ranks and plots."""
    args = stage.arguments(
        __doc__,
        "manifest",
        "video",
        "music",
        "text",
        "annotations",
        "tags",
        "model",
        "history",
        "truth",
        "metrics",
        "ranks",
        "plots",
    )
    section: EvaluationSection = read_section(EvaluationSection, "evaluation")
    from components.encoder.serialise import load_model
    from components.evaluation.metrics_file import write_metrics
    from components.evaluation.oracle import read_truth
    from components.evaluation.plots import draw_all
    from components.evaluation.retrieval import RANKS
    from components.evaluation.run import evaluate

    stores = {
        m: FeatureStore.open(path) for m, path in zip(MODALITIES, (args.video, args.text, args.music), strict=True)
    }
    manifest, tags, truth, annotations = (
        tables.read_rows(args.manifest, tables.MANIFEST),
        tables.read_rows(args.tags, tables.TAGS),
        read_truth(args.truth),
        FeatureStore.open(args.annotations),
    )
    measured = evaluate(load_model(args.model), manifest, stores, annotations, truth, section, tags)
    write_metrics(args.metrics, measured.metrics)
    tables.write_rows(args.ranks, measured.rows, RANKS, sort_by=("level", "direction", "mode", "clip_id"))
    with stage.atomic_folder(args.plots) as folder:
        draw_all(folder, measured, tables.read_rows(args.history))


if __name__ == "__main__":
    wait_quietly()
    stage.run(main)
