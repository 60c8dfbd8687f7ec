"""Every target that the documents and CI name does something, and one thing."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PHONY = re.search(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.M).group(1).split()  # type: ignore[union-attr]


def test_each_target_has_one_recipe() -> None:
    targets = Counter(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.M))
    assert targets == Counter(PHONY)


@pytest.mark.parametrize("target", PHONY)
def test_a_target_runs_something(target: str) -> None:
    shown = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stderr == ""
    assert len(shown.stdout.split()) > 1


def test_the_documents_name_targets_that_exist() -> None:
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        blocks = "".join(re.findall(r"^```\n(.*?)^```", text, flags=re.M | re.S))
        typed = re.findall(r"^make ([a-z-]+)", blocks, flags=re.M) + re.findall(r"`make ([a-z-]+)`", text)
        assert set(typed) <= set(PHONY), path.name


def test_ci_runs_targets_that_exist() -> None:
    typed = re.findall(r"^timed make ([a-z-]+)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), flags=re.M)
    assert typed == ["lint", "test", "test-stack"] and set(typed) <= set(PHONY)


# -- which Python an environment gets --------------------------------------------------------------


def pretend(path: Path, version: str) -> None:
    """Put a Python of this version there; what it makes an environment of is one like it. "broken" does not start."""
    path.parent.mkdir(parents=True, exist_ok=True)
    said = f"import sys; sys.version_info = ({version.replace('.', ', ')}, 0); "
    path.write_text(
        f"#!/bin/sh\n[ {version} = broken ] && exit 127\n"
        f'if [ "$1" = -c ]; then exec {sys.executable} -c "{said}$2"; fi\n'
        'for folder; do :; done; mkdir -p "$folder/bin"; cp "$0" "$folder/bin/python"\n'
        'printf \'#!/bin/sh\\n\' >"$folder/bin/pip"; chmod +x "$folder/bin/pip"\n'
    )
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A checkout's beginning on a machine without any Python; programs are in bin/."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("cp", "mkdir", "chmod", "touch"):
        (programs / name).symlink_to(str(shutil.which(name)))
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


def make(machine: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [str(shutil.which("make")), *words, ".venv/.ready"]
    return subprocess.run(
        command, cwd=machine, env={"PATH": str(machine / "bin")}, capture_output=True, text=True, check=False
    )


def test_the_newest_python_that_works_is_taken(machine: Path) -> None:
    for name, version in (("3.14", "3.14"), ("3.13", "broken"), ("3.12", "3.12"), ("3.11", "3.11"), ("3", "3.14")):
        pretend(machine / "bin" / f"python{name}", version)
    assert "Creating .venv with Python 3.12 " in make(machine).stdout
    assert (machine / ".venv" / ".ready").exists()


def test_an_environment_keeps_its_python_until_another_is_named(machine: Path) -> None:
    pretend(machine / "bin" / "python3.11", "3.11")
    assert "Creating .venv with Python 3.11 " in make(machine).stdout
    pretend(machine / "bin" / "python3.13", "3.13")
    (machine / ".venv" / ".ready").unlink()
    assert make(machine).stdout == ""
    (machine / ".venv" / ".ready").unlink()
    assert "Creating .venv with Python 3.13 " in make(machine, "PYTHON=python3.13").stdout


@pytest.mark.parametrize("words", [[], ["PYTHON=/opt/python3.10"]])
def test_without_a_python_that_works_make_says_which_are_wanted(machine: Path, words: list[str]) -> None:
    pretend(machine / "bin" / "python3", "3.14")
    done = make(machine, *words)
    assert done.returncode == 2 and not (machine / ".venv").exists()
    tried = "/opt/python3.10" if words else "python3.13 python3.12 python3.11 python3"
    assert done.stderr.startswith(
        f"error: Python 3.11, 3.12 or 3.13 with venv is needed; of {tried} none is one that works.\n"
        "       Install one, or name it: make PYTHON=/path/to/python3.12\n"
    )
