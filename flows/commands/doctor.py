"""What is installed, reachable and free; what every parameter means. Nothing is changed."""

import contextlib
import os
import shutil
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

from rich.markup import escape

import components
from flows.environment import Environment, redact
from flows.errors import ERROR, OK, USAGE, Refusal
from flows.registry import tracking
from flows.workspace.console import console, table
from flows.workspace.lock import holder
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace, find_workspace

PACKAGES = (
    "av", "boto3", "dvc", "evidently", "faiss-cpu", "fastapi", "great-expectations", "mlflow", "numpy", "pandas",
    "prefect", "pyarrow", "pydantic", "SQLAlchemy", "torch", "transformers",
)  # fmt: skip
EXTRAS = ("dvc-s3",)
PYTHONS = ((3, 11), (3, 13))  # the first and the last that the versions in constraints.txt were tried on
LEAST_DISK_GIB, LEAST_MEMORY_GIB = 5.0, 4.0


def examine() -> dict[str, Any]:
    """Return one line per check: name, ok, what was found."""
    workspace = find_workspace()
    platform = Platform.prepared(workspace)
    environment = platform.environment
    checks = [
        _python(),
        _code(workspace),
        *_packages(),
        _params(workspace),
        _git(workspace),
        _disk(workspace),
        _memory(),
        _check("processors", True, f"{os.cpu_count()}"),
        _device(),
        _lock(workspace),
        _mlflow(platform),
        _prefect(environment),
    ]
    return {
        "workspace": str(workspace.root),
        "ok": all(check["ok"] for check in checks),
        "checks": checks,
        "environment": environment.redacted(),
    }


def _check(name: str, ok: bool, found: str) -> dict[str, Any]:
    return {"name": name, "ok": ok, "found": found}


def _python() -> dict[str, Any]:
    first, last = (".".join(map(str, version)) for version in PYTHONS)
    ok = PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]
    return _check("python", ok, f"{python_version()}, made for {first} to {last}")


def _code(workspace: Workspace) -> dict[str, Any]:
    """Say where this command's code lies; a stage runs the workspace's own, which must be the same."""
    running, own = Path(components.__file__).parent, workspace.root / "components"
    if not own.is_dir() or own.samefile(running):
        return _check("code", True, str(running.parent))
    texts = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.py")} for folder in (running, own)
    ]
    names = [path for path in sorted(texts[0] | texts[1]) if texts[0].get(path) != texts[1].get(path)]
    if not names:
        return _check("code", True, f"{running.parent}, as in this workspace")
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    found = f"{running.parent} differs from the stages' code, this workspace's: components/{names[0]}{more}"
    return _check("code", False, found)


def _packages() -> list[dict[str, Any]]:
    checks = []
    for name in (*PACKAGES, *EXTRAS):
        try:
            checks.append(_check(name, True, version(name)))
        except PackageNotFoundError:
            extra = name in EXTRAS
            checks.append(_check(name, extra, "not installed (optional)" if extra else "not installed"))
    return checks


def _params(workspace: Workspace) -> dict[str, Any]:
    from flows.workspace.begin import check

    try:
        check(workspace)
        return _check("params.yaml", True, "every key is known and in range")
    except Refusal as error:
        return _check("params.yaml", False, str(error))


def _git(workspace: Workspace) -> dict[str, Any]:
    """A version without its commit cannot be made again; a run goes on all the same."""
    from flows.workspace.provenance import commit_problem, git_state

    if problem := commit_problem(workspace.root):
        return _check("git", True, f"versions will not know their commit: {problem}")
    return _check("git", True, f"commit {git_state(workspace.root)[0][:12]}")


def _disk(workspace: Workspace) -> dict[str, Any]:
    free = shutil.disk_usage(workspace.root).free / 2**30
    return _check("disk", free >= LEAST_DISK_GIB, f"{free:.1f} GiB free, {LEAST_DISK_GIB:g} wanted")


def _memory() -> dict[str, Any]:
    import psutil  # type: ignore[import-untyped]

    free = psutil.virtual_memory().available / 2**30
    return _check("memory", free >= LEAST_MEMORY_GIB, f"{free:.1f} GiB available, {LEAST_MEMORY_GIB:g} wanted")


def _device() -> dict[str, Any]:
    try:
        import torch
    except ImportError as error:
        return _check("device", False, f"torch cannot be imported: {error}")
    if torch.cuda.is_available():
        return _check("device", True, f"GPU: {torch.cuda.get_device_name()}")
    return _check("device", True, "CPU (no GPU found)")


def _lock(workspace: Workspace) -> dict[str, Any]:
    busy = holder(workspace)
    return _check("workspace", True, "free" if busy is None else f"busy: process {busy['pid']} since {busy['since']}")


def _mlflow(platform: Platform) -> dict[str, Any]:
    uri = platform.tracking_uri
    if not tracking.exists(platform):
        return _check("MLflow", True, f"{redact(uri)}, made by the first registration")
    try:
        client = tracking.connect(platform, patient=False)
        with tracking.answering(uri):
            client.search_experiments(max_results=1)
        return _check("MLflow", True, f"{redact(uri)} answers")
    except Refusal as error:
        return _check("MLflow", False, str(error))


def _prefect(environment: Environment) -> dict[str, Any]:
    if environment.prefect_api_url is None:
        return _check("Prefect", True, "a temporary server for each run")
    problem = tracking.connection_problem(environment.prefect_api_url)
    found = f"{redact(environment.prefect_api_url)} {'answers' if problem is None else f'does not answer ({problem})'}"
    return _check("Prefect", problem is None, found)


def show(report: dict[str, Any]) -> int:
    """Print the report; exit 1 where something needed is missing."""
    out = console()
    out.print(f"workspace {report['workspace']}", markup=False)
    for check in report["checks"]:
        mark = "[green]ok[/]     " if check["ok"] else "[red]problem[/]"
        out.print(f"  {mark} {check['name']:<20} {escape(check['found'])}")
    out.print("environment")
    for name, value in report["environment"].items():
        out.print(f"  {name:<24} {'not set' if value is None else value}", markup=False)
    return OK if report["ok"] else ERROR


def try_encoders() -> dict[str, Any]:
    """Load each encoder of the features section and embed noise with it; one line per modality."""
    from components.features.params import FeaturesParams
    from components.features.trial import try_encoder
    from components.modalities import MODALITIES
    from components.settings import PARAMS_FILE, ParamsError, read_section

    workspace = find_workspace()
    try:
        params: FeaturesParams = read_section(FeaturesParams, "features", workspace.root / PARAMS_FILE)
    except ParamsError as error:
        raise Refusal(str(error), USAGE) from None
    encoders = []
    # A model's folder may be given relative to the workspace; libraries print where only JSON belongs.
    with contextlib.chdir(workspace.root), contextlib.redirect_stdout(sys.stderr):
        for modality in MODALITIES:
            try:
                encoders.append({"ok": True, **asdict(try_encoder(params, modality))})
            except ValueError as error:
                encoders.append({"ok": False, "modality": modality, "error": str(error)})
    return {"ok": all(encoder["ok"] for encoder in encoders), "kind": params.kind, "encoders": encoders}


def show_encoders(report: dict[str, Any]) -> int:
    """Print what each encoder showed; exit 1 where one cannot be loaded."""
    for encoder in report["encoders"]:
        if not encoder["ok"]:
            print(f"error: {encoder['modality']}: {encoder['error']}", file=sys.stderr, flush=True)
    rows = table("encoder", "model", "dims", "rate", "memory", "device", right=("dims", "rate", "memory"))
    for one in (encoder for encoder in report["encoders"] if encoder["ok"]):
        rate, memory = f"{one['rate']:,.0f} {one['unit']}/s", f"{one['memory_mib']:,.0f} MiB"
        device = f"{one['device']} {one['dtype']}"
        rows.add_row(one["modality"], escape(one["model"]), str(one["dims"]), rate, memory, device)
    console().print(rows)
    return OK if report["ok"] else ERROR


def explain_params() -> list[dict[str, Any]]:
    """Return every key of params.yaml with its meaning."""
    from components.params import explain
    from components.settings import PARAMS_FILE, ParamsError, read_params

    workspace = find_workspace()
    try:
        return explain(read_params(workspace.root / PARAMS_FILE))
    except ParamsError as error:
        raise Refusal(str(error)) from None


def show_params(keys: list[dict[str, Any]]) -> int:
    """Print the keys."""
    rows = table("key", "value", "type and range", "meaning")
    for row in keys:
        value = "" if row["value"] is None else str(row["value"])
        style = "bold" if "." not in row["key"] else ""
        rows.add_row(*map(escape, (row["key"], value, row["type"], row["meaning"])), style=style)
    console().print(rows)
    return OK
