"""Every target that the documents and CI name does something, and one thing."""

import re
import subprocess
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
    for path in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / ".ci" / "run",
        *sorted((ROOT / "docs").glob("*.md")),
    ]:
        text = path.read_text(encoding="utf-8")
        named = set(re.findall(r"(?:`|^)make ([a-z-]+)", text, flags=re.M))
        assert named <= set(PHONY), path.name
