"""A training step against the matrix products that it cannot avoid, on this machine.

The floor: the products of every linear layer, every attention and the objective's score matrix, with
their shapes, forward and backward, run alone (torch.mm, torch.bmm), and nothing else: on a GPU played from a
recording. A layer over the features themselves has one backward product, for its weight; all others have two.
The step: gathered features to updated weights, by the code of training. Goal: floor / step >= 0.70.

Prediction: at width 256 and a batch of 1,024 most of the step is the products; what is left is dropout and
noise (random numbers), norms, the softmax and the optimiser, all bound by memory.

Run `python -m benchmarks.training`; `--quick` for a small run; on a GPU `--device cuda --batch 4096 --clips 100000`,
which computes in bfloat16 where there is one, with the features held on the GPU and with them on disk, and times
an epoch of those clips. Step and floor take turns; the smallest time of each counts, since what else the machine
does only adds. `--record FILE` adds the figures to a file of them.
"""

import argparse
import datetime
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

GOAL = 0.70
DISTINCT = 4096  # clips whose features differ; more of them would take long to make, and no time depends on it
DIMS = {"video": 512, "text": 384, "music": 512}
SEGMENTS = {"video": 10, "text": 1, "music": 10}
Shape = tuple[int, ...]


class Product(NamedTuple):
    """Shapes of both factors, and whether the left one takes part in the backward pass."""

    left: Shape
    right: Shape
    trained: bool = True


def sections(args: argparse.Namespace) -> tuple[Any, Any]:
    """Return the sections of params.yaml at the shape to be measured."""
    from components.encoder.params import EncoderSection
    from components.settings import parse_section, read_params
    from components.training.params import TrainingSection

    tree = read_params(Path(__file__).parent.parent / "params.yaml")
    tree["encoder"] |= {
        "width": args.width, "layers": args.layers, "heads": args.width // 64, "feedforward": 4 * args.width,
        "embedding_dims": args.width,
    }  # fmt: skip
    tree["training"] |= {
        "batch": args.batch, "threads": args.threads, "processes": 1, "chunk": args.chunk or None, "compile": "auto"
    }  # fmt: skip
    if args.plain:
        tree["encoder"] |= {
            "dropout": 0.0,
            "input_dropout": 0.0,
            "input_noise": {"video": 0.0, "text": 0.0, "music": 0.0},
        }
    return parse_section(EncoderSection, "encoder", tree), parse_section(TrainingSection, "training", tree)


def features(folder: Path, clips: int) -> tuple[Any, list[dict[str, Any]]]:
    """Return stores of random features and their manifest."""
    import numpy as np

    from components.increments import update_store
    from components.store import FeatureStore
    from components.training.data import Features

    rng = np.random.default_rng(0)
    ids = [f"clip-{at:06d}" for at in range(clips)]
    stores = {}
    for name, modality in (("video", "video"), ("music", "music"), ("text", "text"), ("annotations", "text")):
        shape = (SEGMENTS[modality], DIMS[modality])
        made = rng.standard_normal((min(clips, DISTINCT), *shape), np.float32)
        spec = {"modality": modality, "dims": shape[1], "max_segments": shape[0]}
        items = [(clip, "1") for clip in ids] if name != "annotations" else []
        update_store(folder / name, spec, items, lambda c, m=made: ((i, m[int(i[-6:]) % len(m)]) for i in c), 4096)
        stores[name] = FeatureStore.open(folder / name)
    manifest = [
        {"clip_id": clip, "track_id": clip, "artist_id": clip, "split": "train"} for clip in ids
    ]  # fmt: skip
    return Features(stores["video"], stores["music"], stores["text"], stores["annotations"]), manifest


@contextmanager
def recorded(model: Any) -> Iterator[list[Product]]:
    """Collect the products of a forward pass: of each linear layer, of attention, of the objective."""
    import torch
    from torch.nn import functional as F

    products: list[Product] = []
    attend = F.scaled_dot_product_attention

    def linear(layer: Any, inputs: tuple[Any, ...], output: Any) -> None:
        rows = inputs[0].numel() // layer.in_features
        weight = (layer.in_features, layer.out_features)
        products.append(Product((rows, layer.in_features), weight, inputs[0].requires_grad))

    def attention(q: Any, k: Any, v: Any, **rest: Any) -> Any:
        many, (queries, dims), keys = q.shape[0] * q.shape[1], q.shape[2:], k.shape[2]
        products.append(Product((many, queries, dims), (many, dims, keys)))
        products.append(Product((many, queries, keys), (many, keys, dims)))
        return attend(q, k, v, **rest)

    hooks = [m.register_forward_hook(linear) for m in model.modules() if isinstance(m, torch.nn.Linear)]
    F.scaled_dot_product_attention = attention
    try:
        yield products
    finally:
        F.scaled_dot_product_attention = attend
        for hook in hooks:
            hook.remove()


def floor_of(products: list[Product], device: Any, dtype: Any) -> Callable[[], None]:
    """Return what runs the products and those of their gradients on tensors made once; on a GPU without their launches."""
    import torch

    made: dict[Product, tuple[Any, Any, Any]] = {}
    for product in products:
        a, b = (torch.randn(shape, device=device, dtype=dtype) for shape in product[:2])
        made[product] = (a, b, a @ b)

    def run() -> None:
        for product in products:
            a, b, c = made[product]
            multiply = torch.bmm if a.ndim == 3 else torch.mm
            multiply(a, b)
            multiply(a.transpose(-1, -2), c)
            if product.trained:
                multiply(c, b.transpose(-1, -2))

    if device.type != "cuda":
        return run
    run()  # before it is recorded, libraries choose their kernels
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay  # type: ignore[no-any-return]


def fastest(
    works: dict[str, Callable[[], None]], rounds: int, device: Any, clock: Callable[[], float]
) -> dict[str, float]:
    """Return the smallest seconds of each; they take turns."""
    import torch

    for work in works.values():
        work()  # warms up
    best = dict.fromkeys(works, float("inf"))
    for _ in range(rounds):
        for name, work in works.items():
            started = clock()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize()
            best[name] = min(best[name], clock() - started)
    return best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--clips", type=int, default=0, help="in the store; 0: two batches")
    parser.add_argument("--chunk", type=int, default=0, help="clips per forward pass; 0: the batch")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="seconds of CPU; use it where others share the machine")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--plain", action="store_true", help="without dropout and noise")
    parser.add_argument("--record", type=Path, help="JSON file that the figures are added to")
    parser.add_argument("--profile", action="store_true", help="print where the step's time goes")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if args.quick:
        args.batch, args.rounds = 256, 3

    import tempfile

    from components.encoder.device import wait_quietly

    wait_quietly()  # as the training command does; threads that spin would count as CPU seconds
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(0 if measure(args, Path(folder)) else 1)


def measure(args: argparse.Namespace, folder: Path) -> bool:
    """Print the figures; return whether the goal is reached."""
    import torch

    from components.encoder.device import deterministic_device
    from components.encoder.model import TrimodalModel
    from components.modalities import MODALITIES
    from components.training.batches import Batches, ahead, on_device, resident
    from components.training.loop import Trainer
    from components.training.world import World

    encoder, section = sections(args)
    device = (
        deterministic_device(args.threads)
        if args.device == "cuda"
        else (deterministic_device(args.threads), torch.device("cpu"))[1]
    )
    on_gpu = device.type == "cuda"
    stores, manifest = features(folder, args.clips or 2 * args.batch)
    clips = stores.clips(manifest, "train", 2)
    torch.manual_seed(0)
    model = TrimodalModel(encoder, {m: DIMS[m] for m in MODALITIES}).to(device)
    trainer = Trainer(model, section, World(device), args.batch)

    def batches(held: Any) -> Any:
        return Batches(stores, clips, section, args.batch, slice(0, args.batch), on_gpu, held)

    on_disk, held = batches(None), batches(resident(stores, clips, device))
    given, _ = on_device(held.parcel(0), device)
    with recorded(model) as products:
        pairs = model.train()(given)
    products += [Product((args.batch, args.width), (args.width, args.batch)) for _ in pairs]
    del given, pairs
    dtype = torch.bfloat16 if on_gpu and torch.cuda.is_bf16_supported() else torch.float32
    flops = sum(2 * (2 + p.trained) * torch.Size(p.left).numel() * p.right[-1] for p in products)

    def steps(of: Any) -> tuple[Any, Callable[[], None]]:
        parcels = ahead(of.parcel, range(10**9))

        def one() -> None:
            step, parcel = next(parcels)
            trainer.step(parcel, step % section.steps)

        return parcels, one

    parcels, whole = steps(held)
    for _ in range(3):
        whole()  # warms up; a compiled step is recorded in its second and third run
    memory = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0
    same = held.parcel(0)
    works = {
        "floor": floor_of(products, device, dtype),
        "step": whole,
        "step, batch at hand": lambda: trainer.step(same, 0),
        "batch alone": lambda: on_device(held.parcel(0), device) and None,
    }
    clock = time.process_time if args.cpu_time else time.perf_counter
    best = fastest(works, args.rounds, device, clock)
    if on_gpu:  # afterwards: what gathers the next batch in a thread would disturb the others
        from_disk, one = steps(on_disk)
        alone = {"batch alone, on disk": lambda: on_device(on_disk.parcel(0), device) and None}
        best |= fastest({"step, features on disk": one}, args.rounds, device, clock)
        best |= fastest(alone, args.rounds, device, clock)
        from_disk.close()
    name = torch.cuda.get_device_name() if on_gpu else f"CPU, {args.threads} threads"
    print(f"{name}: batch {args.batch}, width {args.width}, {args.layers} layers, {str(dtype).removeprefix('torch.')}")
    print(f"{len(products)} products forward, {flops / 1e9:,.1f} GFLOP a step with backward")
    for label, seconds in best.items():
        print(f"{label:23} {1e3 * seconds:9.2f} ms")
    ratio = best["floor"] / best["step"]
    print(f"floor / step            {ratio:9.2f}   goal {GOAL:.2f}")
    began = clock()
    for _ in range(len(clips) // args.batch):
        whole()
    if on_gpu:
        torch.cuda.synchronize()
    epoch = clock() - began
    print(
        f"an epoch of {len(clips):,} clips: {epoch:.2f} s, {len(clips) // args.batch * args.batch / epoch:,.0f} clips/s"
    )
    if on_gpu:
        print(f"peak memory {memory:.2f} GiB")
    if args.profile:
        with torch.profiler.profile() as profile:
            trainer.step(same, 0)
        print(profile.key_averages().table(sort_by=f"self_{device.type}_time_total", row_limit=30))
    parcels.close()
    if args.record:
        record(args, {
            "device": name, "dtype": str(dtype).removeprefix("torch."), "gflop": round(flops / 1e9, 1),
            "milliseconds": {label: round(1e3 * seconds, 3) for label, seconds in best.items()},
            "clips": len(clips), "epoch_s": round(epoch, 3),
            "peak_memory_gib": round(memory, 2),
        })  # fmt: skip
    return ratio >= GOAL


def record(args: argparse.Namespace, figures: dict[str, Any]) -> None:
    """Add a run to the file of ``--record``."""
    import torch

    runs = json.loads(args.record.read_text()) if args.record.exists() else []
    asked = {name: getattr(args, name) for name in ("batch", "width", "layers", "chunk", "plain")}
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    now = datetime.datetime.now(datetime.UTC).date().isoformat()
    args.record.write_text(json.dumps([*runs, {"date": now, **versions, **asked, **figures}], indent=2) + "\n")


if __name__ == "__main__":
    main()
