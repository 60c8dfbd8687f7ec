"""release.yaml: how many people must approve a version, and whether another must promote it."""

from pathlib import Path

from pydantic import Field

from flows.errors import INCONCLUSIVE, Refusal
from flows.policy import Policy, read_policy
from flows.release.approvals import Approval, folded, names
from flows.release.table import Release

NAME = "release.yaml"
SHIPPED = Path(__file__).with_name(NAME)


class Duties(Policy):
    """Who must do what before a version is champion."""

    approvals: int = Field(ge=1, le=20)
    """People who must approve a version."""
    separate_promoter: bool
    """Whether who promotes it may be none of them."""


def read_duties(root: Path) -> Duties:
    """Read the workspace's release.yaml, or the one that comes with the platform.

    Raises:
        Refusal: it is wrong; the message names file, key, value and rule. Exit code 2.
    """
    return read_policy(Duties, "release", root, SHIPPED)


def approved_already(release: Release, given: list[Approval], by: str, needed: int) -> bool:
    """Tell whether `by` approved it already; if not, one more approval must be of use.

    Raises:
        Refusal: it has all that it needs by others.
    """
    if not given or release.state in ("rolled_back", "retired"):
        return False
    if folded(by) in {folded(one.by) for one in given}:
        return True
    if release.state == "approved" and len(given) < needed:
        return False
    raise Refusal(
        f"version {release.version} was approved by {names(given)} at {given[-1].at} already "
        f"and is {release.state}; nothing changed"
    )


def require_override(release: Release, given: list[Approval], override: bool) -> None:
    """Refuse to follow somebody who overrode an inconclusive gate without doing the same.

    Raises:
        Refusal: with the exit code of the verdict.
    """
    if not override and any(one.override for one in given):
        raise Refusal(
            f"version {release.version}: its gate was inconclusive, and {names(given)} approved it all the same; "
            "answer for it as well with --override-inconclusive, or leave it",
            INCONCLUSIVE,
        )


def require_duties(release: Release, given: list[Approval], duties: Duties, by: str) -> None:
    """Refuse what too few people have approved, or who promotes has approved where that must be another.

    Raises:
        Refusal: with who approved, and how many are missing.
    """
    if duties.separate_promoter and folded(by) in {folded(one.by) for one in given}:
        raise Refusal(
            f"version {release.version}: {by} approved it, and {NAME} asks that another person promotes it; nothing changed"
        )
    missing = duties.approvals - len(given)
    if missing > 0:
        more = "approval of another person is" if missing == 1 else "approvals of other people are"
        raise Refusal(
            f"version {release.version}: approved by {names(given) if given else 'nobody'}, and {NAME} asks for "
            f"{duties.approvals}: {missing} more {more} missing (`needledrop approve {release.version}`); nothing changed"
        )
