"""How things stand: the last run, what is out of date, which versions hold the aliases."""

from typing import Any

from rich.console import Console

from flows.environment import Environment, redact
from flows.errors import OK, Refusal
from flows.registry import tracking
from flows.release.mirror import ALIASES, CHALLENGER, CHAMPION, PREVIOUS, standing
from flows.workspace.console import console
from flows.workspace.graph import load_graph
from flows.workspace.lock import holder
from flows.workspace.platform import Platform
from flows.workspace.runs import read_runs


def overview(platform: Platform) -> dict[str, Any]:
    """Collect the state; what cannot be reached is said, not raised."""
    runs = read_runs(platform.workspace)
    busy = holder(platform.workspace)
    last = runs[0] if runs else None
    if last and last["state"] == "running" and busy is None:
        last = last | {"state": "killed"}
    try:
        pending: list[str] | str = list(load_graph(platform.workspace.root).pending)
    except Refusal as error:
        pending = str(error)
    return {"busy": busy, "last_run": last, "pending": pending, "idle": _idle(platform.environment),
        "models": _models(platform), "releases": _releases(platform)}  # fmt: skip


def _idle(environment: Environment) -> list[str]:
    """Why nothing runs by itself, where there is a Prefect server that could start something."""
    if environment.prefect_api_url is None:
        return []
    from flows.deploy import idle

    try:
        return idle.reasons(environment)
    except Refusal as error:
        return [str(error)]


def _models(platform: Platform) -> dict[str, Any]:
    uri = redact(platform.tracking_uri)
    if not tracking.exists(platform):
        return {"tracking": uri, "versions": 0, "numbers": [], "aliases": {}}
    try:
        client = tracking.connect(platform, patient=False)
        with tracking.answering(uri):
            versions = client.search_model_versions(f"name = '{tracking.MODEL}'")
            found = client.search_registered_models(f"name = '{tracking.MODEL}'")
    except Refusal as error:
        return {"tracking": uri, "error": str(error)}
    aliases = {name: int(number) for model in found for name, number in model.aliases.items()}
    numbers = sorted(int(one.version) for one in versions)
    return {"tracking": uri, "versions": len(numbers), "numbers": numbers, "aliases": aliases}


def _releases(platform: Platform) -> dict[str, Any]:
    try:
        now = standing(platform)
    except Refusal as error:
        return {"error": str(error)}
    states = {release.version: release for release in now.releases}
    return {
        alias: {"version": number, "state": states[number].state, "approved_by": states[number].approved_by}
        for alias, number in now.aliases.items()
    }


def show(now: dict[str, Any]) -> int:
    """Print the state."""
    out = console()
    if now["busy"]:
        out.print(f"busy: process {now['busy']['pid']} ({now['busy']['command']}) since {now['busy']['since']}")
    last = now["last_run"]
    if last is None:
        out.print("last run: none yet; start with `needledrop retrain`")
    else:
        out.print(f"last run: {last['id']} {last['state']}, started {last['started']}")
        for stage in last["stages"]:
            out.print(
                f"  {stage['name']:<22} {stage['outcome']:<9} {stage['seconds']:>7.1f} s  {stage['report']}",
                markup=False,
            )
        if last.get("verdict"):
            why = f": {last['refusal']}" if last.get("refusal") else ""
            out.print(f"  gate: {last['verdict']}{why}", markup=False)
        if last.get("error"):
            out.print(f"  error: {last['error']}", markup=False)
    pending = now["pending"]
    if isinstance(pending, str):
        out.print(f"stages:   {pending}", markup=False)
    else:
        out.print(f"stages:   {'all up to date' if not pending else 'out of date: ' + ', '.join(pending)}")
    models = now["models"]
    out.print(f"models:   {models['tracking']}", markup=False)
    if "error" in models:
        out.print(f"  {models['error']}", markup=False)
    elif not models["versions"]:
        out.print("  none registered")
    else:
        out.print(f"  {models['versions']} version{'s' if models['versions'] > 1 else ''}")
    _show_releases(out, now["releases"], models.get("aliases", {}), models.get("numbers"))
    for words in now["idle"]:
        out.print(f"note:     {words}", markup=False)
    return OK


def _show_releases(out: Console, releases: dict[str, Any], shown: dict[str, int], numbers: list[int] | None) -> None:
    if "error" in releases:
        out.print(f"releases: {releases['error']}", markup=False)
        return
    for alias, held in releases.items():
        by = f", approved by {held['approved_by']}" if held["approved_by"] else ""
        state = "" if held["state"] == alias else f", {held['state'].replace('_', ' ')}"
        out.print(f"  {alias:<10} version {held['version']}{state}{by}", markup=False)
    if shown and not releases:
        held = ", ".join(f"{alias} version {number}" for alias, number in sorted(shown.items()))
        out.print(f"  no releases in the ledger; MLflow shows {held}: `needledrop register` enters what the files hold")
        return
    ledger = {alias: held["version"] for alias, held in releases.items()}
    gone = [] if numbers is None else [alias for alias, number in ledger.items() if number not in numbers]
    for alias in gone:
        back = alias == CHAMPION and PREVIOUS in ledger and PREVIOUS not in gone
        way = ", or `needledrop rollback --by YOU --reason WHY`" if back else ""
        way += (
            ", or `needledrop register` enters what the files hold anew"
            if alias == CHALLENGER
            else f", or `needledrop retire {ledger[alias]} --by YOU --reason WHY` ends it in the open"
        )
        said = f"{alias}, version {ledger[alias]}, is gone from MLflow: bring it back from the backup of its store{way}"
        out.print(f"  {said}", markup=False, soft_wrap=True)
    behind = [alias for alias in ALIASES if alias not in gone and shown.get(alias) != ledger.get(alias)]
    if behind and shown:  # a kill came between the ledger and MLflow
        out.print(f"  MLflow shows another {', '.join(behind)}: `needledrop release show` brings it up to date")
