"""The digest of code: what it follows, what changes it, and that it is the same in every place and Python."""

import ast
import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.code import CARRIERS, DISTRIBUTIONS, OURS, code_digest, covered, packages, tree_digest

ROOT = Path(__file__).parent.parent

# What each kept result is bound to; a file whose code must count, and one whose code must not.
KEPT = {
    "checkpoint": ("components.training.run:train", "encoder/losses.py", "evaluation/metrics.py"),
    "music features": ("components.features.music:music_features", "features/harmony.py", "features/colour.py"),
    "video features": ("components.features.video:video_features", "features/colour.py", "features/harmony.py"),
    "text features": ("components.features.text:text_features", "features/text.py", "features/harmony.py"),
    "hub features": ("components.features.hf.extractor:Hf", "features/hf/pixels.py", "features/harmony.py"),
    "probe": ("components.tagging.probe:_fitted", "tagging/logistic.py", "tagging/nets.py"),
    "probe's tags": ("components.tagging.probe:ProbeTagger", "tagging/logistic.py", "tagging/nets.py"),
    "a CNN's tags": ("components.tagging.cnn:Cnn", "tagging/nets.py", "tagging/logistic.py"),
    "windows": ("components.tagging.audio:AudioTagger", "tagging/sound.py", "tagging/nets.py"),
    "CLAP's tags": ("components.tagging.clap:Clap", "tagging/clap.py", "tagging/hf.py"),
    "captions": ("components.captioning.analogy:Analogy", "captioning/quality.py", "captioning/engine.py"),
    "completions": ("components.captioning.bloom:LocalModel", "captioning/decoding.py", "captioning/quality.py"),
    "templates": ("components.captioning.data2text:Data2Text", "captioning/prompt.py", "captioning/quality.py"),
    "findings": ("components.ingest.examine:examine", "ingest/scan.py", "ingest/splits.py"),
    "demo": ("components.corpus.render:render_video", "corpus/synth.py", "corpus/sentences.py"),
}


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / "components" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def copy_of_components(root: Path) -> Path:
    shutil.copytree(ROOT / "components", root / "components", ignore=shutil.ignore_patterns("__pycache__"))
    return root


def other_constants(path: Path) -> None:
    """Change a constant or add a statement in every function of a file, as an edit of a formula would."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body.append(ast.parse("assert 1 + 1").body[0])
    path.write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")


def without_words(path: Path) -> None:
    """Take comments, docstrings and formatting out of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if isinstance(body, list):
                kept = [
                    one
                    for one in body
                    if not (isinstance(one, ast.Expr) and isinstance(getattr(one.value, "value", None), str))
                ]
                setattr(node, name, kept or body)
    path.write_text(ast.unparse(tree) + "\n# the end\n", encoding="utf-8")


FILES = {
    "__init__.py": '"""All."""\n',
    "a/__init__.py": "",
    "a/entry.py": (
        "import numpy as np\n"
        "import yaml\n"
        "from typing import TYPE_CHECKING\n"
        "from components import near\n"
        "from components.far import LIMIT, unused\n"
        "if TYPE_CHECKING:\n"
        "    from components.typed import Given\n"
        "SCALE = 2 * LIMIT\n"
        "def result(given: 'Given') -> float:\n"
        '    """Say."""\n'
        "    from components.inner import deep\n"
        "    return near.step(deep(given.value())) * SCALE * np.ones(1)[0]\n"
        "def apart():\n"
        "    return unused()\n"
        "if __name__ == '__main__':\n"
        "    result(1)\n"
    ),
    "near.py": "from components.far import moved as step\ndef other(): return 1\n",
    "far.py": "LIMIT = 3\ndef moved(x): return _half(x)\ndef _half(x): return x / 2\ndef unused(): return 4\n",
    "inner.py": "import importlib\nNAME = 'table.csv'\ndef deep(x): return importlib.import_module('components.named').f(x, NAME)\n",
    "table.csv": "1,2\n",
    "other.csv": "3\n",
    "named.py": "def f(x, y): return x\n",
    "typed.py": "import torch\nclass Given:\n    def value(self): return torch.ones(1)\nclass Other: pass\n",
    "unseen.py": "import scipy\n",
}


@pytest.mark.parametrize(
    ("file", "old", "new", "counts"),
    [
        ("a/entry.py", "2 * LIMIT", "4 * LIMIT", True),
        ("a/entry.py", "* SCALE", "* SCALE * 1", True),
        ("a/entry.py", "Say.", "Say more.", False),
        ("a/entry.py", "    return near", "    # why\n    return (near", None),
        ("a/entry.py", "    return unused()", "    return 5", False),
        ("a/entry.py", "    result(1)", "    result(2)", False),
        ("a/entry.py", "import numpy as np", "import math as np", True),
        ("a/entry.py", "import yaml", "import json", False),
        ("near.py", "return 1", "return 2", False),
        ("near.py", "moved as step", "unused as step", True),
        ("far.py", "x / 2", "x / 4", True),  # through a name that only passes through near.py
        ("far.py", "return 4", "return 5", False),
        ("far.py", "LIMIT = 3", "LIMIT = 4", True),
        ("far.py", "LIMIT = 3", "LIMIT = 4; LIMIT = 3", True),
        ("inner.py", "deep(x): return", "deep(x): return 0 or", True),
        ("named.py", "return x", "return y", True),  # imported by its name as a string
        ("typed.py", "torch.ones(1)", "torch.ones(2)", True),  # a method of what comes in, by its annotation
        ("typed.py", "class Other: pass", "class Other: x = 1", False),
        ("a/__init__.py", "", "LEVEL = 1\n", False),
        ("a/__init__.py", "", "from components import unseen\nunseen.scipy.seterr()\n", True),  # run by the import
        ("table.csv", "1,2", "1,3", True),
        ("other.csv", "3", "4", False),
        ("unseen.py", "import scipy", "import scipy\nX = 1", False),
        ("named.py", "def f(x, y): return x", "def f(x, y):\n    return (\n        x\n    )", False),
    ],
)
def test_what_an_entry_reaches_counts_and_nothing_else(
    tmp_path: Path, file: str, old: str, new: str, counts: bool | None
) -> None:
    root = write(tmp_path, FILES)
    before = code_digest("components.a.entry:result", root=root)
    path = root / "components" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1) if old else new)
    if counts is None:  # a broken file
        with pytest.raises(ValueError, match=rf"{path}, line \d+: cannot be parsed"):
            code_digest("components.a.entry:result", root=root)
    else:
        assert (code_digest("components.a.entry:result", root=root) != before) == counts


def test_the_order_of_definitions_does_not_matter(tmp_path: Path) -> None:
    before = code_digest("components.a.entry:result", root=write(tmp_path / "1", FILES))
    turned = "".join(f"{line}\n" for line in reversed(FILES["far.py"].splitlines()))
    assert code_digest("components.a.entry:result", root=write(tmp_path / "2", FILES | {"far.py": turned})) == before


def test_covered_names_what_counts(tmp_path: Path) -> None:
    root = write(tmp_path, FILES)
    assert covered("components.a.entry:result", root=root) == [
        "components.a.entry:SCALE", "components.a.entry:result", "components.far:LIMIT", "components.far:_half",
        "components.far:moved", "components.inner/table.csv", "components.inner:NAME", "components.inner:deep",
        "components.named:f", "components.typed:Given",
    ]  # fmt: skip
    whole = covered("components.a.entry", root=root)
    assert {"components.a.entry:apart", "components.far:unused", "components.a.entry:__main__"} <= set(whole)
    without = covered("components.a.entry:result", without=["components.inner", "components.far"], root=root)
    assert without == ["components.a.entry:SCALE", "components.a.entry:result", "components.typed:Given"]


def test_packages_are_those_that_are_used_by_their_versions(tmp_path: Path) -> None:
    root = write(tmp_path, FILES)
    used = packages("components.a.entry:result", root=root)
    assert set(used) == {"numpy", "torch"}, "yaml carries values, scipy is not reached"
    assert used["numpy"] == ".".join(importlib.metadata.version("numpy").split(".")[:2])
    write(root, {"named.py": "import no_such_package\ndef f(x, y): return no_such_package.g(x)\n"})
    assert packages("components.a.entry:result", root=root)["no_such_package"] == "none"


def test_an_entry_that_is_not_there_is_named(tmp_path: Path) -> None:
    root = write(tmp_path, FILES)
    with pytest.raises(ValueError, match=r"components\.gone: no such module in "):
        code_digest("components.gone", root=root)
    with pytest.raises(ValueError, match=r"components\.far:gone: no such name in "):
        code_digest("components.far:gone", root=root)
    write(root, {"far.py": "from . import near\n"})
    with pytest.raises(ValueError, match=r"far\.py, line 1: relative and star imports cannot be followed"):
        code_digest("components.near:step", root=root)


def test_words_change_no_digest_of_the_project(tmp_path: Path) -> None:
    root = copy_of_components(tmp_path)
    before = {entry: code_digest(entry, root=root) for entry, _, _ in KEPT.values()}
    whole = tree_digest("components", root)
    assert before == {entry: code_digest(entry) for entry, _, _ in KEPT.values()}, "the place must not matter"
    for path in (root / "components").rglob("*.py"):
        without_words(path)
    assert {entry: code_digest(entry, root=root) for entry, _, _ in KEPT.values()} == before
    assert tree_digest("components", root) == whole


def test_every_kept_result_follows_its_own_code_and_no_other(tmp_path: Path) -> None:
    root = copy_of_components(tmp_path)
    before = {entry: code_digest(entry, root=root) for entry, _, _ in KEPT.values()}
    for what, (entry, own, other) in KEPT.items():
        for file, counts in ((own, True), (other, False)):
            path = root / "components" / file
            text = path.read_text()
            other_constants(path)
            assert (code_digest(entry, root=root) != before[entry]) == counts, f"{what}: {file}"
            path.write_text(text)


def test_a_package_counts_whole(tmp_path: Path) -> None:
    root = copy_of_components(tmp_path)
    before = tree_digest("components", root)
    (root / "components" / "__pycache__").mkdir()
    (root / "components" / "__pycache__" / "x.pyc").write_bytes(b"1")
    (root / "components" / ".x.swp").write_bytes(b"1")
    assert tree_digest("components", root) == before
    for file in ("taxonomy.yaml", "corpus/world.yaml", "pages/style.css", "training/loop.py"):
        path = root / "components" / file
        text = path.read_text()
        path.write_text(text + ("\nMORE = 1\n" if path.suffix == ".py" else "\n/* more */\n"))
        assert tree_digest("components", root) != before, file
        path.write_text(text)


def other_pythons() -> list[Path]:
    """Interpreters of the other versions on this machine, one each."""
    found: dict[str, Path] = {}
    named = [shutil.which(f"python3.{minor}") for minor in (11, 12, 13)]
    places = [*(Path(path) for path in named if path), *Path.home().glob(".pyenv/versions/3.1[123]*/bin/python")]
    for path in places:
        done = subprocess.run([path, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.strip() != str(sys.version_info[:2]):
            found.setdefault(done.stdout.strip(), path)
    return list(found.values())


@pytest.mark.skipif(not other_pythons(), reason="no other version of Python from 3.11 to 3.13 on this machine")
def test_every_python_gives_the_same_digest() -> None:
    entries = sorted({entry for entry, _, _ in KEPT.values()})
    ours = [tree_digest("components"), *(code_digest(entry, packages=False) for entry in entries)]
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from components.code import code_digest, tree_digest\n"
        "print(tree_digest('components'), *(code_digest(name, packages=False) for name in sys.argv[2:]), sep='\\n')\n"
    )
    for python in other_pythons():
        done = subprocess.run([python, "-I", "-c", script, ROOT, *entries], capture_output=True, text=True)
        assert done.stdout.split() == ours, f"{python}: {done.stderr}"


def test_nothing_that_is_followed_is_imported_and_the_digest_comes_soon() -> None:
    script = (
        "import sys\n"
        "from components.code import code_digest\n"
        "code_digest('components.training.run:train')\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'numpy', 'pydantic'}))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_package_that_components_import_is_known_by_its_installed_name() -> None:
    optional = {"accelerate", "bitsandbytes"}
    for path in (ROOT / "components").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for name in {name.partition(".")[0] for name in names} - {*OURS, *sys.stdlib_module_names} - CARRIERS:
                if name not in optional:
                    assert importlib.metadata.version(DISTRIBUTIONS.get(name, name)), f"{path} imports {name}"
