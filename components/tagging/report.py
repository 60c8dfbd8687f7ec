"""What the tagging stage says at its end."""

from collections.abc import Mapping, Sequence
from typing import Any

from components.modalities import TAG_GROUPS
from components.tagging.examples import MIN_TRACKS
from components.tagging.progress import Scored
from components.tagging.tagger import Fitted


def report(fitted: Fitted, scored: Scored, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print one line each: what became of labels, the tagger's scores, the rows."""
    vocabulary, figures = fitted.vocabulary, fitted.scores["groups"]
    if fitted.left_out:
        listed = ", ".join(f"{name} ({count})" for (_, name), count in fitted.left_out)
        _say(f"left out for too few or too many tracks in the seed library: {listed}")
    if vocabulary.unmapped:
        _say(f"{len(vocabulary.unmapped)} labels have no place in the taxonomy: {', '.join(vocabulary.unmapped)}")
    if vocabulary.outside:
        listed = ", ".join(f"{group}: {name}" for group, name in vocabulary.outside)
        _say(f"{len(vocabulary.outside)} tags of the seed library are not in the taxonomy, and kept: {listed}")
    if not figures:
        effect = "nothing is known of the tagger" if vocabulary.tags else "no clip gets a tag"
        _say(f"{fitted.scores['tracks']} usable seed tracks (at least {MIN_TRACKS} are needed): {effect}")
    for note in fitted.notes:
        _say(note)
    for group in (group for group in TAG_GROUPS if group in figures):
        said = figures[group]
        before = f" ({said['ece_uncalibrated']:.3f} uncalibrated)" if said.get("calibrated") else ""
        _say(
            f"{group}: {len(said['tags'])} tags, held-out ROC-AUC {said['roc_auc']:.3f}, "
            f"PR-AUC {said['pr_auc']:.3f}, calibration error {said['ece']:.3f}{before}"
        )
    untagged = sum(not row["tags"] for row in rows)
    _say(
        f"{len(rows)} rows, {scored.computed} computed, {scored.kept} kept, {scored.dropped} dropped, "
        f"{len(scored.refused) + len(fitted.refused)} quarantined, {scored.skipped} without music features, "
        f"{untagged} without any tag"
    )


def _say(line: str) -> None:
    print(f"tagging: {line}")
