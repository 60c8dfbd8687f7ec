"""The training loop: AdamW on symmetric InfoNCE, early stopping, exact resume."""

import logging
import math
import time
from dataclasses import dataclass

import torch

from components import stage
from components.encoder.device import autocast
from components.encoder.model import TrimodalModel
from components.training.batches import make_batch
from components.training.checkpoint import Checkpoints, Progress
from components.training.data import Clips, Features
from components.training.draws import torch_seed
from components.training.params import TrainingSection
from components.training.validation import MONITORED, validate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What a finished run leaves: the model holds the best weights."""

    best_step: int
    last_step: int
    batch: int
    stopped_because: str
    history: list[tuple[int, str, float]]


def learning_rate(section: TrainingSection, step: int) -> float:
    """Return the rate of a step (0 = first): linear warm-up, then half a cosine down to zero."""
    if step < section.warmup_steps:
        return section.learning_rate * (step + 1) / (section.warmup_steps + 1)
    done = (step - section.warmup_steps) / (section.steps - section.warmup_steps)
    return section.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))


def fit(
    model: TrimodalModel, features: Features, train: Clips, val: Clips, section: TrainingSection, saved: Checkpoints
) -> Outcome:
    """Train ``model`` in place, resuming from ``saved`` where it holds this very run.

    Raises:
        ValueError: the loss is no longer a finite number.
    """
    optimiser = _optimiser(model, section)
    progress = _resume(model, optimiser, saved)
    batch = min(section.batch, len(train))
    if batch < section.batch:
        log.info("training: batch %d is more than the %d train clips; using %d", section.batch, len(train), batch)
    since, begin = time.monotonic(), progress.step
    reason = "ran all steps"
    for step in stage.progress(range(begin, section.steps), "training", section.steps - begin):
        if progress.stale >= section.patience:
            reason = f"val MRR has not risen for {section.patience} validations"
            break
        _step(model, optimiser, features, train, section, batch, step, progress)
        if progress.step % section.validate_every == 0 or progress.step == section.steps:
            _judge(model, features, val, progress)
            saved.save(progress, model.state_dict(), optimiser)
    model.load_state_dict(progress.best)
    seconds = time.monotonic() - since
    log.info(
        "training: %d steps of %d clips in %.1f s (%.0f clips/s), %s; best val MRR %.3f at step %d",
        progress.step - begin, batch, seconds, (progress.step - begin) * batch / max(seconds, 1e-9), reason,
        progress.best_value, progress.best_step,
    )  # fmt: skip
    return Outcome(progress.best_step, progress.step, batch, reason, progress.history)


def _optimiser(model: TrimodalModel, section: TrainingSection) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": section.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=section.learning_rate, fused=True)


def _resume(model: TrimodalModel, optimiser: torch.optim.Optimizer, saved: Checkpoints) -> Progress:
    found = saved.load(optimiser)
    if found is None:
        return Progress()
    progress, weights = found
    model.load_state_dict(weights)
    log.info("training: resuming after step %d", progress.step)
    return progress


def _step(
    model: TrimodalModel, optimiser: torch.optim.Optimizer, features: Features, clips: Clips,
    section: TrainingSection, batch: int, step: int, progress: Progress,
) -> None:  # fmt: skip
    rate = learning_rate(section, step)
    for group in optimiser.param_groups:
        group["lr"] = rate
    device = model.device()
    given, tracks = make_batch(features, clips, section, batch, step, device)
    torch.manual_seed(torch_seed(section.seed, "units", step))
    model.train()
    with autocast(device):
        query, music = model(given)
    loss = model.loss(query, music, tracks)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), section.gradient_clip))
    value = float(loss.detach())
    if not (math.isfinite(value) and math.isfinite(norm)):
        raise ValueError(
            f"training diverged at step {step + 1}: loss {value}, gradient norm {norm}; "
            "lower training.learning_rate or raise training.warmup_steps"
        )
    optimiser.step()
    progress.step = step + 1
    temperature = 1.0 / float(model.loss.scale().detach())
    for name, number in (("loss", value), ("temperature", temperature), ("grad_norm", norm), ("lr", rate)):
        progress.history.append((progress.step, name, number))


def _judge(model: TrimodalModel, features: Features, val: Clips, progress: Progress) -> None:
    """Validate, note the figures, and keep the weights if they are the best so far."""
    found = validate(model, features, val)
    progress.history += [(progress.step, name, value) for name, value in found.items()]
    if found[MONITORED] > progress.best_value:
        progress.best_value, progress.best_step, progress.stale = found[MONITORED], progress.step, 0
        progress.best = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    else:
        progress.stale += 1
