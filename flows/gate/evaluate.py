"""The workspace's test clips of today, and what systems make of them: the same queries and pools for each."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from components import tables
from components.evaluation.clusters import clusters_of
from components.evaluation.metrics import chance
from components.evaluation.metrics_file import MODES
from components.evaluation.occurrence import occurrences
from components.evaluation.params import EvaluationSection
from components.evaluation.pool import Pool, choose_pool
from components.evaluation.retrieval import DIRECTIONS, Ranking, join, rank_one, track_scores
from components.evaluation.scorer import Scorer
from components.modalities import MUSIC, TEXT, VIDEO, Modality
from components.params import read_all
from components.settings import PARAMS_FILE
from components.store import FeatureStore, rows_digest
from flows.errors import Refusal
from flows.gate.judged import Judged
from flows.gate.settings import GateSettings
from flows.gate.sides import Queries, Side
from flows.gate.statistics import labels_of, slowdown
from flows.release.clips import LEARNT, learnt_from, read_clips
from flows.release.releases import Release
from flows.workspace.graph import Graph
from flows.workspace.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class TestSet:
    """The workspace's test clips.

    Attributes:
        pool: clips, texts and features.
        queries: the same as the statistics see them.
        section: of the evaluation.
    """

    pool: Pool
    queries: Queries
    section: EvaluationSection


def read_test_set(graph: Graph, workspace: Workspace) -> TestSet:
    """Read the test clips that the evaluation would take.

    Raises:
        Refusal: files are missing or damaged, or too few clips can be used; the message says what to run.
    """
    paths = {name: workspace.root / path for name, path in graph["evaluation"].arguments.items()}
    section = read_all(workspace.root / PARAMS_FILE).evaluation
    try:
        stores: dict[Modality, FeatureStore] = {m: FeatureStore.open(paths[m]) for m in (VIDEO, MUSIC, TEXT)}
        annotations = FeatureStore.open(paths["annotations"])
        manifest = tables.read_rows(paths["manifest"], tables.MANIFEST)
        pool = choose_pool(manifest, stores, annotations, section)
        tags = {row["clip_id"]: row["tags"] for row in tables.read_rows(paths["tags"], tables.TAGS)}
        texts = _texts(graph, workspace, pool)
    except (ValueError, OSError) as error:
        raise Refusal(f"the test set cannot be read: {error}; `needledrop retrain` makes it") from None
    number = np.zeros(len(pool), np.int64) if pool.number is None else pool.number
    size = int(np.bincount(number).max())
    same = np.concatenate([part.same_track().sum(axis=1) for part in pool.parts()])
    data = {f"{m}_features": rows_digest(store.spec) for m, store in pool.stores.items()}
    data |= {f"{m}_content": _content(store, pool.ids) for m, store in pool.stores.items()}
    queries = Queries(
        clips=tuple(pool.ids),
        clusters=tuple(clusters_of(pool.rows)),
        number=tuple(int(one) for one in number),
        pool=size,
        chance=chance(size, same)["R@10"],
        text_source=pool.text_source,
        data=data,
        labels=labels_of(pool.rows, tags, section.length_edges_s),
        rows={row["clip_id"]: row for row in pool.rows},
        texts=texts,
    )
    return TestSet(pool, queries, section)


def evaluate(scorer: Scorer, test: TestSet, name: str, facts: Mapping[str, str]) -> Side:
    """Rank the test set with a system.

    Raises:
        ValueError: scores that are not numbers.
    """
    rankings: dict[str, list[Ranking]] = {}
    covered: dict[str, list[NDArray[np.bool_]]] = {}
    for part in test.pool.parts():
        for mode, scores in track_scores(scorer, part).items():
            rankings.setdefault(mode, []).append(
                rank_one("track", DIRECTIONS[0], mode, part, scores, part.same_track())
            )
            covered.setdefault(mode, []).append(occurrences(scores)[1])
    joined = {mode: join(rankings[mode]) for mode in MODES if mode in rankings}
    return Side(
        name=name,
        ranks={mode: ranking.rank for mode, ranking in joined.items()},
        top={mode: ranking.top for mode, ranking in joined.items()},
        coverage={mode: float(np.concatenate(covered[mode]).mean()) for mode in joined},
        facts=facts,
    )


def apart_from_learnt(
    client: "MlflowClient", test: TestSet, versions: list[Release], sides: list[Side]
) -> tuple[Queries, list[Side]]:
    """Leave out the queries whose clip a version learnt from: it was trained on it, or chose its checkpoint by it.

    They stay in the pools, where they are in everybody's way alike. Of a version that was registered before runs kept
    their clips nothing is known, and nothing left out.

    Args:
        client: of the runs.
        test: what was asked.
        versions: that may have learnt from a test clip of today.
        sides: (Q,) each; CCA may be among them, which learns from today's train and val clips alone.
    """
    left_out: dict[str, list[str]] = {}
    for version in versions:
        seen = read_clips(client, version.run_id) or []
        for clip, split in learnt_from(seen, test.pool.rows).items():
            left_out.setdefault(clip, []).append(f"version {version.version} {LEARNT[split]} it")
    if not left_out:
        return test.queries, sides
    kept = np.array([clip not in left_out for clip in test.queries.clips])
    said = {clip: ", ".join(parts) for clip, parts in sorted(left_out.items())}
    return replace(test.queries.only(kept), left_out=said), [side.only(kept) for side in sides]


def time_versions(versions: list[Judged], test: TestSet, settings: GateSettings) -> list[NDArray[np.float64]]:
    """Return milliseconds (measurements, rounds) that each version takes for a query: embedding, and search.

    They take turns on the same queries, so that whatever else the machine does meets both of them. A challenger that
    is not shown to be fast enough is measured a second time. Extracting features is not timed: how long that takes
    is a choice of extractor, which the settings make and not the model.

    Args:
        versions: the challenger, and the champion.
        test: whose queries are asked.
        settings: how many rounds, and what is fast enough.

    Raises:
        Refusal: a version fails, or can read none of the clips.
    """
    shown: list[Modality] = [m for m in (VIDEO, TEXT) if m in test.pool.stores]
    ids = list(itertools.islice(itertools.cycle(test.pool.ids), settings.latency_rounds))
    for version in versions:
        version.time(shown, ids[0])  # the first answer warms up

    def measured() -> NDArray[np.float64]:
        spent = np.array([[version.time(shown, clip) for version in versions] for clip in ids]).T
        return spent[:, ~np.isnan(spent).any(axis=0)]

    first = measured()
    if not first.size:
        raise Refusal("no test clip can be read by both versions, so they cannot be timed; nothing was changed")
    longer = slowdown(first[0], first[1], settings.confidence)
    if longer is not None and longer.high <= settings.margins.latency:
        return list(first[:, None])
    return list(np.stack([first, measured()], axis=1))


def _texts(graph: Graph, workspace: Workspace, pool: Pool) -> dict[str, str]:
    """Return the words of the queries."""
    wanted = set(pool.ids)
    if pool.text_source == "annotation":
        rows = tables.read_rows(workspace.root / graph["ingest"].argument("annotated"), tables.ANNOTATIONS)
    elif pool.text_source == "caption":
        rows = tables.read_rows(workspace.root / graph["captioning"].argument("captions"), tables.CAPTIONS)
    else:
        rows = []
    return {row["clip_id"]: row["text"] for row in rows if row["clip_id"] in wanted}


def _content(store: FeatureStore, ids: list[str]) -> str:
    """Return a digest of the content that features of these clips were made from."""
    import hashlib

    keys = dict(zip(store.clip_ids, store.keys, strict=True))
    return hashlib.sha256("\n".join(keys[clip] for clip in ids).encode()).hexdigest()
