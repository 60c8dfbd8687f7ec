"""Settings of decisions: a file of the workspace, or the one that comes with the platform."""

from pathlib import Path
from typing import TypeVar

from components.settings import ParamsError, Section, read_section
from flows.errors import USAGE, Refusal

Policy = TypeVar("Policy", bound=Section)


def read_policy(policy: type[Policy], section: str, root: Path, shipped: Path) -> Policy:
    """Read a section of the file named as `shipped` in `root`, or of `shipped` where there is none.

    Raises:
        Refusal: it is wrong; the message names file, key, value and rule. Exit code 2.
    """
    path = root / shipped.name
    path = path if path.exists() else shipped
    try:
        settings: Policy = read_section(policy, section, path)
        return settings
    except ParamsError as error:
        said = str(error).removeprefix("params.yaml: ").removeprefix(f"{path}: ")
        raise Refusal(f"{shipped.name}: {said}", USAGE) from None
