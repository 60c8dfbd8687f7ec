"""The baseline that a first champion must beat: CCA, fitted on the training clips of today."""

from pathlib import Path

from components import tables
from components.modalities import MUSIC, TEXT, VIDEO
from components.params import read_all
from components.settings import PARAMS_FILE
from components.store import FeatureStore
from components.training.data import Features
from flows.gate.evaluate import TestSet, evaluate
from flows.gate.sides import FUSED, Side
from flows.workspace.graph import Graph
from flows.workspace.workspace import Workspace
from research.fits import Inputs, fit


def evaluate_cca(graph: Graph, workspace: Workspace, test: TestSet) -> Side | None:
    """Fit CCA on the training clips of today and rank the test set with it; None where it cannot be fitted."""
    paths = {name: workspace.root / path for name, path in graph["training"].arguments.items()}
    params = read_all(workspace.root / PARAMS_FILE)
    try:
        features = Features(*(FeatureStore.open(paths[name]) for name in (VIDEO, MUSIC, TEXT, "annotations")))
        manifest = tables.read_rows(paths["manifest"], tables.MANIFEST)
        scorer, facts = fit("cca", Inputs(manifest, features, Path()), params.encoder, params.training, ())
        side = evaluate(scorer, test, "CCA", {"settings": str(facts["settings"])})
    except (ValueError, KeyError):  # too few clips, or a mode it has no fit for
        return None
    return side if FUSED in side.ranks else None
