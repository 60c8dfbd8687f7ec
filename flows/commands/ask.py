"""Commands that ask a registered model."""

import argparse
from pathlib import Path

from flows.commands.common import AddCommand, emit, here, positive


def add(command: AddCommand) -> None:
    """Add the commands of this topic."""
    recommend = command("recommend", "rank the catalogue for a video, a sentence, or both", _recommend)
    recommend.add_argument("video", metavar="VIDEO", nargs="?", type=Path, help="any file with pictures in it")
    recommend.add_argument("--text", metavar="SENTENCE", help="what the music should be like")
    recommend.add_argument("-k", type=positive, default=10, metavar="N", help="how many to show (default 10)")
    recommend.add_argument(
        "--alias", help="which version, by its alias in the ledger (default champion; before the first one, challenger)"
    )


def _recommend(arguments: argparse.Namespace) -> int:
    platform = here()
    from flows.release import recommend

    answer = recommend.ask(platform, arguments.video, arguments.text, arguments.k, arguments.alias)
    return emit(answer) if arguments.json else recommend.show(answer)
