"""Settings of decisions: a file of the workspace, or the one that comes with the platform."""

import hashlib
import json
from pathlib import Path
from typing import TypeVar

from components.settings import ParamsError, Section, read_section
from flows.errors import USAGE, Refusal


class Policy(Section):
    """What a file beside params.yaml decides, as against what is computed."""

    def digest(self) -> str:
        """Return the sha256 of its values."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()


Kind = TypeVar("Kind", bound=Policy)


def read_policy(policy: type[Kind], section: str, root: Path, shipped: Path) -> Kind:
    """Read a section of the file named as `shipped` in `root`, or of `shipped` where there is none.

    Raises:
        Refusal: it is wrong; the message names file, key, value and rule. Exit code 2.
    """
    path = root / shipped.name
    path = path if path.exists() else shipped
    try:
        settings: Kind = read_section(policy, section, path)
        return settings
    except ParamsError as error:
        said = str(error).removeprefix("params.yaml: ").removeprefix(f"{path}: ")
        raise Refusal(f"{shipped.name}: {said}", USAGE) from None
