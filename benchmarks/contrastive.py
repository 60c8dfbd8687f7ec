"""Symmetric InfoNCE of a large batch, forward and backward: time and peak memory of four ways to compute it.

- autograd: logits, then `cross_entropy` of them and of their transpose; what public code does.
- checkpoint: log sum exps by blocks of rows under `torch.utils.checkpoint`; the ready-made way to save memory.
- whole: `components.encoder.losses` with the score matrix in memory, for batches where it fits.
- streaming: the same with `encoder.loss.stream_rows`, by blocks of rows.

Prediction: autograd reads and writes the (batch, batch) matrix some fifteen times, which costs more than its three
matrix products; streaming makes four products of blocks that stay in cache. Goal at batch 16,384 x 256: streaming at
least 1.5 times faster than autograd with at least 10 times less memory, and the same gradients.

Every run is a process of its own, one after another, the ways taking turns; the best time counts. Memory is the peak
of the process (on a GPU, of the allocator) over what the inputs need. It includes what the C allocator keeps of freed
blocks: with MALLOC_MMAP_THRESHOLD_=65536 in the environment checkpoint needs hardly more than streaming, and more time.

Run `python -m benchmarks.contrastive`, for a small batch `--quick`, on a GPU `--device cuda --stream-rows 4096`.
`--clips-per-track 2` gives every sample a false negative to leave out; `--temperature 0.01` is where exp of a logit
no longer fits a float32, and streaming has to look for the largest of each row and column.
"""

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SPEED_GOAL, MEMORY_GOAL = 1.5, 10.0
WAYS = ("autograd", "checkpoint", "whole", "streaming")


class Run(NamedTuple):
    """One forward and backward: seconds, bytes over the inputs, loss, and gradients of query, target and scale."""

    seconds: float
    memory: int
    loss: float
    gradients: list[np.ndarray]


def autograd(query: Any, target: Any, scale: Any, tracks: Any, rows: int) -> Any:
    """Cross entropy both ways over stored logits."""
    import torch
    from torch.nn.functional import cross_entropy

    logits = scale * query @ target.T
    own = torch.arange(len(query), device=query.device)
    if len(tracks.unique()) < len(tracks):
        same = (tracks[:, None] == tracks).fill_diagonal_(False)
        logits = logits.masked_fill(same, float("-inf"))
    return 0.5 * (cross_entropy(logits, own) + cross_entropy(logits.T, own))


def checkpoint(query: Any, target: Any, scale: Any, tracks: Any, rows: int) -> Any:
    """Log sum exps by blocks of rows, each computed again in backward by autograd."""
    import torch
    from torch.utils.checkpoint import checkpoint as again

    distinct = len(tracks.unique()) == len(tracks)

    def block(part: Any, first: int) -> Any:
        logits = scale * part @ target.T
        if not distinct:
            same = tracks[first : first + len(part), None] == tracks
            same.diagonal(first).fill_(False)
            logits = logits.masked_fill(same, float("-inf"))
        return logits.logsumexp(1), logits.logsumexp(0)

    sums = [again(block, query[at : at + rows], at, use_reentrant=False) for at in range(0, len(query), rows)]
    by_row, by_column = torch.cat([row for row, _ in sums]), torch.stack([column for _, column in sums]).logsumexp(0)
    return (0.5 * (by_row + by_column) - scale * (query * target).sum(1)).mean()


def ours(query: Any, target: Any, scale: Any, tracks: Any, rows: int | None) -> Any:
    """Return the term of `encoder.loss`, from its objective; `rows` None holds the whole matrix."""
    import torch

    from components.encoder.losses import Identities, Pair, build_loss
    from components.encoder.params import TERMS, InfoNCE, MaskSection

    section = InfoNCE(
        kind="infonce",
        terms={**dict.fromkeys(TERMS, 0.0), "fused-music": 1.0},
        initial_temperature=1.0,
        lowest_temperature=1.0,
        hard_negatives=0.0,
        mask=MaskSection(same_track=True, same_artist=False, near_duplicates=None),
        stream_rows=rows,
    )
    objective = build_loss(section).to(query.device)
    objective.scale = lambda: scale  # type: ignore[method-assign]  # the benchmark's own leaf, whose gradient is compared
    present = torch.ones(len(query), dtype=torch.bool, device=query.device)
    return objective({"fused-music": Pair(query, target, present)}, Identities(tracks, tracks, None))["loss"]


def whole(query: Any, target: Any, scale: Any, tracks: Any, rows: int) -> Any:
    """Return the objective's term with the whole matrix in memory."""
    return ours(query, target, scale, tracks, None)


def streaming(query: Any, target: Any, scale: Any, tracks: Any, rows: int) -> Any:
    """Return the objective's term by blocks of rows."""
    return ours(query, target, scale, tracks, rows)


def measure(way: str, args: argparse.Namespace) -> Run:
    """Run one way once, in a process of its own."""
    import torch

    torch.set_num_threads(args.threads)
    loss_of: Callable[..., Any] = {
        "autograd": autograd, "checkpoint": checkpoint, "whole": whole, "streaming": streaming,
    }[way]  # fmt: skip
    inputs = batch(args.batch, args)
    loss_of(*batch(64, args), 32).backward()  # loads the kernels
    cuda = args.device != "cpu"
    clock = time.process_time if args.cpu_time else time.perf_counter
    before = peak(cuda, reset=True)
    started = clock()
    loss = loss_of(*inputs, args.stream_rows)
    loss.backward()
    if cuda:
        torch.cuda.synchronize()
    seconds = clock() - started
    memory = peak(cuda) - before
    return Run(seconds, memory, float(loss.detach()), [leaf.grad.cpu().numpy() for leaf in inputs[:3]])


def batch(size: int, args: argparse.Namespace) -> tuple[Any, Any, Any, Any]:
    """Return queries, targets near them, the scale and track numbers."""
    import torch

    torch.manual_seed(0)
    query = torch.nn.functional.normalize(torch.randn(size, args.dims), dim=1)
    target = torch.nn.functional.normalize(query + 0.1 * torch.randn(size, args.dims), dim=1)
    scale = torch.tensor(1.0 / args.temperature, device=args.device, requires_grad=True)
    leaves = [x.to(args.device).requires_grad_() for x in (query, target)]
    return leaves[0], leaves[1], scale, torch.arange(size, device=args.device) // args.clips_per_track


def peak(cuda: bool, reset: bool = False) -> int:
    """Return the peak memory in bytes since the last reset."""
    if cuda:
        import torch

        torch.cuda.synchronize()
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.max_memory_allocated())
    if reset:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak falls to what is held now
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Measure and print times, memory and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=16384)
    parser.add_argument("--dims", type=int, default=256)
    parser.add_argument("--stream-rows", type=int, default=256)
    parser.add_argument("--temperature", type=float, default=0.07)
    parser.add_argument("--clips-per-track", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="seconds of CPU; use it where others share the machine")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="batch 4,096, two rounds; the goals do not decide")
    args = parser.parse_args()
    if args.quick:
        args.batch, args.rounds = 4096, 2
    print(f"batch {args.batch:,} x {args.dims}, float32, {args.device}, {args.threads} threads, "
          f"blocks of {args.stream_rows} rows")  # fmt: skip
    from components.encoder.device import wait_quietly

    wait_quietly()  # as the training command does; the processes inherit it
    runs: dict[str, list[Run]] = {way: [] for way in WAYS}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as processes:
        for _ in range(args.rounds):
            for way in WAYS:
                runs[way].append(processes.submit(measure, way, args).result())
    best = {way: min(run.seconds for run in found) for way, found in runs.items()}
    memory = {way: min(run.memory for run in found) for way, found in runs.items()}
    for way, found in runs.items():
        slowest = max(run.seconds for run in found)
        print(
            f"{way:10} {best[way]:7.2f} s (to {slowest:.2f})   {memory[way] / 2**20:9,.1f} MiB   loss {found[0].loss:.7f}"
        )
    for way in WAYS[:-1]:
        speed, less = best[way] / best["streaming"], memory[way] / memory["streaming"]
        goal = f"   goals {SPEED_GOAL} and {MEMORY_GOAL:.0f}" if way == "autograd" else ""
        print(f"streaming against {way:10}: {speed:5.2f} times faster, {less:6.1f} times less memory{goal}")
    pairs = zip(runs["autograd"][0].gradients, runs["streaming"][0].gradients, strict=True)
    for name, (naive, streamed) in zip(("query", "target", "scale"), pairs, strict=True):
        far = float(np.abs(naive - streamed).max())
        print(f"gradient of {name:6}: largest difference {far:.1e}, largest value {np.abs(naive).max():.1e}")
        if far > 1e-6:
            sys.exit("error: the gradients differ")
    reached = best["autograd"] >= SPEED_GOAL * best["streaming"] and (
        memory["autograd"] >= MEMORY_GOAL * memory["streaming"]
    )
    sys.exit(0 if reached or args.quick else 1)


if __name__ == "__main__":
    main()
