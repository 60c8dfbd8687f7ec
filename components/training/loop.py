"""The training loop: AdamW on the objective, early stopping, exact resume."""

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from components import stage
from components.encoder.losses import SigmoidLoss
from components.encoder.model import Batch, TrimodalModel
from components.encoder.pairs import Identities
from components.training.batches import Batches, Parcel, on_device
from components.training.checkpoint import Checkpoints, Progress
from components.training.data import Clips, Features
from components.training.draws import torch_seed
from components.training.gradients import Step, cached, whole
from components.training.memory import advice
from components.training.params import TrainingSection
from components.training.prefetch import ahead
from components.training.resident import resident
from components.training.speed import Speed
from components.training.statistics import standardisation
from components.training.validation import MONITORED, validate
from components.training.world import World

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What a finished run leaves: the model holds the best weights."""

    progress: Progress
    batch: int
    stopped_because: str
    speed: Speed


def learning_rate(section: TrainingSection, step: int) -> float:
    """Return the rate of a step (0 = first): linear warm-up, then half a cosine down to zero."""
    if step < section.warmup_steps:
        return section.learning_rate * (step + 1) / (section.warmup_steps + 1)
    done = (step - section.warmup_steps) / (section.steps - section.warmup_steps)
    return section.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))


def fit(
    model: TrimodalModel, features: Features, train: Clips, val: Clips, section: TrainingSection,
    saved: Checkpoints, world: World,
) -> Outcome:  # fmt: skip
    """Train ``model`` in place, resuming from ``saved`` where it holds this very run.

    Raises:
        ValueError: the loss is no longer a finite number, or a step needs more memory than the GPU has.
    """
    batch = _batch_size(section, len(train), world)
    trainer = Trainer(model, section, world, batch)
    progress = _resume(trainer, saved, section, world)
    begin, reason, speed = progress.step, "ran all steps", Speed(world, batch)
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
            _judge(model, features, val, progress, world)
            if world.first:
                saved.save(progress, model.state_dict(), trainer.optimiser)
    model.load_state_dict(progress.best)
    log.info(
        "training: %d steps of %d clips in %.1f s (%.0f clips/s), %s; best val R@10 %.3f, MRR %.3f at step %d",
        progress.step - begin, batch, speed.seconds(), speed.samples_per_s(), reason,
        *progress.best_value, progress.best_step,
    )  # fmt: skip
    return Outcome(progress, batch, reason, speed)


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
        self._alike = model.section.loss.mask.near_duplicates is not None
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
        given, same = on_device(parcel, self._world.device, standardisation(self.model) if self._alike else None)
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


def _optimiser(model: TrimodalModel, section: TrainingSection) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": section.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=section.learning_rate, fused=True)


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


def _judge(model: TrimodalModel, features: Features, val: Clips, progress: Progress, world: World) -> None:
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
