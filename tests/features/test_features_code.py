"""Rows are kept while the code that makes them is the same: of each modality its own, and words do not count."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.code import covered
from components.features.compute import update_features
from components.features.extractor import build_extractor
from components.features.params import EmbeddedParams
from components.features.source import Source
from components.modalities import MODALITIES, Modality
from components.store import FeatureStore, spec_digest
from tests.traced import ran

ROOT = Path(__file__).parents[2]
UPDATE = """
import json
from pathlib import Path
from components.features.compute import update_features
from components.features.extractor import build_extractor
from components.features.params import FeaturesParams
from components.features.source import Source
from components.settings import read_section

section = read_section(FeaturesParams, "features").model_copy(update={"workers": 1})
said = {}
for modality, rows in json.loads(Path("sources.json").read_text()).items():
    sources = [Source(**row) for row in rows]
    said[modality] = str(update_features(sources, build_extractor(section, modality), Path(modality), 4))
print(json.dumps(said))
"""


@pytest.mark.parametrize("modality", MODALITIES)
def test_all_that_makes_a_row_is_covered(section: EmbeddedParams, clips: list[Path], modality: Modality) -> None:
    source = Source("c", "k", uri=str(clips[0]), end_s=2.0, text="Warm acoustic folk.")
    others = [f"components.features.{other}" for other in MODALITIES if other != modality]
    listed = covered("components.features.embedded:_extract_chunk", without=others)
    from components.features.embedded import _extract_chunk

    used = ran(lambda: _extract_chunk([source], section, modality), listed)
    assert f"components.features.{modality}:{modality}_features" in used
    assert used <= set(listed)


class Copy:
    """A copy of the code, and stores that its features stage makes of small files."""

    def __init__(self, root: Path, clips: list[Path]) -> None:
        self.root = root
        shutil.copytree(ROOT / "components", root / "components", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "params.yaml", root)
        media = [{"clip_id": f"c{at}", "key": f"{at}", "uri": str(path), "end_s": 2.0} for at, path in enumerate(clips)]
        texts = [{"clip_id": f"c{at}", "key": f"{at}", "text": f"Folk number {at}."} for at in range(len(clips))]
        (root / "sources.json").write_text(json.dumps({"video": media, "music": media, "text": texts}))

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.root / "components" / file
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))

    def run(self) -> dict[str, str]:
        """Bring each modality's store up to date in a process of its own; return what it says of the rows."""
        environment = os.environ | {"PYTHONPATH": str(self.root)}
        done = subprocess.run(
            [sys.executable, "-c", UPDATE], cwd=self.root, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        said: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
        return said

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for name in MODALITIES for path in sorted((self.root / name).iterdir())}


def test_an_edit_of_harmony_makes_rows_of_music_anew_and_no_others_and_a_comment_none(
    clips: list[Path], tmp_path: Path
) -> None:
    copy = Copy(tmp_path, clips[:3])
    new = "3 rows, 3 computed, 0 kept, 0 dropped, 0 quarantined"
    kept = "3 rows, 0 computed, 3 kept, 0 dropped, 0 quarantined"
    assert copy.run() == dict.fromkeys(MODALITIES, new)
    before = copy.files()
    copy.edit("features/harmony.py", "# How well each", "# A comment.\n# How well each")
    copy.edit("tables.py", 'pa.field("tag_digest", _S, nullable=False),', 'pa.field("tag_digest", _S),')
    assert copy.run() == dict.fromkeys(MODALITIES, kept)
    assert copy.files() == before
    copy.edit("features/harmony.py", "_BASS = 24", "_BASS = 12")
    assert copy.run() == {"video": kept, "text": kept, "music": new}
    changed = {name for name, data in copy.files().items() if data != before[name]}
    assert {Path(name).parent.name for name in changed} == {"music"}


def test_other_packages_make_rows_anew_but_define_no_other_features(
    section: EmbeddedParams, clips: list[Path], tmp_path: Path
) -> None:
    extractor = build_extractor(section, "music")
    sources = [Source("c", "k", uri=str(clips[0]), end_s=2.0)]
    update_features(sources, extractor, tmp_path / "store", 4)
    assert set(extractor.spec()["packages"]) == {"av", "numpy", "torch"}
    digest = FeatureStore.open(tmp_path / "store").digest

    head = json.loads((tmp_path / "store" / "spec.json").read_text())
    head["spec"]["packages"]["numpy"] = "1.0"
    (tmp_path / "store" / "spec.json").write_text(json.dumps(head))
    assert FeatureStore.open(tmp_path / "store").digest == digest == spec_digest(extractor.spec())
    report = update_features(sources, extractor, tmp_path / "store", 4)
    assert (report.computed, report.kept) == (1, 0)
