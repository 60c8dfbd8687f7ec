"""Sections, batches and gradients for the tests of the objectives; run as a module, one of two gloo processes."""

import sys
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch.nn.functional import normalize

from components.encoder.losses import Identities, Objective, Pair, build_loss
from components.encoder.params import TERMS, LossSection, Term

INFONCE = {"kind": "infonce", "hard_negatives": 0.0}
SIGMOID = {"kind": "sigmoid", "initial_bias": -2.0}
HARD = {**INFONCE, "hard_negatives": 0.7}
EVERYTHING_MASKED = {"same_track": True, "same_artist": True, "near_duplicates": 0.8}
ALL_TERMS = {"fused-music": 1.0, "video-music": 0.5, "text-music": 0.25, "video-text": 2.0}

# Every loss, stored and streamed, plain and with every mask, cut to who is there and in fixed shapes.
CASES: dict[str, tuple[dict[str, Any], bool]] = {
    f"{name}, stream_rows {rows}, {'all masks' if masked else 'no mask'}{', fixed shapes' if fixed else ''}": (
        {**kind, "terms": ALL_TERMS, "stream_rows": rows, **({"mask": EVERYTHING_MASKED} if masked else {})},
        fixed,
    )
    for name, kind in (("infonce", INFONCE), ("hard negatives", HARD), ("sigmoid", SIGMOID))
    for rows in (None, 4)
    for masked in (False, True)
    for fixed in (False, True)
}


def section(**changes: Any) -> Any:
    """A parsed section: InfoNCE of fused-music at temperature 0.5, unless changed."""
    plain = {
        **INFONCE,
        "terms": {**dict.fromkeys(TERMS, 0.0), "fused-music": 1.0},
        "initial_temperature": 0.5,
        "lowest_temperature": 0.1,
        "mask": {"same_track": True, "same_artist": False, "near_duplicates": None},
        "stream_rows": None,
    }
    if changes.get("kind") == "sigmoid":
        del plain["hard_negatives"]
    return TypeAdapter(LossSection).validate_python(plain | changes)


def identities(tracks: list[int], artists: list[int] | None = None, sound: torch.Tensor | None = None) -> Identities:
    """Identities; artists all differ unless given."""
    return Identities(torch.tensor(tracks), torch.tensor(artists or list(range(len(tracks)))), sound)


def pair(query: torch.Tensor, target: torch.Tensor) -> Pair:
    """A pair of which all samples have both sides."""
    return Pair(query, target, torch.ones(len(query), dtype=torch.bool))


SAMPLES = 12
# The first half, which is the first process's, and the second differ in who is there; video-text has nobody.
PRESENT: dict[Term, str] = {
    "fused-music": "111111111111",
    "video-music": "110101000010",
    "text-music": "101110000000",
    "video-text": "000000000000",
}


def gradients(changes: dict[str, Any], rows: slice, fixed_shapes: bool = False) -> dict[str, torch.Tensor]:
    """Values and parameter gradients of linear towers and the objective, over ``rows`` of the 12 samples."""
    random = torch.Generator().manual_seed(3)
    objective: Objective = build_loss(section(**changes))
    objective.fixed_shapes = fixed_shapes
    parameters, pairs = dict(objective.named_parameters()), {}
    for term in TERMS:
        sides = []
        for side in ("query", "target"):
            features = torch.randn(SAMPLES, 5, generator=random)
            weight = torch.randn(5, 8, generator=random).requires_grad_()
            parameters[f"{term} {side}"] = weight
            sides.append(normalize(features[rows] @ weight, dim=1))
        present = torch.tensor([int(letter) for letter in PRESENT[term]]).bool()
        pairs[term] = Pair(sides[0], sides[1], present[rows])
    tracks = torch.tensor([0, 1, 2, 3, 4, 5, 0, 6, 7, 2, 8, 9])
    artists = torch.tensor([0, 1, 2, 3, 3, 5, 0, 1, 7, 2, 8, 9])
    sound = torch.randn(SAMPLES, 3, generator=random)
    values = objective(pairs, Identities(tracks[rows], artists[rows], sound[rows]))
    values["loss"].backward()
    found = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in parameters.items()}
    return {**{f"value of {name}": value.detach() for name, value in values.items()}, **found}


def main(rank: int, folder: Path) -> None:
    """Be process ``rank`` of two: write the averaged gradients of every case."""
    import torch.distributed as dist
    from safetensors.torch import save_file

    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    half = slice(rank * SAMPLES // 2, (rank + 1) * SAMPLES // 2)
    for number, (changes, fixed) in enumerate(CASES.values()):
        found = gradients(changes, half, fixed)
        for name, tensor in found.items():
            if not name.startswith("value"):  # as DistributedDataParallel does; values must be equal anyway
                dist.all_reduce(tensor)
                tensor /= 2
        save_file(found, folder / f"{number}-{rank}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
