"""What an expectation cannot compute by itself, put into columns first."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pandas as pd

GROUPS: Final = ("video", "track", "artist")
_CSV_ROW: Final = re.compile(r"\.csv:\d+$")  # quarantined rows of a CSV file; the rest are media files


def with_helpers(manifest: "pd.DataFrame") -> "pd.DataFrame":
    """Add columns that are empty where all is well, and else name the offender.

    missing_media: the uri of a file that is not there; video_, track_ and artist_in_several_splits: its id.
    """
    table = manifest.copy()
    if "uri" in table:
        table["missing_media"] = [None if Path(uri).is_file() else uri for uri in table["uri"]]
    for group in GROUPS:
        ids = f"{group}_id"
        if {ids, "split"} <= set(table):
            shared = table.groupby(ids)["split"].transform("nunique") > 1
            table[f"{group}_in_several_splits"] = table[ids].where(shared, None)
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
