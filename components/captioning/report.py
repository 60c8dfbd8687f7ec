"""What the captioning stage says at its end."""

from collections import Counter

from components.captioning.progress import Captioned


def report(captioned: Captioned) -> None:
    """Print one line: rows, how they came about, and their verdicts."""
    verdicts = Counter(row["verdict"] for row in captioned.rows)
    listed = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    print(
        f"captioning: {len(captioned.rows)} rows, {captioned.computed} computed, {captioned.kept} kept, "
        f"{captioned.dropped} dropped, 0 quarantined" + (f" ({listed})" if listed else "")
    )
