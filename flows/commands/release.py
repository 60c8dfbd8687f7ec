"""Commands that decide what is served: approve, promote, roll back; and that show who decided it."""

import argparse
import sys
from typing import Any

from flows.commands.common import AddCommand, emit, here, positive
from flows.errors import OK


def add(command: AddCommand) -> None:
    """Add the commands of this topic."""
    approve = command("approve", "sign a model version off that passed its gate", _approve)
    _version(approve)
    approve.add_argument("--by", required=True, metavar="NAME", help="who answers for it")
    approve.add_argument("--reason", required=True, metavar="TEXT", help="why, in words")
    approve.add_argument(
        "--override-inconclusive", action="store_true", help="approve although the gate could not tell; never after a failed gate"
    )  # fmt: skip
    promote = command("promote", "make an approved model version the champion", _promote)
    _version(promote)
    _decider(promote)
    promote.add_argument(
        "--champion-lost", action="store_true", help="the present champion's files are gone: accept that there is no way back to it"
    )  # fmt: skip
    rollback = command("rollback", "restore the previous champion, model and index together", _rollback)
    rollback.add_argument("--reason", default="rollback", metavar="TEXT", help="why, in words")
    _decider(rollback)
    retire = command("retire", "end a champion that cannot be evaluated or must not be served any more", _retire)
    _version(retire)
    retire.add_argument("--by", required=True, metavar="NAME", help="who answers for it")
    retire.add_argument("--reason", required=True, metavar="TEXT", help="why, in words")
    fetch = command("fetch", "fetch the pre-trained encoders that a model version names, from the hub", _fetch)
    _version(fetch)
    release = command("release", "show releases: what is signed off together, states, history", _release)
    release.add_argument("action", choices=("show",), help="show all releases, or one")
    release.add_argument("version", metavar="VERSION", nargs="?", type=positive, help="a model version")
    audit = command("audit", "verify or show the log of who decided what", _audit)
    audit.add_argument("action", choices=("verify", "show"), help="walk the chain of hashes, or print the rows")


def _version(command: argparse.ArgumentParser) -> None:
    command.add_argument("version", metavar="VERSION", type=positive, help="a model version; see `release show`")


def _decider(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--by",
        metavar="NAME",
        help="who does it (default: the user that MLflow's server confirms, else of this machine)",
    )
    command.add_argument(
        "--expect", type=_expected, metavar="VERSION", help="refuse unless this version is champion (`none` for none)"
    )


def _expected(text: str) -> int:
    from flows.release.rules import NONE_YET

    return NONE_YET if text == "none" else positive(text)


def _approve(arguments: argparse.Namespace) -> int:
    platform = here()
    from flows.release import actions, show
    from flows.release.approvals import folded
    from flows.release.duties import read_duties

    number = arguments.version
    before = show.approvals_of(platform, number)
    release = actions.approve(platform, number, arguments.by, arguments.reason, arguments.override_inconclusive)
    needed, given = read_duties(platform.workspace.root).approvals, show.approvals_of(platform, number)
    if arguments.json:
        return emit(release.as_json() | {"approvals": [one.as_json() for one in given], "needed": needed})
    ours = next(one for one in given if folded(one.by) == folded(arguments.by))
    already = "already " if ours in before else ""
    counted = (
        f"; {len(given)} of {needed} approvals{', one person counts once' if already else ''}" if needed > 1 else ""
    )
    print(
        f"version {number}: {already}approved by {ours.by} at {ours.at}, on gate report {str(release.evidence)[:12]}{counted}"
    )
    if release.state == "approved":
        more = f"needledrop approve {number}   by {needed - len(given)} more" if len(given) < needed else ""
        print(f"next: {more or f'needledrop promote {number}   make it the champion'}")
    return OK


def _promote(arguments: argparse.Namespace) -> int:
    platform = here()
    from flows.release import actions, show

    before, number = show.overview(platform), arguments.version
    release = actions.promote(platform, number, arguments.by, arguments.expect, arguments.champion_lost)
    if arguments.json:
        return emit(release.as_json())
    after = show.overview(platform)["aliases"]
    held = f"; version {after['previous']} is previous" if "previous" in after else ""
    print(f"version {number} is {_already(before, number, 'champion')}champion, model and index together{held}")
    back = "needledrop rollback   restore the previous champion" if held else "needledrop recommend VIDEO   ask it"
    print(f"next: {back}")
    return OK


def _rollback(arguments: argparse.Namespace) -> int:
    platform = here()
    from flows.release import actions, show

    before = show.overview(platform)["aliases"].get("champion")
    release = actions.rollback(platform, arguments.by, arguments.reason, arguments.expect)
    if arguments.json:
        return emit(release.as_json())
    gone = f"; version {before} is rolled back" if before else ""
    print(f"version {release.version} is champion again, model and index together{gone}")
    print(f"next: needledrop release show {before or release.version}   what it was, and its history")
    return OK


def _retire(arguments: argparse.Namespace) -> int:
    platform = here()
    from flows.release import actions, show

    before, number = show.overview(platform), arguments.version
    release = actions.retire(platform, number, arguments.by, arguments.reason)
    if arguments.json:
        return emit(release.as_json())
    aliases = show.overview(platform)["aliases"]
    print(f"version {number} is {_already(before, number, 'retired')}retired")
    if "champion" in aliases:
        print(f"version {aliases['champion']} is champion")
        return OK
    back = f"needledrop rollback   restore version {aliases['previous']}; or " if "previous" in aliases else ""
    print(f"there is no champion now: the floors of a first champion apply to the next\nnext: {back}needledrop gate")
    return OK


def _fetch(arguments: argparse.Namespace) -> int:
    platform = here()
    from flows.release.encoders import fetch_encoders

    fetched = fetch_encoders(platform, arguments.version)
    if arguments.json:
        return emit(fetched)
    for one in fetched:
        print(f"{one['model']} at commit {one['commit']}: {one['folder']}")
    if not fetched:
        print(f"version {arguments.version} brings all that it needs")
    return OK


def _release(arguments: argparse.Namespace) -> int:
    platform = here()
    from flows.release import show

    if note := show.heal(platform):
        print(note, file=sys.stderr)
    if arguments.version is None:
        found = show.overview(platform)
        return emit(found) if arguments.json else show.show(found)
    one = show.history_of(platform, arguments.version)
    return emit(one) if arguments.json else show.show_one(one)


def _audit(arguments: argparse.Namespace) -> int:
    platform = here()
    from flows.release import show

    if arguments.action == "show":
        log = show.log(platform)
        return emit(log) if arguments.json else show.show_log(log)
    found = show.verify(platform)
    if arguments.json:
        return emit(found)
    print(f"audit log: {found['rows']} rows, each sealed over the one before; releases agree with it")
    print(f"head {found['head']}   keep it elsewhere: a log made anew has another one")
    return OK


def _already(before: dict[str, Any], version: int, state: str) -> str:
    states = {one["version"]: one["state"] for one in before["releases"]}
    return "already " if states.get(version) == state else ""
