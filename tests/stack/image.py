"""The worker's image as its file says it, for running without a container engine what a container would."""

import re
import shlex
from pathlib import Path

_INFRA = Path(__file__).parents[2] / "infra"
ENTRY = ["sh", str(_INFRA / "mlflow-auth-entry.sh")]
"""The image's entry point."""


def image_environment() -> dict[str, str]:
    """The variables that the image sets."""
    text = (_INFRA / "worker.Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    words = [word for line in re.findall(r"^ENV (.*)$", text, flags=re.M) for word in shlex.split(line)]
    return dict(word.split("=", 1) for word in words)
