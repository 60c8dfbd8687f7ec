"""What the tagging stage says at its end."""

from components.modalities import TAG_GROUPS
from components.tagging.probe import MIN_TRACKS, Fit
from components.tagging.tag import Tagged


def report(fit: Fit, tagged: Tagged) -> None:
    """Print one line each: tags left out, the tagger's scores, the rows."""
    examples = fit.examples
    if examples.left_out:
        listed = ", ".join(f"{name} ({count})" for (_, name), count in examples.left_out)
        print(f"tagging: left out for too few or too many tracks in the seed library: {listed}")
    if not fit.tagger.tags:
        tracks = len(examples.clip_ids)
        print(f"tagging: {tracks} usable seed tracks (at least {MIN_TRACKS} are needed): no clip gets a tag")
    for group in TAG_GROUPS:
        if group in fit.scores["groups"]:
            figures = fit.scores["groups"][group]
            print(
                f"tagging: {group}: {len(figures['tags'])} tags, held-out ROC-AUC {figures['roc_auc']:.3f}, "
                f"PR-AUC {figures['pr_auc']:.3f}, calibration error {figures['ece']:.3f}"
            )
    untagged = sum(not row["tags"] for row in tagged.rows)
    print(
        f"tagging: {len(tagged.rows)} rows, {tagged.computed} computed, {tagged.kept} kept, {tagged.dropped} dropped, "
        f"{tagged.without_features} without music features, {untagged} without any tag"
    )
