"""The wheel, made from what the worker's image copies, and an environment that has it and not this folder."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "infra" / "worker.Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
_PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


def tracked(*paths: str) -> list[Path]:
    """Files below these paths that belong to the project, from its root; a release without git has no others."""
    if (ROOT / ".git").exists():
        asked = ("ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "--", *paths)
        said = subprocess.run(["git", *asked], cwd=ROOT, capture_output=True, text=True, check=True)
        return [Path(line) for line in said.stdout.splitlines() if (ROOT / line).is_file()]
    found = [file for path in paths for file in ((ROOT / path).rglob("*") if (ROOT / path).is_dir() else [ROOT / path])]
    return [file.relative_to(ROOT) for file in found if file.is_file() and file.suffix != ".pyc"]


def copied() -> dict[str, str]:
    """What the image copies into the folder that it installs from, by where it comes from."""
    lines = [line.split()[1:] for line in re.findall(r"^COPY .*$", DOCKERFILE, flags=re.M)]
    return {source: target for *sources, target in lines for source in sources if not target.startswith("/")}


def copy_as_the_image_does(folder: Path) -> Path:
    """Copy into `folder` what the image copies; return it."""
    for source, target in copied().items():
        for file in tracked(source):
            to = (
                folder / target / file.name if (ROOT / source).is_file() else folder / target / file.relative_to(source)
            )
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, to)
    return folder


@dataclass(frozen=True)
class Installed:
    """An environment in which the wheel is installed, beside the libraries of the one that runs the tests."""

    bin: Path
    site: Path

    def install(self, wheel: Path) -> None:
        """Install a wheel as pip does, without what it needs."""
        python = str(self.bin / "python")
        subprocess.run([*_PIP, "--python", python, "install", "--no-deps", "--no-index", str(wheel)], check=True)

    def uninstall(self, name: str) -> None:
        """Remove a distribution as pip does."""
        subprocess.run([*_PIP, "--python", str(self.bin / "python"), "uninstall", "--yes", name], check=True)

    def run(self, *words: str, cwd: Path, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of the environment; nothing of ours is on Python's path but what is installed."""
        ours = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        there = {"PATH": f"{self.bin}{os.pathsep}{ours['PATH']}", "COLUMNS": "200"} | more
        command = [str(self.bin / words[0]), *words[1:]]
        return subprocess.run(command, cwd=cwd, env=ours | there, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel."""
    source = copy_as_the_image_does(tmp_path_factory.mktemp("source"))
    out = tmp_path_factory.mktemp("wheel")
    build = ("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out), str(source))
    subprocess.run([*_PIP, *build], check=True)
    (made,) = out.glob("needledrop-*.whl")
    return made


def make_environment(folder: Path) -> Installed:
    """Make an environment that sees the libraries of this one, but not what an editable install adds to it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    paths = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    # Their .pth files are not read: that is what hides this folder.
    (site / "libraries.pth").write_text("\n".join(sorted(paths)) + "\n")
    return Installed(folder / "bin", site)


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An environment with the wheel in it."""
    environment = make_environment(tmp_path_factory.mktemp("environment") / "venv")
    environment.install(wheel)
    return environment
