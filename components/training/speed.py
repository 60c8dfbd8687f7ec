"""How fast a run was and what it took: figures of the machine, apart from the outputs that repeat."""

import resource
import time
from pathlib import Path

import torch

from components.stage import write_json
from components.training.world import World


class Speed:
    """Counts steps and the time spent in them."""

    def __init__(self, world: World, batch: int) -> None:
        self._world, self._batch = world, batch
        self._since, self._in_steps, self._steps = time.monotonic(), 0.0, 0

    def count(self, seconds: float) -> None:
        """Note a step."""
        self._in_steps, self._steps = self._in_steps + seconds, self._steps + 1

    def seconds(self) -> float:
        """Return the time since the start, validation and checkpoints too."""
        return time.monotonic() - self._since

    def samples_per_s(self) -> float:
        """Return the clips per second of steps, over all processes."""
        return self._steps * self._batch / max(self._in_steps, 1e-9)

    def write(self, path: Path) -> None:
        """Write the figures as JSON; the memory is that of this process, in MiB."""
        device = self._world.device
        if device.type == "cuda":
            peak, name = torch.cuda.max_memory_allocated(device) / 2**20, torch.cuda.get_device_name(device)
        else:
            peak, name = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, "cpu"
        figures = {
            "samples_per_s": round(self.samples_per_s(), 1),
            "seconds": round(self.seconds(), 2),
            "peak_memory_mib": round(peak, 1),
            "device": name,
            "processes": self._world.size,
            "steps": self._steps,
        }
        write_json(path, figures)
