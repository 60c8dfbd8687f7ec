"""Files and folders that are written whole or not at all, also beside what a killed process has left."""

import os
import subprocess
from pathlib import Path

from components.stage import atomic_file, atomic_folder


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
