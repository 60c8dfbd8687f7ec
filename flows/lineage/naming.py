"""Which version a person means: a number, an alias, or MLflow's own address of either."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.environment import redact
from flows.errors import USAGE, Refusal
from flows.registry import tracking
from flows.release.mirror import ALIASES, standing
from flows.workspace.platform import Platform

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII)
_NUMBER = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


@dataclass(frozen=True)
class Wanted:
    """What a person named: exactly one of the two is given."""

    version: int | None = None
    alias: str | None = None


def parse(text: str) -> Wanted:
    """Read `3`, `champion`, `models:/needledrop/3` or `models:/needledrop@champion`.

    Raises:
        Refusal: it is none of them, or of another model.
    """
    word = text
    if text.startswith("models:/"):
        name, at, word = re.sub("[@/]", "\0", text.removeprefix("models:/"), count=1).partition("\0")
        if name != tracking.MODEL or not at:
            raise Refusal(f"{text!r} is no model of ours; say models:/{tracking.MODEL}@champion or a number", USAGE)
        if _NUMBER.fullmatch(word) is None and text.startswith(f"models:/{name}/"):
            raise Refusal(f"{text!r}: after / stands a version's number, after @ an alias", USAGE)
    if _NUMBER.fullmatch(word):
        return Wanted(version=int(word))
    if _NAME.fullmatch(word):
        return Wanted(alias=word)
    raise Refusal(
        f"{text!r} names no model; give a version's number, an alias, or models:/{tracking.MODEL}@alias", USAGE
    )


def find(client: "MlflowClient", platform: Platform, text: str) -> "ModelVersion":
    """Return the version that `text` names; champion, challenger and previous are those of the ledger.

    Raises:
        Refusal: there is none; what there is, is listed.
    """
    wanted = parse(text)
    aliases = all_aliases(client, platform)
    number = wanted.version if wanted.alias is None else aliases.get(wanted.alias)
    known = {int(one.version): one for one in client.search_model_versions(f"name = '{tracking.MODEL}'")}
    if number in known:
        return known[number]
    if not known:
        raise Refusal("no version is registered yet; run `needledrop retrain` first")
    there = ", ".join([*(f"version {one}" for one in sorted(known)), *sorted(aliases)])
    raise Refusal(f"no model goes by {text!r}; there is {there}")


def all_aliases(client: "MlflowClient", platform: Platform) -> dict[str, int]:
    """Every alias of the model with its version's number; none where nothing is registered.

    What the ledger decides about is as the ledger has it, whatever MLflow shows.
    """
    shown, now = tracking.shown_aliases(client), standing(platform)
    if not now.releases:
        return shown
    return {alias: number for alias, number in shown.items() if alias not in ALIASES} | now.aliases


@contextmanager
def registry(platform: Platform) -> Iterator["MlflowClient"]:
    """Yield a client of the registry, to read from it; its errors become one line.

    Raises:
        Refusal: there is no registry yet, or it does not answer.
    """
    uri = platform.tracking_uri
    if not tracking.exists(platform):
        raise Refusal(f"nothing is registered at {redact(uri)} yet; run `needledrop retrain` first")
    client = tracking.connect(platform, patient=False)
    with tracking.answering(uri):
        yield client


def tag(holder: Any, name: str) -> str:
    """The value of a `needledrop.` tag of a version or a run's data; empty where there is none."""
    return str(holder.tags.get(f"needledrop.{name}", ""))
