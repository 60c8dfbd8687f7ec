"""Where a version comes from: data, params, code, commit, run, version, release, each by its digest or name."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import select

from flows.errors import OK
from flows.ledger.database import reading
from flows.lineage.naming import all_aliases, find, registry, tag
from flows.registry.tracking import MODEL
from flows.release.approvals import approvals
from flows.release.releases import read
from flows.release.table import RELEASES, Release
from flows.workspace.console import console
from flows.workspace.platform import Platform

COMMIT_TAG = "mlflow.source.git.commit"


def chain(platform: Platform, model: str) -> dict[str, Any]:
    """Return the lineage of a version as plain values.

    Args:
        platform: says where registry and ledger are.
        model: a number, an alias, or MLflow's address of either.

    Raises:
        Refusal: there is no such version, or the registry does not answer.
    """
    with registry(platform) as client:
        version = find(client, platform, model)
        run_id = tag(version, "run")
        run = client.get_run(run_id)
        aliases = sorted(
            name for name, number in all_aliases(client, platform).items() if number == int(version.version)
        )
    tags = run.data.tags
    return {
        "model": MODEL,
        "version": int(version.version),
        "aliases": aliases,
        "digest": tag(version, "digest"),
        "data": {"manifest": tag(version, "manifest"), "clips": _clips(run)},
        "params": tag(version, "params"),
        "code": tag(version, "code"),
        "commit": tags.get(COMMIT_TAG, "none"),
        "dirty": tags.get("needledrop.git_dirty", "unknown"),
        "run": {
            "id": run_id,
            "name": run.info.run_name,
            "started": run.info.start_time,
            "prompt": tags.get("needledrop.prompt"),
            "metrics": tag(version, "metrics"),
        },
        "files": {"model": tag(version, "model"), "index": tag(version, "index")},
        "release": _as_json(platform, release_of(platform, int(version.version))),
    }


def release_of(platform: Platform, version: int) -> Release | None:
    """Return the ledger's row of a version; None where it has none. A look makes no ledger."""
    if platform.environment.ledger_url is None and not platform.workspace.ledger.exists():
        return None
    with reading(platform) as connection:
        known = connection.scalar(select(RELEASES.c.version).where(RELEASES.c.version == version))
        return None if known is None else read(connection, version)


def show(made: dict[str, Any]) -> int:
    """Print the chain, one link a line."""
    out = console()
    names = f" ({', '.join(made['aliases'])})" if made["aliases"] else ""
    out.print(f"[bold]{made['model']} version {made['version']}[/]{names}, content {made['digest'][:12]}")
    release, data = made["release"], made["data"]
    dirty = {"true": ", and files differed from it", "false": ""}.get(made["dirty"], ", unknown whether files differed")
    splits = f" ({data['clips']})" if data["clips"] else ""
    links = [
        ("data", f"manifest {data['manifest']}{splits}"),
        ("params", made["params"]),
        ("code", made["code"]),
        ("commit", made["commit"] + dirty),
        ("run", f"{made['run']['id']} ({made['run']['name']}); metrics {made['run']['metrics']}"),
        ("version", f"{made['version']}; model {made['files']['model']}, index {made['files']['index']}"),
        ("release", _said(release)),
    ]
    for number, (name, value) in enumerate(links):
        out.print(f"{'-> ' if number else '   '}{name:<8} {value}", markup=False, soft_wrap=True)
    return OK


def _said(release: dict[str, Any] | None) -> str:
    if release is None:
        return "the ledger has no row of this version; `needledrop register` writes it"
    given = ", ".join(f"{one['by']} at {one['at']}" for one in release["approvals"])
    approved = f", approved by {given}" if given else ""
    evidence = f", gate report {release['evidence'][:12]}" if release["evidence"] else ", not gated"
    return f"{release['state']}{evidence}{approved}"


def _as_json(platform: Platform, release: Release | None) -> dict[str, Any] | None:
    if release is None:
        return None
    with reading(platform) as connection:
        given = [one.as_json() for one in approvals(connection, release.version)]
    return asdict(release) | {"approvals": given}


def _clips(run: Any) -> str:
    """How many clips the dataset of a run has, as MLflow keeps it; empty where it does not say."""
    import json

    for entry in run.inputs.dataset_inputs if run.inputs else ():
        try:
            return f"{json.loads(entry.dataset.profile)['num_rows']} clips"
        except (KeyError, TypeError, ValueError):
            continue
    return ""
