"""What the captioning stage says at its end."""

from collections import Counter
from typing import Any

from components.captioning.progress import Captioned


def report(captioned: Captioned, quality: dict[str, Any]) -> None:
    """Print how good the captions are, then rows, how they came about and their verdicts."""
    passed, collection = quality["yield"], quality["collection"]
    if passed["value"] is not None:
        print(
            f"captioning: yield {passed['value']:.1%} [{passed['low']:.1%}, {passed['high']:.1%}] of {passed['of']}, "
            f"tag recall {quality['recall'] or 0.0:.3f}, with terms that no tag covers "
            f"{quality['hallucination_rate'] or 0.0:.1%}, {quality['contradictions']} contradictions, "
            f"{quality['leaks']} leaks, largest cluster {collection['largest_cluster']:.1%}"
        )
    if not quality["suite"]["passed"] or quality["suite"]["warnings"]:
        print(
            "captioning: an expectation of the captions is not met; see suite.json and audit.html in the quality folder"
        )
    verdicts = Counter(row["verdict"] for row in captioned.rows)
    listed = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    print(
        f"captioning: {len(captioned.rows)} rows, {captioned.computed} computed, {captioned.kept} kept, "
        f"{captioned.dropped} dropped, {len(captioned.quarantined)} quarantined" + (f" ({listed})" if listed else "")
    )
