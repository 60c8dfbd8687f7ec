"""The command `needledrop`: makes sure that the code is this release's own, then runs flows/cli.py.

The packages of this project have common names. Another package called `components` or `flows` may come first on
Python's path, or may have been installed over ours: then nothing that runs could be trusted.
"""

import csv
import gc
import hashlib
import importlib.util
import sys
from base64 import urlsafe_b64encode
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

PACKAGES = ("components", "flows")
USAGE = 2  # as in flows/errors.py, which is not imported before it is known to be ours
_APART = "install Needledrop into an environment of its own"


class Foreign(Exception):
    """A package of ours is another's, whole or in part; the message names both places."""


def main() -> int:
    """Run the command line and return its exit code; 2 where the code is not all our own."""
    try:
        check_places(Path(__file__).resolve().parent)
        check_files()
    except Foreign as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    # Imports make objects by the million and hardly any garbage: looking for it takes 6 % of a short command's time.
    gc.set_threshold(100_000, 20, 20)
    from flows.cli import main as run

    return run()


def check_places(home: Path) -> None:
    """Make sure that Python imports our packages from `home`.

    Raises:
        Foreign: it would import another one.
    """
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        places = [str(Path(place).resolve()) for place in (spec.submodule_search_locations if spec else None) or ()]
        if places != [str(home / name)]:
            there = " and ".join(places) or (spec and spec.origin) or "nowhere"
            raise Foreign(
                f"the package `{name}` comes from {there}, Needledrop's lies in {home / name}: "
                f"take the other one off PYTHONPATH, or {_APART}"
            )


def check_files() -> None:
    """Make sure that our files are there and no other distribution's, by the digests that pip has kept of them.

    Raises:
        Foreign: one is not.
    """
    try:
        ours = distribution("needledrop")
    except PackageNotFoundError:  # run from its folder, without being installed
        return
    # Its `files` would leave out what is gone, from Python 3.12 on.
    for file, digest, _ in csv.reader((ours.read_text("RECORD") or "").splitlines()):
        path, name = Path(str(ours.locate_file(file))), file.partition("/")[0]
        if name not in PACKAGES or not digest:  # without a digest: what pip has made, such as bytecode
            continue
        if not path.exists():
            raise Foreign(f"{path} of Needledrop is gone: {_APART}")
        if path.suffix == ".py" and _digest(path) != digest and (others := _others(name)):
            said = f"was overwritten by {', '.join(others)}, which has a package `{name}` too"
            raise Foreign(f"{path} of Needledrop {said}: {_APART}")


def _others(name: str) -> list[str]:
    """Return the other distributions that have a package of this name; a file changed by hand is nobody's."""
    return sorted(set(packages_distributions()[name]) - {"needledrop"})


def _digest(path: Path) -> str:
    """Return the digest of a file in the form that pip keeps."""
    return "sha256=" + urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    sys.exit(main())
