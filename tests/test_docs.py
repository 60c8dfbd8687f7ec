"""What the documents tell people to type works."""

import re
from pathlib import Path

import pytest
import yaml

from components.params import check
from components.settings import read_params

ROOT = Path(__file__).parent.parent
EXAMPLES = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "how-to.md").read_text(encoding="utf-8"), flags=re.S)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_section_shown_is_accepted(example: str) -> None:
    check(read_params(ROOT / "params.yaml") | yaml.safe_load(example))


def test_the_tree_in_the_readme_names_what_is_there() -> None:
    tree = (ROOT / "README.md").read_text(encoding="utf-8").split("## What is where")[1].split("```")[1]
    named = set(re.findall(r"\b([a-z_]+(?:/|\.py|\.yaml))", tree))
    components = {f"{path.name}/" for path in (ROOT / "components").iterdir() if (path / "__init__.py").exists()}
    shared = {path.name for path in (ROOT / "components").glob("*.py")} - {"__init__.py"}
    assert components | shared <= named
    there = {
        path.name + ("/" if path.is_dir() else "")
        for folder in (ROOT, ROOT / "components", ROOT / "flows")
        for path in folder.iterdir()
    }
    assert named - there <= {"pipeline/"}
