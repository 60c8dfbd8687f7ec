"""The training loop: AdamW on the objective, validation, early stopping, exact resume, and its speed.

In the order of this file: a step; validation; speed; the loop.
"""

import itertools
import logging
import math
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from components import stage
from components.encoder.embed import MODES, Gathers, embed_music, embed_queries
from components.encoder.losses import Identities, SigmoidLoss
from components.encoder.model import Batch, TrimodalModel
from components.encoder.ranking import ranks
from components.encoder.towers import Standardise, Tower
from components.modalities import MUSIC, TEXT, VIDEO, Modality
from components.training.batches import Batches, Parcel, ahead, on_device, resident, torch_seed
from components.training.checkpoint import Checkpoints, Progress
from components.training.data import Clips, Features
from components.training.gradients import Step, advice, cached, whole
from components.training.journal import JournalWriter
from components.training.params import TrainingSection
from components.training.world import World

# The first decides, the second decides ties.
MONITORED = ("val/video+text/R@10", "val/video+text/MRR")

log = logging.getLogger(__name__)

# -- a step ----------------------------------------------------------------------------------------


def learning_rate(section: TrainingSection, step: int) -> float:
    """Return the rate of a step (0 = first): linear warm-up, then half a cosine down to zero."""
    if step < section.warmup_steps:
        return section.learning_rate * (step + 1) / (section.warmup_steps + 1)
    done = (step - section.warmup_steps) / (section.steps - section.warmup_steps)
    return section.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))


class Trainer:
    """Model, objective and optimiser: what a step changes."""

    def __init__(self, model: TrimodalModel, section: TrainingSection, world: World, batch: int) -> None:
        self.model, self._section, self._world = model, section, world
        self._local = Step(model, world.device, section.precision)
        part = world.part(batch)
        self._first, size = part.start, part.stop - part.start
        self._chunk = section.chunk if section.chunk and section.chunk < size else None
        if section.compile is True or (section.compile == "auto" and world.device.type == "cuda"):
            self._local.use_compiler(whole=self._chunk is None, alone=world.size == 1)
        self._local.freeze_unused()
        # A cached gradient is averaged at its end; otherwise DDP does so while the backward pass runs.
        self._wrapped: tuple[nn.Module] = (self._local if self._chunk else world.wrap(self._local),)
        self._like = _standardisation(model) if model.section.loss.mask.near_duplicates is not None else None
        self.optimiser = _optimiser(model, section)

    def step(self, parcel: Parcel, step: int) -> dict[str, float]:
        """Take a step; return its figures, the same on every process.

        Raises:
            ValueError: the loss or the gradient is not finite, or memory does not do.
        """
        rate = learning_rate(self._section, step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.model.train()
        given, same = on_device(parcel, self._world.device, self._like)
        self.optimiser.zero_grad(set_to_none=True)
        terms = self._gradient(given, same, step)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._section.gradient_clip)
        figures = self._figures(terms, norm) | {"lr": rate}
        if not (math.isfinite(figures["loss"]) and math.isfinite(figures["grad_norm"])):
            raise ValueError(
                f"training diverged at step {step + 1}: loss {figures['loss']}, gradient norm {figures['grad_norm']}; "
                "lower training.learning_rate or raise training.warmup_steps"
            )
        self.optimiser.step()
        return figures

    def _gradient(self, given: Batch, same: Identities, step: int) -> dict[str, Tensor]:
        reseed = partial(_reseed, self._section.seed, step, self._first)
        try:
            if self._chunk is None:
                return whole(self._wrapped[0], given, same, reseed)
            terms = cached(self._local, given, same, self._chunk, reseed)
        except torch.OutOfMemoryError:
            pass  # and leave the block, whose traceback holds the tensors
        else:
            self._world.average(p.grad for p in self.model.parameters() if p.grad is not None)
            return terms
        raise ValueError(f"training: {advice(self._local, given, self._chunk or len(same.tracks))}")

    def _figures(self, terms: dict[str, Tensor], norm: Tensor) -> dict[str, float]:
        """Return the figures of a step with one wait for the device."""
        objective = self.model.loss
        bias = [objective.bias.detach()] if isinstance(objective, SigmoidLoss) else []
        listed = torch.stack([*terms.values(), norm, 1.0 / objective.scale().detach(), *bias]).tolist()
        names = [name if name == "loss" else f"loss/{name}" for name in terms]
        return dict(zip([*names, "grad_norm", "temperature", "bias"], listed, strict=False))


def _reseed(seed: int, step: int, first: int, at: int) -> None:
    """Set torch's generators for the part of a step that begins ``at`` samples after a process's ``first``."""
    torch.manual_seed(torch_seed(seed, "units", step, first + at))


def _optimiser(model: TrimodalModel, section: TrainingSection) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": section.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=section.learning_rate, fused=True)


def _standardisation(model: TrimodalModel) -> Standardise:
    """Return what standardises the music's features."""
    tower = model.towers[MUSIC]
    assert isinstance(tower, Tower)
    return tower.standardise


# -- validation: what early stopping looks at ------------------------------------------------------


def validate(model: TrimodalModel, features: Features, clips: Clips) -> dict[str, float]:
    """Return R@10 and mean reciprocal rank per query mode, video to music, over the val pool.

    A clip's text is its annotation where there is one, else its caption. Where no clip has a text,
    video+text is video alone.
    """
    sources: dict[Modality, Gathers] = {VIDEO: features.video, TEXT: clips.texts}
    music = embed_music(model, features.music, clips.ids)
    same_track = clips.tracks[:, None] == clips.tracks[None, :]
    described = clips.texts.described().tolist()
    found = {}
    for mode, modalities in MODES.items():
        # Without video there must be a text; with both, a clip without text still has its video.
        rows = described if VIDEO not in modalities else list(range(len(clips)))
        if not rows:
            continue
        query = embed_queries(model, {m: sources[m] for m in modalities}, [clips.ids[at] for at in rows])
        rank = ranks(query @ music.T, same_track[rows])
        found[f"val/{mode}/R@10"] = float(np.mean(rank <= 10))
        found[f"val/{mode}/MRR"] = float(np.mean(1.0 / rank))
    return found


def _note_validation(model: TrimodalModel, features: Features, val: Clips, progress: Progress, world: World) -> None:
    """Validate, note the figures, and keep the weights if they are the best so far."""
    value = (0.0, 0.0)
    if world.first:
        found = validate(model, features, val)
        progress.history += [(progress.step, name, figure) for name, figure in found.items()]
        value = (found[MONITORED[0]], found[MONITORED[1]])
    recall, reciprocal = world.told(value)
    if (recall, reciprocal) > progress.best_value:
        progress.best_value, progress.best_step, progress.stale = (recall, reciprocal), progress.step, 0
        progress.best = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    else:
        progress.stale += 1


# -- speed: figures of the machine, apart from the outputs that repeat -----------------------------


class Speed:
    """Counts steps and the time spent in them."""

    def __init__(self, world: World, batch: int) -> None:
        self._world, self._batch = world, batch
        self._since, self._in_steps, self._steps = time.monotonic(), 0.0, 0
        self._seen = (0.0, 0)  # seconds in steps, and steps, at the last look

    def count(self, seconds: float) -> None:
        """Note a step."""
        self._in_steps, self._steps = self._in_steps + seconds, self._steps + 1

    def seconds(self) -> float:
        """Return the time since the start, validation and checkpoints too."""
        return time.monotonic() - self._since

    def samples_per_s(self) -> float:
        """Return the clips per second of steps, over all processes."""
        return self._steps * self._batch / max(self._in_steps, 1e-9)

    def lately(self) -> dict[str, float]:
        """Return what can be seen now: clips per second of the steps since the last look, and memory in use, in MiB.

        The memory is that of this process: on a GPU what it has taken there, else what of it is in RAM.
        """
        import psutil  # type: ignore[import-untyped]

        seconds, steps = self._in_steps - self._seen[0], self._steps - self._seen[1]
        self._seen = (self._in_steps, self._steps)
        device = self._world.device
        held = torch.cuda.memory_reserved(device) if device.type == "cuda" else psutil.Process().memory_info().rss
        return {
            "progress/samples_per_s": round(steps * self._batch / max(seconds, 1e-9), 1),
            "progress/memory_mib": round(held / 2**20, 1),
        }

    def figures(self) -> dict[str, Any]:
        """Return the figures of the whole run; the memory is that of this process, in MiB."""
        device = self._world.device
        if device.type == "cuda":
            peak, name = torch.cuda.max_memory_allocated(device) / 2**20, torch.cuda.get_device_name(device)
        else:
            peak, name = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, "cpu"
        return {
            "samples_per_s": round(self.samples_per_s(), 1),
            "seconds": round(self.seconds(), 2),
            "peak_memory_mib": round(peak, 1),
            "device": name,
            "processes": self._world.size,
            "steps": self._steps,
        }


# -- the loop --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What a finished run leaves: the model holds the best weights."""

    progress: Progress
    batch: int
    stopped_because: str
    speed: Speed


def fit(
    model: TrimodalModel, features: Features, train: Clips, val: Clips, section: TrainingSection,
    saved: Checkpoints, journal: JournalWriter, world: World,
) -> Outcome:  # fmt: skip
    """Train ``model`` in place, resuming from ``saved`` where it holds this very run; ``journal`` tells of it meanwhile.

    Raises:
        ValueError: the loss is no longer a finite number, or a step needs more memory than the GPU has.
    """
    batch = _batch_size(section, len(train), world)
    trainer = Trainer(model, section, world, batch)
    progress = _resume(trainer, saved, section, world)
    begin, reason, speed = progress.step, "ran all steps", Speed(world, batch)
    if world.first:
        journal.begin(resumed=begin > 0)
    held, on_gpu = resident(features, train, world.device), world.device.type == "cuda"
    batches = Batches(features, train, section, batch, world.part(batch), on_gpu, held)
    for step, parcel in _parcels(batches, range(begin, section.steps), world):
        if progress.stale >= section.patience:
            reason = f"val R@10 has not risen for {section.patience} validations"
            break
        world.check_launcher()
        started = time.monotonic()
        figures = trainer.step(parcel, step)
        speed.count(time.monotonic() - started)
        progress.step = step + 1
        progress.history += [(progress.step, name, value) for name, value in figures.items()]
        if progress.step % section.validate_every == 0 or progress.step == section.steps:
            _note_validation(model, features, val, progress, world)
            if world.first:
                # Noted first: a step that a checkpoint holds is not repeated, and would be missing after a kill between.
                journal.note(progress.step, _latest(progress) | speed.lately())
                saved.save(progress, model.state_dict(), trainer.optimiser)
        elif world.first and journal.due():
            journal.note(progress.step, _latest(progress) | speed.lately())
    model.load_state_dict(progress.best)
    log.info(
        "training: %d steps of %d clips in %.1f s (%.0f clips/s), %s; best val R@10 %.3f, MRR %.3f at step %d",
        progress.step - begin, batch, speed.seconds(), speed.samples_per_s(), reason,
        *progress.best_value, progress.best_step,
    )  # fmt: skip
    return Outcome(progress, batch, reason, speed)


def _latest(progress: Progress) -> dict[str, float]:
    """Return the figures of the last step, with those of its validation."""
    rows = itertools.takewhile(lambda row: row[0] == progress.step, reversed(progress.history))
    return {name: value for _, name, value in rows}


def _batch_size(section: TrainingSection, clips: int, world: World) -> int:
    if section.batch <= clips:
        batch = section.batch
    else:
        batch = clips // world.size * world.size
        log.info("training: batch %d is more than the %d train clips; using %d", section.batch, clips, batch)
    if batch % world.size or batch == 0:
        raise ValueError(f"training.batch {batch} must be a multiple of the {world.size} processes that run; change it")
    return batch


def _parcels(batches: Batches, steps: range, world: World) -> Iterator[tuple[int, Parcel]]:
    shown = stage.progress(steps, "training", len(steps)) if world.first else steps
    return ahead(batches.parcel, shown)


def _resume(trainer: Trainer, saved: Checkpoints, section: TrainingSection, world: World) -> Progress:
    progress = Progress()
    found = saved.load(trainer.optimiser)
    if found is not None:
        progress, weights = found
        trainer.model.load_state_dict(weights)
        log.info("training: resuming after step %d", progress.step)
    cut = (progress.step, world.size, section.chunk)
    if not progress.cuts or progress.cuts[-1][1:] != cut[1:]:
        if progress.cuts:
            log.info(
                "training: going on with %d processes and chunk %s, before it was %d and %s; "
                "the same data, other last digits and hidden units",
                *cut[1:], *progress.cuts[-1][1:],
            )  # fmt: skip
        progress.cuts.append(cut)
    return progress
