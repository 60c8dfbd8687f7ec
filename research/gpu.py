"""The page's part on training with a GPU, from what `benchmarks.training --record` left in docs/."""

import json
from collections.abc import Iterator
from pathlib import Path

FILE = "study-gpu.json"
COMMAND = f"python -m benchmarks.training --device cuda --batch 4096 --clips 100000 --record docs/{FILE}"


def gpu_lines(docs: Path) -> Iterator[str]:
    """Yield the lines of the part; without a record they say how to make one."""
    path = docs / FILE
    if not path.is_file():
        yield f"Not measured. Where there is a GPU: `{COMMAND}`."
        return
    yield (
        "A whole training step with random features, 10 segments of video and music and one of text, against the "
        "matrix products that it cannot avoid, played alone from a recording: forward and backward of every linear "
        "layer, of attention and of the scores. Features held in the GPU's memory, in brackets gathered from disk for "
        f"each step. An epoch is timed whole. Measured by `{COMMAND}`, the studied models above on a CPU."
    )
    yield ""
    yield "| device | width, layers | batch | products | step | share | an epoch | clips/s | peak memory |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for run in json.loads(path.read_text(encoding="utf-8")):
        took = run["milliseconds"]
        disk = took.get("step, features on disk")
        trained = run["clips"] // run["batch"] * run["batch"]  # an epoch leaves out its short last batch
        yield (
            f"| {run['device']}, {run['dtype']}, torch {run['torch']}, {run['date']} | {run['width']}, {run['layers']} "
            f"| {run['batch']:,} | {took['floor']:.1f} ms | {took['step']:.1f} ms{f' ({disk:.1f})' if disk else ''} "
            f"| {took['floor'] / took['step']:.2f} | {run['clips']:,} clips in {run['epoch_s']:.2f} s "
            f"| {trained / run['epoch_s']:,.0f} | {run['peak_memory_gib']:.1f} GiB |"
        )
