"""Commands that say where a model comes from and where a track went, and that make a result again."""

import argparse
from pathlib import Path

from flows.commands.common import AddCommand, emit, here
from flows.errors import OK

_MODEL = "a version's number, an alias, or models:/needledrop@alias"


def add(command: AddCommand) -> None:
    """Add the commands of this topic."""
    lineage = command("lineage", "show what a model version was made of: data, params, code, run, release", _lineage)
    lineage.add_argument("model", metavar="MODEL", help=_MODEL)
    again = command("reproduce", "make a version's evaluation again from a clean clone and compare to the bit", _again)
    again.add_argument("model", metavar="MODEL", help=_MODEL)
    again.add_argument("--from", dest="repository", metavar="REPO",
                       help="the repository that has the commit (default: the workspace's)")  # fmt: skip
    again.add_argument("--from-scratch", action="store_true", help="make features, captions and model again as well")
    again.add_argument("--keep", action="store_true", help="leave the clone where it is, and say where")
    saw = command("who-saw", "list what holds a track: files of the workspace and registered versions", _who_saw)
    saw.add_argument("track", metavar="TRACK", help="a track, clip or video id, or the beginning of one")
    purge = command("purge", "say what removing a track would rebuild and retire; changes nothing", _purge)
    purge.add_argument("track", metavar="TRACK", help="a track, clip or video id, or the beginning of one")
    purge.add_argument("--plan", action="store_true", help="required: only the plan is made, nothing is removed")
    card = command("card", "write the model card of a version", _card)
    card.add_argument("model", metavar="MODEL", help=_MODEL)
    card.add_argument("--out", type=Path, metavar="FILE", help="where to (default: print it)")


def _lineage(arguments: argparse.Namespace) -> int:
    platform = here()
    from flows.lineage import chain

    made = chain.chain(platform, arguments.model)
    return emit(made) if arguments.json else chain.show(made)


def _again(arguments: argparse.Namespace) -> int:
    platform = here()
    from flows.lineage import reproduce

    done = reproduce.reproduce(platform, arguments.model, arguments.repository, arguments.from_scratch, arguments.keep)
    if not arguments.json:
        return reproduce.show(done)
    emit(done.as_json())
    return done.code


def _who_saw(arguments: argparse.Namespace) -> int:
    platform = here()
    from flows.lineage import saw

    seen = saw.who_saw(platform, arguments.track)
    return emit(seen) if arguments.json else saw.show(seen)


def _purge(arguments: argparse.Namespace) -> int:
    platform = here()
    from flows.lineage import purge

    plan = purge.plan(platform, arguments.track, arguments.plan)
    return emit(plan) if arguments.json else purge.show(plan)


def _card(arguments: argparse.Namespace) -> int:
    platform = here()
    from flows.lineage import card

    text = card.card(platform, arguments.model)
    if arguments.out:
        card.write_card(arguments.out, text)
        return emit({"card": str(arguments.out)}) if arguments.json else OK
    if arguments.json:
        return emit({"card": text})
    print(text, end="")
    return OK
