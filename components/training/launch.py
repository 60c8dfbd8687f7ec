"""Start the processes of a run on this machine, and say once what went wrong in them.

The launcher is torchrun's: it restarts all workers when one dies, and they resume from the last
checkpoint. ``torchrun -m components.training ...`` from outside works too, also over machines.
"""

import logging
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from components.stage import EXIT_ERROR
from components.training.params import TrainingSection

log = logging.getLogger(__name__)


def start_workers(section: TrainingSection) -> bool:
    """Run this very command in ``training.processes`` workers and wait; False where this process shall work itself.

    Raises:
        ValueError: there are fewer GPUs than workers, or a worker failed and no restart is left.
    """
    if section.processes == 1:
        return False
    import torch
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
    import torch
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
