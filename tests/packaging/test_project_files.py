"""What is said in several places about versions is the same everywhere."""

import json
import re
import tomllib
from typing import Any

import pytest
import yaml

from flows.commands.doctor import PYTHONS
from tests.packaging.conftest import DOCKERFILE, ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)
KNOWN = [f"3.{minor}" for minor in range(PYTHONS[0][1], PYTHONS[1][1] + 1)]
"""The Python versions that the project is made for."""


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def test_every_place_names_the_same_python_versions() -> None:
    project = PROJECT["project"]
    assert project["requires-python"] == f">={KNOWN[0]},<3.{PYTHONS[1][1] + 1}"
    classifiers = [word.rpartition(" ")[2] for word in project["classifiers"] if re.search(r":: 3\.\d+$", word)]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert classifiers == workflow["jobs"]["checks"]["strategy"]["matrix"]["python"] == KNOWN
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert " ".join(f"python{version}" for version in reversed(KNOWN)) + " python3" in makefile
    assert f"{PYTHONS[0]} <= sys.version_info[:2] <= {PYTHONS[1]}" in makefile
    assert re.search(rf"^FROM python:({'|'.join(KNOWN)})\.\d+-", DOCKERFILE, flags=re.M)
    # What the oldest one cannot do is not written.
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{KNOWN[0].replace('.', '')}"
    assert PROJECT["tool"]["mypy"]["python_version"] == KNOWN[0]


def test_the_workflow_runs_the_script_of_ci_and_nothing_else() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    typed = [step["run"] for step in workflow["jobs"]["checks"]["steps"] if "run" in step]
    assert typed == [".ci/run"]


def test_a_commit_is_checked_by_what_make_lint_runs() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    entries = {hook["entry"].removeprefix(".venv/bin/").replace(" --force-exclude", "") for hook in hooks}
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nlint:")[1].split("\n\n")[0]
    assert {words.removesuffix(" .") for words in re.findall(r"\$\(BIN\)/(.*)", recipe)} <= entries


def test_every_package_asked_for_is_pinned() -> None:
    extras = PROJECT["project"]["optional-dependencies"].values()
    asked = {name for names in (PROJECT["project"]["dependencies"], *extras) for name in names}
    assert {plain(name) for name in asked} <= {plain(name) for name in PINS}


def plain(name: str) -> str:
    """A package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()


@pytest.mark.parametrize("name", ["fastapi", "SQLAlchemy", "pandas"])
def test_versions_known_to_break_are_refused_with_a_reason(name: str) -> None:
    rules = json.loads((ROOT / "renovate.json").read_text(encoding="utf-8"))["packageRules"]
    (rule,) = (rule for rule in rules if name.lower() in rule.get("matchPackageNames", ()))
    limit = rule["allowedVersions"].removeprefix("<")
    assert numbers(PINS[name]) < numbers(limit) and rule["description"]


def test_torch_is_moved_by_hand() -> None:
    rules = json.loads((ROOT / "renovate.json").read_text(encoding="utf-8"))["packageRules"]
    assert [rule["enabled"] for rule in rules if "torch" in rule.get("matchPackageNames", ())] == [False]


def test_the_citation_and_the_licence_are_of_this_release() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = PROJECT["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"] == "Apache-2.0"
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2306.09327"
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n" in licence and "END OF TERMS AND CONDITIONS" in licence
