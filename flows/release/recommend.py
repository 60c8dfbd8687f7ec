"""Ask the champion, or another version that the ledger knows, for music that fits a video, a sentence, or both."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from flows.environment import redact
from flows.errors import OK, USAGE, Refusal
from flows.registry import tracking
from flows.release.mirror import CHALLENGER, CHAMPION, PREVIOUS, Standing, standing
from flows.release.table import Release
from flows.release.unit import RESTORE, ArtifactsGone, FilesDiffer, MismatchedPair, verify_stored
from flows.workspace.console import console, table
from flows.workspace.platform import Platform

if TYPE_CHECKING:
    from mlflow import MlflowClient


def ask(platform: Platform, video: Path | None, text: str | None, k: int, alias: str | None) -> dict[str, Any]:
    """Return the ranking of the version with `alias` in the ledger; without one, of the champion, else of the challenger.

    MLflow's aliases show what the ledger says; where they differ, that is said and not followed. The files of the version
    are those that were registered, and its own code answers, in a process of its own.

    Raises:
        Refusal: nothing to ask with, no such file, not a video, no such version in the ledger, files that are gone or
            others, packages that are missing, code that fails; MLflow or the ledger does not answer.
    """
    if video is None and not text:
        raise Refusal('give a VIDEO, a sentence with --text "...", or both', USAGE)
    if video is not None and not video.is_file():
        raise Refusal(f"{video}: {'is a folder, not a video' if video.is_dir() else 'no such file'}")
    now = standing(platform)
    if not now.releases:
        raise Refusal(_no_such(now, alias or CHAMPION, _shown(platform) if tracking.exists(platform) else {}))
    if not tracking.exists(platform):
        raise Refusal(f"MLflow's store at {redact(platform.tracking_uri)} is gone; bring it back from its backup")
    from flows.release.encoders import check_encoders
    from flows.release.needs import check_needs
    from flows.release.own_code import OwnCode, Query
    from flows.release.verified import forget, verify

    with OwnCode(platform.environment) as code:
        client = tracking.connect(platform, patient=False)
        with tracking.answering(platform.tracking_uri):
            release, alias, notes = _choose(now, alias, tracking.shown_aliases(client))
            try:
                files = verify(client, platform.workspace, release)
            except (ArtifactsGone, MismatchedPair) as error:
                raise ArtifactsGone(_lost(client, now, alias, error)) from None
        notes.append(check_needs(files.folder, release.version))
        check_encoders(files.folder, release.version)
        query = Query(video=str(video.resolve()) if video else None, text=text or None, k=k)
        ranking = code.ask(files, [query])
    forget(platform.workspace, {one.files for one in now.releases if now.alias_of(one.version)})
    return {
        "model": f"{tracking.MODEL} version {release.version}",
        "alias": alias,
        "note": "; ".join(note for note in notes if note),
        **query.model_dump(),
        "ranking": [hit.model_dump(exclude={"query"}) for hit in ranking],
    }


def _shown(platform: Platform) -> dict[str, int]:
    """Return MLflow's aliases."""
    client = tracking.connect(platform, patient=False)
    with tracking.answering(platform.tracking_uri):
        return tracking.shown_aliases(client)


def _choose(now: Standing, wanted: str | None, shown: dict[str, int]) -> tuple[Release, str, list[str]]:
    """Return a release, its alias in the ledger, and what is to be said about it."""
    alias = wanted or (CHAMPION if CHAMPION in now.aliases else CHALLENGER)
    if alias not in now.aliases:
        raise Refusal(_no_such(now, wanted or CHAMPION, shown))
    number = now.aliases[alias]
    notes = []
    if wanted is None and alias == CHALLENGER:
        notes.append(
            f"no champion yet: this is the challenger, version {number}, which nobody has approved and promoted"
        )
    for name in dict.fromkeys((CHAMPION, alias)):
        there, here = shown.get(name), now.aliases.get(name)
        if there != here:
            held = f"version {there}{_outside(now, there)}" if there else "none"
            notes.append(
                f"MLflow's {name} is {held}, the ledger's {f'version {here}' if here else 'none'}: the ledger is followed, "
                "`needledrop release show` brings MLflow up to date"
            )
    return next(release for release in now.releases if release.version == number), alias, notes


def _no_such(now: Standing, wanted: str, shown: dict[str, int]) -> str:
    """Return why nothing is asked by an alias that the ledger does not know."""
    known = ", ".join(f"{name} (version {number})" for name, number in sorted(now.aliases.items()))
    there = f"there is {known}" if known else "run `needledrop retrain` first"
    if wanted not in shown:
        return f"no model has the alias '{wanted}' in the ledger; {there}"
    number = shown[wanted]
    step = "" if known else ", or `needledrop register` to enter what the files hold"
    return (
        f"the alias '{wanted}' is MLflow's alone, for version {number}{_outside(now, number)}; only what the ledger knows is "
        f"asked: {there}{step}"
    )


def _outside(now: Standing, number: int) -> str:
    return (
        "" if number in {release.version for release in now.releases} else ", which was registered outside the ledger"
    )


def _lost(client: "MlflowClient", now: Standing, alias: str, error: Refusal) -> str:
    """Return what is wrong with the files of the version with `alias`, and a step that works."""
    number = now.aliases[alias]
    said = str(error).removeprefix(f"version {number}: ").removesuffix(f"; {RESTORE}")
    what = "has changed" if isinstance(error, FilesDiffer | MismatchedPair) else "is gone"
    step = "bring it back from the backup of MLflow's store"
    before = next((release for release in now.releases if release.version == now.aliases.get(PREVIOUS)), None)
    if alias == CHAMPION and before is not None and _is_whole(client, before):
        step += f", or `needledrop rollback --by YOU --reason WHY` to version {before.version}, which is whole"
    if alias in (CHAMPION, PREVIOUS):
        step += f", or end it in the open with `needledrop retire {number} --by YOU --reason WHY`"
    return f"{alias}, version {number}, {what}: {said}; {step}"


def _is_whole(client: "MlflowClient", release: Release) -> bool:
    try:
        verify_stored(client, release)
    except Refusal:
        return False
    return True


def show(answer: dict[str, Any]) -> int:
    """Print the ranking."""
    out = console()
    asked = " and ".join(part for part in (answer["video"], f"“{answer['text']}”" if answer["text"] else None) if part)
    out.print(f"{answer['model']} ({answer['alias']}), for {asked}", markup=False, soft_wrap=True)
    if answer["note"]:
        out.print(answer["note"], markup=False, soft_wrap=True)
    rows = table("rank", "score", "title", "artist", "time", "tags", "clip", right=("rank", "score"))
    for hit in answer["ranking"]:
        time = f"{hit['start_s']:.1f}-{hit['end_s']:.1f} s"
        tags = ", ".join(tag.partition(":")[2] or tag for tag in hit["tags"].split(", "))
        words = (hit["title"] or "", hit["artist"] or "", time, tags, hit["clip_id"])
        rows.add_row(str(hit["rank"]), f"{hit['score']:.3f}", *map(escape, words))
    out.print(rows)
    return OK
