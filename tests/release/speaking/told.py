"""Does what the sentence of the first query says; where the queries have a video, process ids are written there."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path


def answer(rows):
    told, place = rows[0]["text"], rows[0]["video"]
    if told == "raise":
        raise KeyError("strings")
    if told == "exit":
        sys.exit(3)
    if told == "end":
        print("the last line", file=sys.stderr)
        os._exit(4)
    if told == "memory":
        return bytearray(100 << 30)
    if told == "refuse":
        raise ValueError("a query needs a video")
    if told == "nonsense":
        return hits([row | {"k": row["k"] + 1} for row in rows])
    if told in ("hang", "start"):
        starts(place)
    if told == "hang":
        time.sleep(600)
    print('{"rows": []}', flush=True)
    os.write(1, b"more")
    return hits(rows)


def hits(rows):
    """As many clips for each query as it wants; the title says what code of today could be reached."""
    found = {name for name in ("components.store", "flows", "needledrop") if can_import(name)}
    clip = {"clip_id": "a", "track_id": "b", "artist": None, "start_s": 0.0, "end_s": 1.0, "tags": "genres:folk"}
    clip["title"] = ", ".join(sorted(found)) or None
    return [
        {"query": number, "rank": rank, "score": 0.1 * rank, **clip}
        for number, row in enumerate(rows)
        for rank in range(1, row["k"] + 1)
    ]


def can_import(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


def starts(place):
    """Start a process in this group and one that leaves it, and tell who they are."""
    children = [subprocess.Popen(["sleep", "600"], start_new_session=leaves) for leaves in (False, True)]
    part = Path(place + ".part")
    part.write_text(" ".join(str(child.pid) for child in children))
    part.replace(place)
