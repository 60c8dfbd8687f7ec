"""What an expectation cannot compute by itself, put into columns first."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pandas as pd

GROUPS: Final = ("video", "track", "artist")
_CSV_ROW: Final = re.compile(r"\.csv:\d+$")  # quarantined rows of a CSV file; the rest are media files


def with_helpers(manifest: "pd.DataFrame") -> "pd.DataFrame":
    """Add media_exists, and splits_of_video, _track and _artist: in how many splits each one occurs."""
    table = manifest.copy()
    if "uri" in table:
        table["media_exists"] = [Path(uri).is_file() for uri in table["uri"]]
    for group in GROUPS:
        if {f"{group}_id", "split"} <= set(table):
            table[f"splits_of_{group}"] = table.groupby(f"{group}_id")["split"].transform("nunique")
    return table


def corpus_row(manifest: "pd.DataFrame", quarantine: "pd.DataFrame", annotations: "pd.DataFrame") -> "pd.DataFrame":
    """Return one row about the corpus as a whole: counts per split and shares."""
    import pandas as pd

    files = sum(1 for uri in quarantine["uri"].unique() if not _CSV_ROW.search(uri))
    splits = manifest.get("split", pd.Series(dtype=object))
    test = set(manifest.loc[splits == "test", "clip_id"]) if "clip_id" in manifest and len(splits) else set()
    row: dict[str, float] = {f"{split}_clips": int((splits == split).sum()) for split in ("train", "val", "test")}
    row["quarantined_share"] = files / max(1, files + len(manifest))
    row["annotated_test_share"] = len(test & set(annotations["clip_id"])) / max(1, len(test))
    return pd.DataFrame([row])
