"""The baseline that a first champion must beat: CCA, fitted on the training clips of today."""

from components import tables
from components.evaluation.baselines.cca_scorer import fit_cca_scorer
from components.evaluation.baselines.examples import TooFewClips, split_examples
from components.evaluation.metrics_file import FUSED
from components.modalities import MUSIC, TEXT, VIDEO, Modality
from components.params import read_all
from components.settings import PARAMS_FILE
from components.store import FeatureStore
from flows.errors import Refusal
from flows.gate.evaluate import TestSet, evaluate
from flows.gate.sides import Side
from flows.workspace.graph import Graph
from flows.workspace.workspace import Workspace


def evaluate_cca(graph: Graph, workspace: Workspace, test: TestSet) -> Side | None:
    """Fit CCA on the training clips of today and rank the test set with it.

    Returns:
        None where the test set has no texts, or too few training or validation clips have video and text.

    Raises:
        Refusal: the training's files are missing or damaged; the message says what to run.
    """
    if TEXT not in test.pool.stores:
        return None
    paths = {name: workspace.root / path for name, path in graph["training"].arguments.items()}
    training = read_all(workspace.root / PARAMS_FILE).training
    try:
        stores: dict[Modality, FeatureStore] = {m: FeatureStore.open(paths[m]) for m in (VIDEO, MUSIC, TEXT)}
        annotations = FeatureStore.open(paths["annotations"])
        manifest = tables.read_rows(paths["manifest"], tables.MANIFEST)
    except (ValueError, OSError) as error:
        raise Refusal(f"CCA cannot be fitted: {error}; `needledrop retrain` makes it") from None
    try:
        # The training's own rules: how many clips it needs, and whose words it shows; settings by human words alone.
        train = split_examples(
            manifest, "train", stores, annotations, training.least_train_clips, training.human_text, training.seed
        )
        val = split_examples(manifest, "val", stores, annotations, training.least_val_clips, 1.0, training.seed)
        scorer = fit_cca_scorer(train, val, spread=False)
    except TooFewClips:
        return None
    if FUSED not in scorer.modes:
        return None
    return evaluate(scorer, test, "CCA", {"settings": str(scorer.settings)})
