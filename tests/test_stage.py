"""Files and folders that are written whole or not at all, also beside what a killed process has left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.stage import atomic_file, atomic_folder, recover_folder

ROOT = Path(__file__).parent.parent


def test_what_a_killed_process_has_left_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    (tmp_path / f".plots.{dead.pid}.part").mkdir()
    (tmp_path / f".a.json.{dead.pid}.part").write_text("half")
    living = tmp_path / f".a.json.{os.getppid()}.part"
    living.write_text("half")
    with atomic_folder(tmp_path / "plots") as folder:
        (folder / "x").write_text("1")
    with atomic_file(tmp_path / "a.json") as part:
        part.write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {living.name, "a.json", "plots"}


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("before")
    try:
        with atomic_file(tmp_path / "a.json") as part:
            part.write_text("after")
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "before")]


REPLACE = """
import sys
from pathlib import Path
from components import stage
from tests.killed import at_every_step

model = Path(sys.argv[1]) / "model"
if sys.argv[2] == "aside":
    stage._exchange = lambda one, other: False  # as on a file system that cannot

def write(text):
    with stage.atomic_folder(model) as part:
        (part / "inner").mkdir()
        for name in ("a", "inner/b"):
            (part / name).write_text(text)

def content():
    names = sorted(str(path.relative_to(model)) for path in model.rglob("*"))
    return names, {path.read_text() for path in model.rglob("*") if path.is_file()}

whole, seen, missing = ["a", "inner", "inner/b"], [], 0
write("old")
for step in at_every_step(lambda: write("new")):
    missing += not model.exists()
    stage.recover_folder(model)
    names, texts = content()
    assert names == whole and texts in ({"old"}, {"new"}), (step, names, texts)
    seen += texts
    stage._cleared.clear()  # as a process that starts now
    write("old")
    assert [path.name for path in model.parent.iterdir()] == ["model"], (step, list(model.parent.iterdir()))
assert content() == (whole, {"new"})
print(seen.count("old"), seen.count("new"), missing)
"""


@pytest.mark.parametrize("way", ["swap", "aside"])
def test_a_folder_is_whole_the_old_or_the_new_whenever_a_kill_strikes(tmp_path: Path, way: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", REPLACE, tmp_path, way], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    old, new, missing = map(int, done.stdout.split())
    assert old > 5 and new > 2 and missing == (0 if way == "swap" else 1)


def test_a_failure_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with atomic_folder(tmp_path / "model") as folder:
        (folder / "a").write_text("old")
    replace = Path.replace

    def refused(self: Path, target: Path) -> Path:
        if self.name.endswith(".part"):
            raise PermissionError("no")
        return replace(self, target)

    monkeypatch.setattr("components.stage._exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(PermissionError), atomic_folder(tmp_path / "model") as folder:
        (folder / "a").write_text("new")
    assert (tmp_path / "model" / "a").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_lies_aside_comes_back_unless_the_new_one_is_there(tmp_path: Path) -> None:
    (tmp_path / ".model.aside").mkdir()
    recover_folder(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    (tmp_path / ".model.aside").mkdir()
    (tmp_path / ".model.aside" / "old").touch()
    recover_folder(tmp_path / "model")
    assert [path.name for path in tmp_path.rglob("*")] == ["model"]
