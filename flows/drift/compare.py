"""Compare what is new in the workspace with the champion's reference. Nothing here has an effect outside."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from components.modalities import VIDEO
from flows.drift.corpus import Corpus, Row
from flows.drift.decide import SCALARS, Decision, decide, level_for
from flows.drift.harm import Harm, predict
from flows.drift.sample import Sample
from flows.drift.settings import DriftSettings
from flows.drift.stored import Reference, refuse_other_extractor
from flows.errors import Refusal
from flows.registry.digest import locked_outputs
from flows.workspace.graph import Graph
from flows.workspace.workspace import Workspace

Outcome = Literal["drift", "no drift", "too few", "refused"]
LAST_NEEDED = (("training", "video"), ("training", "music"), ("indexing", "tags"), ("indexing", "manifest"))
"""Arguments that name the files a comparison reads; what writes them is asked of the graph."""

_WORDS = {VIDEO: "pictures", SCALARS: "media files"}


@dataclass(frozen=True)
class Finding:
    """What a comparison found.

    Attributes:
        outcome: drift, no drift, too few, refused.
        words: the same as a person would say it.
        key: digest of the manifest that holds them.
        new: clips that the reference's manifest does not hold. gone: clips of it that are no more.
        groups: artists (or videos) of the new clips.
        window: the new clips, where there were enough.
        decision, harm: of the window, where it was compared.
        notes: what was left out, and why.
    """

    outcome: Outcome
    words: str
    key: str
    new: int = 0
    gone: int = 0
    groups: int = 0
    window: Sample | None = None
    decision: Decision | None = None
    harm: Harm | None = None
    notes: tuple[str, ...] = field(default=())


def needed(graph: Graph) -> Graph:
    """Return the part of the graph that makes the manifest, features and tags of a comparison."""
    wanted = {str(graph[stage].argument(argument)) for stage, argument in LAST_NEEDED}
    names = {stage.name for stage in graph.stages if wanted & set(stage.outputs)}
    for stage in reversed(graph.stages):  # each stands after its parents
        if stage.name in names:
            names.update(stage.parents)
    return Graph(graph.root, tuple(stage for stage in graph.stages if stage.name in names))


def manifest_digest(graph: Graph, workspace: Workspace) -> str:
    """Return the digest of the manifest as dvc.lock has it.

    Raises:
        Refusal: dvc.lock does not know it.
    """
    path = str(graph["indexing"].argument("manifest"))
    outputs = locked_outputs(workspace.root)
    if path not in outputs:
        raise Refusal(f"dvc.lock has no digest of {path}; run `needledrop retrain`")
    return outputs[path]


def compare(
    graph: Graph, workspace: Workspace, reference: Reference, settings: DriftSettings, model: Path | None = None
) -> Finding:
    """Compare the clips that the reference's manifest does not hold with the reference.

    Args:
        graph: of the workspace; features and tags are up to date.
        workspace: the workspace.
        reference: the champion's.
        settings: drift.yaml.
        model: folder of the champion's model; with it the alignment of pictures and music is compared too.
    """
    key = manifest_digest(graph, workspace)
    corpus = Corpus(graph, workspace)
    head = reference.head
    try:
        refuse_other_extractor(head, corpus.extractors)
    except Refusal as error:
        return Finding("refused", str(error), key)
    gone = len(reference.known - set(corpus.listed))
    rows = [row for row in corpus.rows if row["clip_id"] not in reference.known]
    groups = len({str(row[head.grouping]) for row in rows})
    unit = "artists" if head.grouping == "artist_id" else "videos"
    if len(rows) < settings.least_clips or groups < settings.least_groups:
        words = (
            f"too few new clips to tell: {len(rows)} by {groups} {unit}, "
            f"{settings.least_clips} by {settings.least_groups} are needed"
        )
        return Finding("too few", words, key, len(rows), gone, groups)
    held = len(reference.prepared().compared)
    if held < settings.least_clips:
        words = f"the champion's reference is too small to tell: {held} clips to compare with, {settings.least_clips} are needed"
        return Finding("too few", words, key, len(rows), gone, groups)
    window, notes = _window(corpus, rows, reference, model)
    level = level_for(head.calibration, min(len(window), settings.most_clips), settings)
    decision = decide(reference.prepared(), window, settings, level)
    harm = None
    if head.same_tagger(corpus.tagger):
        harm = predict(head.recall, head.slices, reference.sample.tags, window.tags)
    what = f"{len(rows)} new clips by {groups} {unit}"
    if decision.drifted:
        names = ", ".join(_WORDS.get(family.name, family.name) for family in decision.families if family.drifted)
        return Finding(
            "drift", f"drift in {names}: {what}", key, len(rows), gone, groups, window, decision, harm, notes
        )
    return Finding("no drift", f"no drift: {what}", key, len(rows), gone, groups, window, decision, harm, notes)


def _window(
    corpus: Corpus, rows: list[Row], reference: Reference, model: Path | None
) -> tuple[Sample, tuple[str, ...]]:
    """Return the new clips as a sample, and what cannot be compared."""
    notes = []
    try:
        # No clip of the window was seen by the champion, whatever the splits of the new manifest say.
        unseen: list[Row] = [{**row, "split": "new"} for row in rows]
        window = corpus.sample(unseen, reference.head.grouping, model)
    except ValueError as error:
        notes.append(f"Alignment is not compared: {error}.")
        window = corpus.sample(rows, reference.head.grouping)
    if not reference.head.same_tagger(corpus.tagger):
        notes.append(
            "Tags are not compared and no harm is predicted: the tagger is another one than the champion's was, "
            "so the same music would get other tags."
        )
        window = window.without_tags()
    return window, tuple(notes)


def as_json(finding: Finding) -> dict[str, Any]:
    """The finding as plain values."""
    decision, harm = finding.decision, finding.harm
    return {
        "outcome": finding.outcome,
        "words": finding.words,
        "manifest": finding.key,
        "new_clips": finding.new,
        "gone_clips": finding.gone,
        "groups": finding.groups,
        "notes": list(finding.notes),
        "level": decision.level if decision else None,
        "families": [
            {
                "name": family.name,
                "p": family.p,
                "adjusted": family.adjusted,
                "drifted": family.drifted,
                "tests": {name: {"p": test.p, "statistic": test.statistic} for name, test in family.tests.items()},
            }
            for family in (decision.families if decision else ())
        ],
        "harm": vars(harm) if harm else None,
    }
