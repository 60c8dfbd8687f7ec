"""The wheel has every file of its packages, and is used where there is no checkout."""

import json
import shutil
import subprocess
import zipfile
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, Installed, make_environment, tracked

PACKAGES = ("components", "flows")

# What the code reads from beside itself, read the way the code does.
LOADS = """
import json
from pathlib import Path
import components, flows
from components.corpus.world import read_world
from components.taxonomy import read_taxonomy
from flows.drift.settings import read_settings as read_drift
from flows.gate.settings import read_settings as read_gate

ours, here = Path(components.__file__).parent, Path.cwd()
taxonomy, world = read_taxonomy(ours / "taxonomy.yaml"), read_world(ours / "corpus" / "world.yaml")
read_gate(here), read_drift(here)
print(json.dumps([str(ours.parent), str(Path(flows.__file__).parents[1])]))
"""

# The weights of mini-BLOOM are a folder of transformers like any other.
CAPTIONS = """
from pathlib import Path
import components
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = Path(components.__file__).parent / "captioning" / "mini_bloom" / "weights"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
shown = [("jazz", "calm", "piano"), ("techno", "dark", "flute"), ("folk", "happy", "harp")]
prompt = "".join(
    f"[Input]: GENRES: {g} (82.6%); MOODS: {m} (46.8%); INSTRUMENTS: {i} (81.9%)\\n[Output]: A {m} {g} tune with {i}.\\n"
    for g, m, i in shown
)
prompt += "[Input]: GENRES: rock (82.6%); MOODS: sad (46.8%); INSTRUMENTS: guitar (81.9%)\\n[Output]:"
asked = tokenizer(prompt, return_tensors="pt")
answer = model.generate(**asked, max_new_tokens=24, do_sample=False)[0, asked["input_ids"].shape[1] :]
print(tokenizer.decode(answer).splitlines()[0].strip())
"""


def test_the_wheel_has_every_tracked_file_of_its_packages_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        about = {name.partition("/")[2] for name in archive.namelist() if ".dist-info/" in name}
        (metadata,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
    assert names == {str(path) for path in tracked(*PACKAGES, "needledrop.py")}
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert "licenses/LICENSE" in about
    assert "Requires-Python: <3.14,>=3.11" in metadata and "License-Expression: Apache-2.0" in metadata


def test_settings_taxonomy_and_world_are_read_from_the_installed_packages(installed: Installed, tmp_path: Path) -> None:
    done = installed.run("python", "-c", LOADS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [str(installed.site)] * 2


def test_mini_bloom_completes_an_analogy_from_the_installed_weights(installed: Installed, tmp_path: Path) -> None:
    done = installed.run("python", "-c", CAPTIONS, cwd=tmp_path, HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert "rock" in done.stdout and "guitar" in done.stdout, done.stdout


@pytest.mark.parametrize("words", [["--help"], ["recommend", "--help"], ["retrain", "--help"]])
def test_commands_explain_themselves_anywhere(installed: Installed, tmp_path: Path, words: list[str]) -> None:
    done = installed.run("needledrop", *words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: needledrop")


def test_outside_of_a_workspace_a_command_says_so(installed: Installed, tmp_path: Path) -> None:
    done = installed.run("needledrop", "plan", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: no dvc.yaml in {tmp_path} or above: run from a Needledrop project\n"


def test_a_graph_without_its_code_is_no_workspace(installed: Installed, tmp_path: Path) -> None:
    for name in ("params.yaml", "dvc.yaml", ".dvc/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    for command in ("plan", "retrain"):
        done = installed.run("needledrop", command, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        name = "components/corpus/world.yaml"
        assert done.stderr.endswith(
            f"error: dvc.yaml names {name}, which is not in {tmp_path}: a workspace is a clone of the project\n"
        )
    report = json.loads(installed.run("needledrop", "doctor", "--json", cwd=tmp_path).stdout)
    assert {"name": "code", "ok": True, "found": str(installed.site)} in report["checks"]


def test_a_checkout_is_planned_by_the_installed_command(installed: Installed, tmp_path: Path) -> None:
    """A workspace is a checkout, as dvc.yaml names code; the command may be the wheel's."""
    for file in tracked("components", "params.yaml", "dvc.yaml", ".dvc", ".dvcignore"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, tmp_path / file)
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    done = installed.run("needledrop", "plan", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {stage["name"] for stage in json.loads(done.stdout)["stages"]} >= {"corpus", "training", "indexing"}

    def code() -> dict[str, object]:
        report = json.loads(installed.run("needledrop", "doctor", "--json", cwd=tmp_path).stdout)
        (row,) = (check for check in report["checks"] if check["name"] == "code")
        return row  # type: ignore[no-any-return]

    assert code() == {"name": "code", "ok": True, "found": f"{installed.site}, as in this workspace"}
    changed = tmp_path / "components" / "features" / "harmony.py"
    changed.write_text(changed.read_text() + "\nMORE = 1\n")
    assert code() == {
        "name": "code", "ok": False,
        "found": f"{installed.site} differs from the stages' code, this workspace's: components/features/harmony.py",
    }  # fmt: skip


# -- beside another package of the same name ------------------------------------------------------


@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.parametrize("kind", ["package", "folder", "module"])
def test_another_package_that_comes_first_is_named(installed: Installed, tmp_path: Path, name: str, kind: str) -> None:
    other = tmp_path / "other" / name
    other.mkdir(parents=True)
    if kind == "package":
        (other / "__init__.py").write_text("raise SystemExit('ran')\n")
    elif kind == "module":
        other.rmdir()
        other = other.with_suffix(".py")
        other.write_text("raise SystemExit('ran')\n")
    done = installed.run("needledrop", "--help", cwd=tmp_path, PYTHONPATH=str(tmp_path / "other"))
    if kind == "folder":  # a folder without code is no package where there is a real one
        assert done.returncode == 0
        return
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: the package `{name}` comes from {other}, Needledrop's lies in {installed.site / name}: "
        "take the other one off PYTHONPATH, or install Needledrop into an environment of its own\n"
    )


def make_wheel(folder: Path, files: dict[str, str]) -> Path:
    """A wheel of another project with these files."""
    about = "other-1.0.dist-info"
    content = files | {
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: other\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        name: urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b"=").decode() for name, text in content.items()
    }
    record = "".join(f"{name},sha256={digests[name]},{len(text)}\n" for name, text in content.items())
    path = folder / "other-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in content.items():
            archive.writestr(name, text)
        archive.writestr(f"{about}/RECORD", record + f"{about}/RECORD,,\n")
    return path


def test_another_wheel_with_a_package_of_that_name_is_told(wheel: Path, tmp_path: Path) -> None:
    environment = make_environment(tmp_path / "venv")
    environment.install(wheel)
    ours = environment.site / "components" / "settings.py"
    apart = "install Needledrop into an environment of its own\n"

    # Beside ours, without a file in common: nothing of ours has changed.
    environment.install(make_wheel(tmp_path, {"components/button.py": "", "button/__init__.py": ""}))
    assert environment.run("needledrop", "--help", cwd=tmp_path).returncode == 0
    environment.uninstall("other")

    environment.install(make_wheel(tmp_path, {"components/settings.py": "raise SystemExit('ran')\n"}))
    done = environment.run("needledrop", "--help", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == f"error: {ours} of Needledrop was overwritten by other, which has a package `components` too: {apart}"
    )

    environment.uninstall("other")
    done = environment.run("needledrop", "--help", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {ours} of Needledrop is gone: {apart}"
