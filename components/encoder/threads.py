"""How idle CPU threads wait. Apart from ``device`` because it must come before torch is imported."""

import os


def wait_quietly() -> None:
    """Let idle OpenMP threads sleep, not spin; call before torch is first imported.

    Spinning gains little on a free machine, and on a shared one the spinning threads take the
    processor from those with work: a training step took 4.6 times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
