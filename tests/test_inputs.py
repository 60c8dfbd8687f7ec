"""What a stage reads is what DVC notes: an edit of its code or params while it runs is an error, by plain `dvc repro` too."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SHARED = ("__init__.py", "inputs.py", "settings.py", "stage.py")
GRAPH = """
stages:
  toy:
    cmd: python -m components.toy --rows rows.txt
    deps: [components/toy, components/stage.py]
    params: [toy]
    outs:
      - rows.txt: {persist: true}
"""
MAIN = """
from pathlib import Path
from components import stage
from components.settings import Section, read_section

class Toy(Section):
    steps: int

def main():
    args = stage.arguments(None, "rows")
    steps = read_section(Toy, "toy").steps
    for line in Path("meanwhile.py").read_text().split("---"):
        exec(line)
    from components.toy.late import name
    with stage.atomic_file(args.rows) as part:
        part.write_text(f"{steps} {name}")

if __name__ == "__main__":
    stage.run(main)
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    from dvc.repo import Repo

    Repo.init(str(tmp_path), no_scm=True).close()
    (tmp_path / "components/toy").mkdir(parents=True)
    (tmp_path / "components/other").mkdir()
    for name in SHARED:
        shutil.copy(ROOT / "components" / name, tmp_path / "components")
    files = {
        "components/toy/__init__.py": "", "components/toy/__main__.py": MAIN, "components/toy/late.py": "name = 'a'",
        "components/other/__init__.py": "", "dvc.yaml": GRAPH, "params.yaml": "toy: {steps: 40}\nother: {rate: 1}\n",
        "meanwhile.py": "",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def run(workspace: Path, meanwhile: str, *command: str) -> "subprocess.CompletedProcess[str]":
    """Run the stage, or `command`, with what happens between its reading of params and of its own late module."""
    (workspace / "meanwhile.py").write_text(meanwhile)
    return subprocess.run(
        command or (sys.executable, "-m", "components.toy", "--rows", "rows.txt"),
        cwd=workspace,
        env=os.environ
        | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(workspace)},
        capture_output=True,
        text=True,
        check=False,
    )


EDIT = "Path('params.yaml').write_text('toy: {steps: 999}')"


def test_dvc_notes_nothing_of_a_stage_whose_params_were_edited_while_it_ran(workspace: Path) -> None:
    done = run(workspace, EDIT, "dvc", "repro")
    assert done.returncode != 0, "that what ran had 40 steps is known to nobody now"
    assert (
        "error: params.yaml was edited while this stage ran" in done.stderr and "(toy.steps: 40 -> 999)" in done.stderr
    )
    assert not (workspace / "dvc.lock").exists()
    assert run(workspace, "", "dvc", "repro").returncode == 0
    lock = yaml.safe_load((workspace / "dvc.lock").read_text())["stages"]["toy"]
    assert lock["params"]["params.yaml"] == {"toy": {"steps": 999}}
    assert (workspace / "rows.txt").read_text() == "999 a"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ("Path('params.yaml').write_text('toy: {steps: ')", "params.yaml was edited while this stage ran"),
        ("Path('components/toy/late.py').write_text('name = 99')", "components/toy/late.py was edited while this"),
        ("Path('components/toy/new.py').write_text('')", "components/toy/new.py was edited while this stage ran"),
        ("Path('components/toy/__init__.py').unlink()", "components/toy/__init__.py was edited while this stage ran"),
        ("Path('components/stage.py').touch()", "components/stage.py was edited while this stage ran"),
    ],
)
def test_what_was_edited_is_named_and_no_row_is_kept_under_another_codes_name(
    workspace: Path, edit: str, words: str
) -> None:
    done = run(workspace, edit)
    assert done.returncode == 1 and f"error: {words}" in done.stderr and "Traceback" not in done.stderr
    assert "params" in words or not (workspace / "rows.txt").exists()


def test_code_that_was_put_back_may_have_run_and_a_value_that_was_put_back_has_not(workspace: Path) -> None:
    write = "Path('components/toy/late.py').write_text(\"name = '{}'\")"
    done = run(workspace, f"{write.format('b')}---import components.toy.late---{write.format('a')}")
    assert done.returncode == 1 and "components/toy/late.py was edited while this stage ran" in done.stderr
    done = run(workspace, f"{EDIT}---Path('params.yaml').write_text('toy: {{steps: 40}}')")
    assert (done.returncode, (workspace / "rows.txt").read_text()) == (0, "40 a"), done.stderr


def test_what_a_stage_does_not_read_may_be_edited(workspace: Path) -> None:
    others = (
        "Path('params.yaml').write_text('toy: {steps: 40}\\nother: {rate: 2}')",
        "Path('components/other/__init__.py').write_text('x = 1')",
        "Path('components/toy/.late.py.swp').write_text('')",
    )
    done = run(workspace, "---".join(others))
    assert done.returncode == 0, done.stderr
