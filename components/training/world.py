"""The processes that train together: how they are started, who this one is, its part of a batch, what all agree on.

The launcher is torchrun's: it restarts all workers when one dies, and they resume from the last
checkpoint. ``torchrun -m components.training ...`` from outside works too, also over machines. One process
alone is a world of size one and needs no process group.
"""

import logging
import os
import signal
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from components.encoder.device import deterministic_device
from components.stage import EXIT_ERROR
from components.training.params import TrainingSection

# -- the launcher ----------------------------------------------------------------------------------


def start_workers(section: TrainingSection) -> bool:
    """Run this very command in ``training.processes`` workers and wait; False where this process shall work itself.

    Raises:
        ValueError: there are fewer GPUs than workers, or a worker failed and no restart is left.
    """
    if section.processes == 1:
        return False
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if torch.distributed.is_torchelastic_launched():
        return False
    gpus = torch.cuda.device_count()
    if 0 < gpus < section.processes:
        raise ValueError(f"training.processes {section.processes}, but this machine has {gpus} GPU(s); lower it")
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # we say it in a line
    with tempfile.TemporaryDirectory(prefix="training-workers-") as reports:
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=section.processes, run_id=uuid.uuid4().hex,
            rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=section.restarts, monitor_interval=0.2,
            logs_specs=DefaultLogsSpecs(log_dir=reports),
        )  # fmt: skip
        try:
            elastic_launch(config, sys.executable)("-m", "components.training", *sys.argv[1:])
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            raise ValueError(said(rank, failure.exitcode, failure.message, section.restarts)) from None
        except SignalException as error:
            sys.exit(128 + error.sigval)
    return True


@contextmanager
def reporting() -> Iterator[None]:
    """In a worker, leave a user's mistake to the launcher, which says it once for all of them."""
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    try:
        yield
    except ValueError as error:
        if not torch.distributed.is_torchelastic_launched():
            raise
        get_error_handler().record_exception(error)
        sys.exit(EXIT_ERROR)


def said(rank: int, code: int, message: object, restarts: int) -> str:
    """Return the line for a worker's end: its own words, the signal, or the exit code."""
    if isinstance(message, dict):
        message = message.get("message", "")
    kind, _, words = str(message).partition(": ")
    if kind.endswith("Error") and code > 0 and words:
        return words
    end = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code} (see above)"
    return (
        f"training process {rank} {end}, training.restarts {restarts} used up; run again to go on from the checkpoint"
    )


# -- a worker --------------------------------------------------------------------------------------


class World:
    """The group of processes, through accelerate where there is more than one.

    Attributes:
        rank: number of this process; rank 0 logs, validates and writes.
        size: number of processes.
        device: where this process computes.
    """

    def __init__(self, device: torch.device, accelerator: Any = None) -> None:
        self._accelerator, self._parent = accelerator, os.getppid()
        self.device = device
        self.rank: int = accelerator.process_index if accelerator else 0
        self.size: int = accelerator.num_processes if accelerator else 1

    @classmethod
    def join(cls, threads: int) -> "World":
        """Join the processes that torchrun started; a process started otherwise stays alone."""
        device = deterministic_device(threads)
        if not torch.distributed.is_torchelastic_launched():
            return cls(device)
        if not torch.distributed.is_initialized():
            _start_group(device)
        from accelerate import Accelerator, DistributedDataParallelKwargs

        # The buffers are statistics of the inputs, the same in every process.
        wrap = DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)
        accelerator = Accelerator(cpu=device.type == "cpu", kwargs_handlers=[wrap])
        torch.set_num_threads(threads)  # accelerate sets its own
        world = cls(accelerator.device, accelerator)
        if not world.first:
            logging.getLogger("components").setLevel(logging.WARNING)
        return world

    @property
    def first(self) -> bool:
        """Whether this process logs, validates and writes."""
        return self.rank == 0

    def part(self, batch: int) -> slice:
        """Return this process's share of a batch's samples; all shares have one size."""
        share = batch // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module with DDP around it: a backward pass then averages gradients over processes.

        Every parameter that asks for a gradient must get one in every step.
        """
        if self._accelerator is None:
            return module
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch renames broadcast_buffers, accelerate has not yet
            wrapped: nn.Module = self._accelerator.prepare_model(module)
        return wrapped

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors of one dtype by their mean over processes, in one exchange."""
        if self.size == 1:
            return
        listed = list(tensors)
        flat = torch.cat([tensor.reshape(-1) for tensor in listed])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        for tensor, mean in zip(listed, torch.split(flat, [tensor.numel() for tensor in listed]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def told(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """Return rank 0's numbers to all."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(tensor, 0)
        return tuple(tensor.tolist())

    def check_launcher(self) -> None:
        """End this process where its launcher is gone: nothing else would, and it would write over a next run."""
        if self._accelerator is not None and os.getppid() != self._parent:
            raise SystemExit("training: the launcher of this process is gone")

    def leave(self) -> None:
        """Dissolve the group; nothing is exchanged after this."""
        if self._accelerator is not None:
            with suppress(RuntimeError):  # another process may have left already
                self._accelerator.end_training()


def _start_group(device: torch.device) -> None:
    """Start the process group under keys of its own for each restart.

    The launcher's store outlives its workers: without that, one that starts early may find the
    address that a killed one left there, and give up trying to reach it.
    """
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, rank, size = next(rendezvous("env://"))
    keys = PrefixStore(f"restart-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    backend = "nccl" if device.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, store=keys, rank=rank, world_size=size)
