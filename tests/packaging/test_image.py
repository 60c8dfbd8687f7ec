"""infra/worker.Dockerfile without a container engine: its installation, run in an empty environment."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.conftest import DOCKERFILE, ROOT, copy_as_the_image_does

PIP = re.compile(r"^RUN (pip install .*)$", flags=re.M)
COMMAND = re.search(r"^CMD \[(.*)\]$", DOCKERFILE, flags=re.M)


def test_only_the_steps_for_debian_are_not_run_here() -> None:
    steps = re.findall(r"^RUN (\S+)", DOCKERFILE, flags=re.M)
    assert steps == ["apt-get", "pip"], "a step that test_the_installation_of_the_image_works does not run"


@pytest.mark.stack  # some minutes, only to install
@pytest.mark.timeout(3600)
def test_the_installation_of_the_image_works(tmp_path: Path) -> None:
    """The steps as they stand in the file, in the folder that the file fills, with this Python."""
    app, work, bin = copy_as_the_image_does(tmp_path / "app"), tmp_path / "work", tmp_path / "venv" / "bin"
    work.mkdir()
    subprocess.run([sys.executable, "-m", "venv", str(bin.parent)], check=True)
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = kept | {"PATH": f"{bin}{os.pathsep}{os.defpath}", "HOME": str(work), "COLUMNS": "200"}

    def run(*words: str, cwd: Path = work) -> str:
        done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    for step in PIP.findall(DOCKERFILE):
        run("sh", "-c", step, cwd=app)
    run("pip", "check")
    shutil.rmtree(app)

    entry = ("sh", str(ROOT / "infra" / "mlflow-auth-entry.sh"))
    assert run(*entry, "needledrop", "--help").startswith("usage: needledrop")
    places = run("python", "-c", "import components, flows; print(components.__file__, flows.__file__)").split()
    assert all(place.startswith(str(bin.parent)) for place in places)
    assert COMMAND
    words = [word.strip(' "') for word in COMMAND.group(1).split(",")]
    assert (bin / words[0]).is_file()
    run(*words[:3], "--help")
    for program in ("mlflow", "prefect", "dvc"):
        run(program, "--version")
    # What the servers of the compose file import.
    run("python", "-c", "import asyncpg, flask_wtf, prefect_redis.messaging, psycopg2")
