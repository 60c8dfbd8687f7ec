"""Commands that share a workspace's files through a remote."""

import argparse
from typing import TYPE_CHECKING

from flows.commands.common import AddCommand, emit, here
from flows.errors import OK

if TYPE_CHECKING:
    from flows.share.transfer import Shared


def add(command: AddCommand) -> None:
    """Add the commands of this topic."""
    command("push", "send the files of dvc.lock to the remote (NEEDLEDROP_DVC_REMOTE)", _push)
    pull = command("pull", "fetch the files of dvc.lock from the remote, every digest checked", _pull)
    pull.add_argument("--force", action="store_true", help="replace files that were changed here")


def _push(arguments: argparse.Namespace) -> int:
    platform = here()
    from flows.share import transfer as share

    return _end(share.push(platform), arguments)


def _pull(arguments: argparse.Namespace) -> int:
    platform = here()
    from flows.share import transfer as share

    return _end(share.pull(platform, arguments.force), arguments)


def _end(done: "Shared", arguments: argparse.Namespace) -> int:
    if arguments.json:
        return emit(done.as_json())
    print("\n".join(done.sentences()))
    return OK
