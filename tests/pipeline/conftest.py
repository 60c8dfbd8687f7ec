"""Whole pipelines on a small rendered corpus, each in its own copy of the project."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.errors import INCONCLUSIVE

ROOT = Path(__file__).parent.parent.parent
SMALL: dict[str, dict[str, Any]] = {
    "corpus": {"clips": 30, "seed_clips": 32, "clip_s": 4.0},
    "ingest": {
        "splits": {"seed": 7, "train": 0.5, "val": 0.2, "test": 0.3, "min_train": 8, "min_val": 3, "min_test": 4}
    },
    # Templates: mini-BLOOM has tests of its own, and one below; here it would be most of the time.
    "captioning": {"kind": "data2text", "seed": 1, "max_tags": 4, "synonyms": 0.5},
    "training": {"steps": 30, "warmup_steps": 3, "validate_every": 10, "batch": 16},
    "evaluation": {"resamples": 50},
}


DEPLOYED = """
import sys
from pathlib import Path
from flows.workspace.platform import Platform
from flows.workspace.workspace import find_workspace
workspace = find_workspace()
workspace.prefect_home.mkdir(parents=True)
Platform.prepared(workspace)
from flows.deploy.retrain import retrain
ended = []
for _ in range(int(sys.argv[1])):
    ended.append(retrain(return_state=True))
    Path(sys.argv[2]).unlink(missing_ok=True)
print()
for state in ended:
    print(state.type.value, state.name, state.message)
"""


class Project:
    """A copy of the project in a folder of its own: one workspace."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def environment(self) -> dict[str, str]:
        """Ours, without what would point it at another workspace's servers."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "NEEDLEDROP_"))}
        return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}", "PYTHONPATH": str(self.root)}

    def run(self, *command: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False)
        if expect is not None and done.returncode != expect:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def retrain(self, *options: str, expect: int | None = INCONCLUSIVE) -> subprocess.CompletedProcess[str]:
        """Seven test queries, and a list of ten: the gate cannot tell anything of so small a corpus."""
        return self.run(sys.executable, "-m", "flows.cli", "retrain", *options, expect=expect)

    def deployed(self, times: int, mending: str) -> list[str]:
        """Run the flow that a schedule runs so often, in one process; return its lines, at last how each run ended.

        Args:
            times: how often.
            mending: a file that is taken away after the first.
        """
        done = self.run(sys.executable, "-c", DEPLOYED, str(times), mending)
        return done.stdout.splitlines()

    def lock(self) -> dict[str, Any]:
        """dvc.lock as mappings; the order of its stages is that in which they ended."""
        content: dict[str, Any] = yaml.safe_load((self.root / "dvc.lock").read_text())
        return content

    def adopt(self, other: "Project", *stages: str) -> None:
        """Begin with what these stages have made in another project, so that a test pays for the rest alone.

        DVC's memory of runs stays there: it would put back the results of later stages too.
        """
        made = {name: entry for name, entry in other.lock()["stages"].items() if name in stages}
        assert set(made) == set(stages)
        for entry in made.values():
            for out in entry["outs"]:
                source, target = other.root / out["path"], self.root / out["path"]
                target.parent.mkdir(parents=True, exist_ok=True)
                (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
        shutil.copytree(other.root / ".dvc" / "cache" / "files", self.root / ".dvc" / "cache" / "files")
        (self.root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": made}, sort_keys=False))

    def params(self, **sections: dict[str, Any]) -> None:
        path = self.root / "params.yaml"
        tree = yaml.safe_load(path.read_text())
        for name, keys in sections.items():
            if keys.get("kind", tree[name].get("kind")) != tree[name].get("kind"):
                tree[name] = {key: value for key, value in tree[name].items() if key == "quality"}
            tree[name] |= keys
        path.write_text(yaml.safe_dump(tree, sort_keys=False))


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Project]:
    def make(name: str) -> Project:
        root = tmp_path_factory.mktemp(name)
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout.decode()
        for file in filter(None, listed.split("\0")):
            if (ROOT / file).is_file() and file != "dvc.lock" and not file.startswith("tests/"):
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / file, root / file)
        for command in (
            ["init", "-q"],
            ["add", "-A"],
            ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "copy"],
        ):
            subprocess.run(["git", *command], cwd=root, check=True)
        project = Project(root)
        project.params(**SMALL)
        return project

    return make


@pytest.fixture(scope="session")
def scheduled(make_project: Callable[[str], Project]) -> tuple[Project, list[str]]:
    """A workspace in which a schedule has fired three times, and what was said; the first could not be gated."""
    project = make_project("retrained")
    (project.root / "gate.yaml").write_text("gate: {}\n")
    return project, project.deployed(3, "gate.yaml")


@pytest.fixture(scope="session")
def retrained(scheduled: tuple[Project, list[str]]) -> Project:
    """A workspace in which all was made once, undisturbed."""
    return scheduled[0]


@pytest.fixture(scope="session")
def reproduced(make_project: Callable[[str], Project]) -> Project:
    """A workspace in which plain `dvc repro` has run once, and no flow ever."""
    project = make_project("reproduced")
    project.run("dvc", "repro", "-q")
    return project
